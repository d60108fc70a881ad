"""One question becomes a plan: the prompt ready to render, the model opened, the key of each call known. Nothing is sent.

All questions of one process are cells of one grid of the ledger called ``asks`` (``lab.load("asks").frame()`` lists them). Each question
has call keys of its own: it is never answered from the ledger, and a grid never takes its replies, or who asks until the answer pleases
would choose what the grid measures.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmops_lab.flows.embedder import ready_to_pick
from llmops_lab.grids.plan import DEFAULT_PARAMS, Plan, Target, Variant
from llmops_lab.grids.rows import Rows
from llmops_lab.models._ask import open_model
from llmops_lab.models._provider import Provider
from llmops_lab.models._warm import warm
from llmops_lab.prompts.diff import title
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import Message, ModelSpec
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import CellRow, Ledger

NAME = "asks"


@dataclass(frozen=True)
class Question:
    """All that one question says. ``params`` win over the prompt's own; ``history`` goes before the prompt's messages."""

    prompt: Prompt
    values: Mapping[str, Any]
    model: ModelSpec
    params: Mapping[str, Any] = field(default_factory=dict)
    repeats: int = 1
    stream: bool = False
    track: bool = True
    history: Sequence[Message] = ()
    thread: str = ""


@dataclass(frozen=True)
class PlannedAsk:
    """A question that can be estimated and sent."""

    question: Question
    settings: Settings
    number: str
    provider: Provider
    plan: Plan
    redact: Redactor


def plan_ask(question: Question, settings: Settings) -> PlannedAsk:
    """Open the model and render the prompt. Raises BadInput, UnknownName or MissingExtra."""
    redact, number = Redactor(), uuid.uuid4().hex
    provider = warm(open_model(question.model.spec, settings))
    prompt = ready_to_pick(question.prompt, settings)

    def render(values: Mapping[str, Any]) -> tuple[Message, ...]:
        return with_history(question.history, prompt.render(values))

    variant = Variant(title(prompt), render, prompt.params, prompt.schema)
    target = Target(question.model.name, f"ask {number} {provider.identity}", {**question.model.params, **question.params})
    rows = Rows([question.values], [f"ask-{number}"], NAME, "")
    plan = Plan([variant], [target], rows, repeats=question.repeats, params=DEFAULT_PARAMS, redact=redact)
    render(question.values)  # says what is wrong in the prompt's own words, without naming a row
    plan.prepare()
    return PlannedAsk(question, settings, number, provider, plan, redact)


def with_history(history: Sequence[Message], messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages of a further turn: one system part, the prompt's own or else that of the turns before, then all turns in order."""
    system = [message for message in messages if message.role == "system"] or [each for each in history if each.role == "system"]
    return (*system, *(each for each in (*history, *messages) if each.role != "system"))


class Session:
    """All questions that this process asks with one ledger and experiment: one grid, numbered on."""

    def __init__(self) -> None:
        self.grid, self._next, self._lock = uuid.uuid4().hex, 0, threading.Lock()

    def begin(self, ledger: Ledger, planned: PlannedAsk) -> None:
        """Record that these cells are going to be asked."""
        plan = planned.plan
        with self._lock:
            first, self._next = self._next, self._next + len(plan)
        prompt, model = plan.variants[0].label, planned.redact(plan.targets[0].label)  # an address may hold a password
        cells = [CellRow(first + cell, plan.key(cell), prompt, model, plan.rows.ids[0], cell) for cell in range(len(plan))]
        ledger.begin(self.grid, NAME, _DESCRIPTION, cells)


_DESCRIPTION: dict[str, Any] = {
    **{name: [] for name in ("prompts", "models", "scorers", "judges")},
    **{name: {} for name in ("params", "how")},
    "dataset": {"source": NAME, "digest": "", "rows": 0, "columns": []},
}
_sessions: dict[tuple[str, str, int], Session] = {}


def session_of(ledger: Ledger, settings: Settings) -> Session:
    """The session of this process; another one after a fork."""
    return _sessions.setdefault((ledger.place, settings.experiment, os.getpid()), Session())
