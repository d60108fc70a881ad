"""Somebody asks to be forgotten whose replies were rated. Judged by the bytes of every file in the ledger's folder."""

import pytest

import llmops_lab as lab
from llmops_lab import settings
from llmops_lab.errors import UnknownName
from llmops_lab.flows.forget import forget_row
from llmops_lab.store import reviews
from llmops_lab.store.ledger import open_ledger
from tests.ratings.conftest import LEVELS

PLANTED = "Maria-Planted-4711"
ROWS = [{"id": f"row-{number}", "q": f"What about {number}?"} for number in range(4)] + [{"id": "row-of-Maria", "q": f"About {PLANTED}?"}]


def holding(home):
    words = (PLANTED.encode(), b"row-of-Maria")
    return [path.name for path in home.rglob("*") if path.is_file() and any(word in path.read_bytes() for word in words)]


@pytest.fixture
def away(monkeypatch):
    """A tracking server that nobody runs, so that everything waits."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


def test_items_ratings_and_what_waits_go_with_the_row(home, away):
    grid = lab.grid({"one": "{{ q }}", "two": "Please: {{ q }}"}, ROWS, models=["echo"], track=False, progress=False)
    make = {"rubric": LEVELS, "repeats": 8, "gold": {("row-of-Maria", "one"): 3}, "name": "tone"}
    queue = lab.rate(grid, **make)
    while (task := queue.next("ann")) is not None:
        queue.submit(item=task["item"], rater="ann", value=2, comment=f"on {task['prompt']}", correction=f"better: {task['prompt']}")
    first = next(item for item, _ in queue.items("ann") if item.startswith("row-of-Maria"))
    queue.adjudicate(item=first, value=1, reason=PLANTED)
    assert queue.to_mlflow().waiting > 0
    before = len(queue.ratings())
    report = forget_row(settings.load(), "row-of-Maria")
    gone = before - len(queue.ratings())
    assert holding(home) == []
    assert 3 <= report.forgotten.ratings == gone <= 4 and f"{gone} ratings of it are gone" in str(report)
    kinds = [kind for _, kind, _ in open_ledger(settings.load()).outbox_pending()]
    assert kinds.count("rating") == 8


def test_a_row_that_only_a_queue_holds_is_forgotten_too_and_the_same_call_opens_the_rest(home, away):
    rows = [{"id": "row-of-Maria", "reply": PLANTED}, {"id": "row-1", "reply": "other"}]
    queue = lab.rate(rows, LEVELS, text="reply", raters=["ann"], gold={"row-of-Maria": 1}, name="tone")
    queue.submit(item="row-of-Maria", rater="ann", value=1)
    forget_row(settings.load(), "row-of-Maria")
    assert holding(home) == []
    again = lab.rate(rows, LEVELS, text="reply", raters=["ann"], gold={"row-of-Maria": 1}, name="tone")
    assert again.items("ann") == [("row-1", "open")]
    with pytest.raises(UnknownName, match="row called 'row-of-Maria'"):
        forget_row(settings.load(), "row-of-Maria")
    assert reviews.names(open_ledger(settings.load())) == ["tone"]


def test_on_postgresql_too(home, away, postgres, monkeypatch):
    url = postgres.database()
    monkeypatch.setenv("LLMOPS_LAB_LEDGER", url)
    rows = [{"id": "row-of-Maria", "reply": PLANTED}, {"id": "row-1", "reply": "other"}]
    queue = lab.rate(rows, LEVELS, text="reply", name="tone")
    queue.submit(item="row-of-Maria", rater="ann", value=1, comment=PLANTED)
    queue.to_mlflow()
    assert PLANTED in postgres.dump(url)
    assert forget_row(settings.load(), "row-of-Maria").forgotten.ratings == 1
    dump = postgres.dump(url)
    assert PLANTED not in dump and "row-of-Maria" not in dump and "row-1" in dump
