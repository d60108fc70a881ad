"""Queues in an empty ledger, on a SQLite file and on a real PostgreSQL server."""

import pytest

from llmops_lab.api.queue import Queue
from llmops_lab.flows.rate import make_queue
from llmops_lab.ratings.items import Found, Side, Spec
from llmops_lab.ratings.rubric import Rubric
from tests.store.conftest import ledger, opened, place, postgres, postgres_server  # noqa: F401 - fixtures

LEVELS = Rubric("How good is it?", levels={1: "bad", 2: "fair", 3: "good"})


def rows(number, sides=("a",)):
    return [
        Found(f"row-{each}", f"question {each}", {name: [Side("", name, f"reply {each} of {name}")] for name in sides})
        for each in range(number)
    ]


@pytest.fixture
def make(ledger):  # noqa: F811
    """Makes a queue in the ledger."""

    def made(number=6, *, mode="single", sides=("a",), overlap=1, raters=None, seed=0, name="q", limit=None, repeats=0, **more):
        rubric = LEVELS if mode == "single" else Rubric("Which is better?")
        spec = Spec(mode, rubric, tuple(sides), len(raters) if raters else overlap, raters, seed, **more)
        return Queue(ledger, make_queue(ledger, name, spec, rows(number, sides), limit=limit, repeats=repeats))

    return made
