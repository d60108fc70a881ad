"""One question: a prompt is rendered, one model asked, the reply recorded, shown as it comes, and told to MLflow as a trace.

The calls run in the grid engine, so claims, redaction, retries and doubts are those of a grid. All questions of one process are cells of
one grid of the ledger called ``asks`` (``lab.load("asks").frame()`` lists them) and traces of one MLflow run called ``asks``. Each
question has call keys of its own: it is never answered from the ledger, and a grid never takes its replies, or who asks until the
answer pleases would choose what the grid measures.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any

from llmops_lab.errors import LabError, ProviderFault
from llmops_lab.flows.embedder import embedder
from llmops_lab.flows.prompts import library
from llmops_lab.grids.loop import submit
from llmops_lab.grids.plan import Plan, Target, Variant
from llmops_lab.grids.rows import Rows
from llmops_lab.grids.run import GridRun
from llmops_lab.models._ask import Asker, Pool, open_model
from llmops_lab.models._warm import leave, warm
from llmops_lab.prompts.diff import title
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import Estimate, Message, ModelSpec, Outcome, Request, Usage
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import CellRow, Ledger, open_ledger
from llmops_lab.track import outbox, traces

NAME = "asks"
DEFAULT_PARAMS = {"temperature": 0, "max_tokens": 256}
WRITING = "writing the trace"
"""What a question does when its reply is on record and only MLflow is still to be told."""
_BEAT = 0.1  # seconds between two looks at what has come: at most ten reports a second
_CHARACTERS_PER_TOKEN = 4


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
class Partial:
    """How it stands: the text so far of each repeat, redacted, and what goes on (``asking``, ``retrying: ...``, ``writing the trace``)."""

    texts: tuple[str, ...]
    doing: str = "asking"


@dataclass(frozen=True)
class Asked:
    """One call that ended. ``outcome`` is as recorded; ``request`` as sent. ``prompt`` has its version where the library knows this text.

    ``trace_id`` is the trace's id from the start; ``run_id`` is there when MLflow has the trace. ``latest`` is the library's latest version
    under the prompt's name when this text is none of its versions.
    """

    outcome: Outcome
    request: Request
    prompt: Prompt
    model: ModelSpec
    trace_id: str | None = None
    run_id: str | None = None
    latest: Prompt | None = None

    @property
    def cost_usd(self) -> float | None:
        """What all tries cost, those that gave no usable reply too; None when it is not known."""
        reply, billed = self.outcome.reply, self.outcome.cost_usd
        if reply is None or reply.cost_usd is None:
            return None if reply else billed
        return reply.cost_usd + (billed or 0.0)


def ask(question: Question, settings: Settings, *, progress: Callable[[Partial], None] | None = None) -> list[Asked]:
    """Ask, record, tell MLflow. One ``Asked`` for each repeat, failed ones too.

    ``progress`` is called in this thread, at most ten times a second. An interrupt cancels what is in flight (after a short grace, so
    that what was paid for is kept), records what may have been paid for, and goes on as KeyboardInterrupt. Raises BadInput before
    anything is sent.
    """
    asking = Asking(question, settings)
    started = time.time()
    asked = asking.send(progress)
    if not question.track:
        return asked
    if progress is not None:
        progress(Partial(tuple(each.outcome.reply.text if each.outcome.reply else "" for each in asked), WRITING))
    return asking.tell(asked, started)


def estimate(question: Question, settings: Settings) -> tuple[Request, Estimate]:
    """What would be sent, and what it would take. Sends nothing. Raises BadInput."""
    asking = Asking(question, settings)
    request = asking.plan.request(0)
    sent = round(len(request.text) / _CHARACTERS_PER_TOKEN) * question.repeats
    got = int(request.params.get("max_tokens") or 0) * question.repeats
    price = asking.provider.price
    cost = price.cost(Usage(sent, got), None) if price is not None else None
    return request, Estimate(question.repeats, question.repeats, 0, sent, got, cost, None)


class Asking:
    """One question at work."""

    def __init__(self, question: Question, settings: Settings) -> None:
        self.question, self.settings, self.redact = question, settings, Redactor()
        self.id = uuid.uuid4().hex
        self.provider = warm(open_model(question.model.spec, settings))
        prompt = question.prompt
        prompt = prompt.with_embed(embedder(settings)) if prompt.needs_embedder else prompt
        variant = Variant(title(prompt), self._render_with(prompt), prompt.params, prompt.schema)
        params = {**question.model.params, **question.params}
        target = Target(question.model.name, f"ask {self.id} {self.provider.identity}", params)
        rows = Rows([question.values], [f"ask-{self.id}"], NAME, "")
        self.plan = Plan([variant], [target], rows, repeats=question.repeats, params=DEFAULT_PARAMS, redact=self.redact)
        variant.render(question.values)  # says what is wrong in the prompt's own words, without naming a row
        self.plan.prepare()

    def _render_with(self, prompt: Prompt) -> Callable[[Mapping[str, Any]], tuple[Message, ...]]:
        return lambda values: with_history(self.question.history, prompt.render(values))

    def send(self, progress: Callable[[Partial], None] | None) -> list[Asked]:
        """Claim, ask, record. Raises StoreError when the ledger cannot be written, KeyboardInterrupt after recording what is in doubt."""
        ledger = open_ledger(self.settings)
        session = _session(ledger, self.settings)
        places = session.begin(ledger, self)
        inbox = _Inbox(self.question.repeats, self.redact)
        asker = Asker(
            self.provider,
            Pool(self.settings.concurrency, self.settings.limits.get(self.provider.pool)),
            timeout=self.settings.timeout,
            retries=self.settings.retries,
            budget=None,
            stream=self.question.stream,
        )
        listening = _Listening(asker, inbox, stream=self.question.stream)
        run = GridRun(
            self.plan, [listening], [], ledger, session.grid, concurrency=min(places, self.settings.concurrency), redact=self.redact.tree
        )
        try:
            self._wait(run, submit(self._pass(run)), inbox, progress)
        except KeyboardInterrupt:
            self._tell_later(ledger, inbox)
            raise
        finally:
            ledger.end(session.grid, "done")
        if run.problem is not None:
            raise run.problem
        return [self._asked(listening.outcomes[place], place) for place in range(places)]

    async def _pass(self, run: GridRun) -> None:
        try:
            await run.go({})
        finally:
            await leave(self.provider)

    def _wait(self, run: GridRun, future: Future[None], inbox: _Inbox, progress: Callable[[Partial], None] | None) -> None:
        try:
            while not wait([future], _BEAT if progress else None).done:
                if progress is not None and inbox.drain():
                    progress(inbox.partial)
        except KeyboardInterrupt:
            while not wait([future], _BEAT).done:
                run.cancel()
            if inbox.drain() and progress is not None:
                progress(inbox.partial)
            raise
        future.result()

    def _asked(self, outcome: Outcome, place: int) -> Asked:
        recorded = self.redact.tree(outcome.message)
        if outcome.reply is not None:
            calls = self.redact.tree(outcome.reply.tool_calls)
            outcome = dataclasses.replace(
                outcome, reply=dataclasses.replace(outcome.reply, text=self.redact(outcome.reply.text), tool_calls=calls)
            )
        return Asked(dataclasses.replace(outcome, message=recorded), self.plan.request(place), self.question.prompt, self.question.model)

    def tell(self, asked: Sequence[Asked], started: float) -> list[Asked]:
        """Queue a trace for each call and try once to deliver what waits; look up which version of the library was asked."""
        ledger = open_ledger(self.settings)
        numbers = [ledger.outbox_add("ask", self._payload(each, place, started, ledger)) for place, each in enumerate(asked)]
        sent = {ident: remote for ident, remote, _ in outbox.deliver(ledger, self.settings)}
        known = self._placed(asked[0].prompt) if any(sent.get(number) for number in numbers) else (asked[0].prompt, None)
        return [
            dataclasses.replace(
                each, trace_id=traces.trace_id(self._trace(place)), run_id=sent.get(number), prompt=known[0], latest=known[1]
            )
            for place, (each, number) in enumerate(zip(asked, numbers, strict=True))
        ]

    def _placed(self, prompt: Prompt) -> tuple[Prompt, Prompt | None]:
        # Asked only after MLflow has just taken a trace, so that a server that is away is not waited for twice.
        if not prompt.name or prompt.version is not None:
            return prompt, None
        shelf = library(self.settings)
        try:
            same = [info.version for info in shelf.versions(prompt.name) if info.sha256 == prompt.sha256]
            return (dataclasses.replace(prompt, version=min(same)), None) if same else (prompt, shelf.get(prompt.name))
        except LabError:  # not in the library, not a name that it could hold, tampered with: then this text is no version of it
            return prompt, None

    def _tell_later(self, ledger: Ledger, inbox: _Inbox) -> None:
        if not self.question.track:
            return
        cancelled = Outcome("cancelled", None, "cancelled", "stopped while in flight; it may have been paid for")
        for place, text in enumerate(inbox.partial.texts):
            each = self._asked(cancelled, place)
            ledger.outbox_add("ask", {**self._payload(each, place, time.time(), ledger), "output": text or None})

    def _trace(self, place: int) -> str:
        return f"{self.id}-{place}"

    def _payload(self, asked: Asked, place: int, started: float, ledger: Ledger) -> dict[str, Any]:
        outcome, reply, prompt = asked.outcome, asked.outcome.reply, asked.prompt
        session = _session(ledger, self.settings)
        payload = {
            "id": self._trace(place),
            "asks": session.grid,
            "run_name": NAME,
            "name": prompt.name or "prompt",
            "started": started,
            "ended": time.time() if reply is None else started + reply.latency_s,
            "inputs": [{"role": message.role, "content": message.content} for message in asked.request.messages],
            "params": dict(asked.request.params),
            "output": reply.text if reply else None,
            "finish_reason": reply.finish_reason if reply else None,
            "model": asked.model.spec,
            "usage": dataclasses.asdict(reply.usage if reply else outcome.usage),
            "cost_usd": asked.cost_usd,
            "ttft_s": reply.ttft_s if reply else None,
            "status": "ok" if reply else "failed",
            "error": outcome.error,
            "message": outcome.message,
            "prompt": {"name": prompt.name, "version": prompt.version, "sha256": prompt.sha256},
            "session": self.question.thread,
            "experiment": self.settings.experiment,
        }
        redacted: dict[str, Any] = self.redact.tree(payload)
        return redacted


class _Inbox:
    """What the background loop drops in and the caller's thread takes out."""

    def __init__(self, places: int, redact: Redactor) -> None:
        self._queue: queue.SimpleQueue[tuple[int, str | None, str]] = queue.SimpleQueue()
        self._texts, self._redact, self._doing = [""] * places, redact, "asking"

    def put(self, place: int, piece: str | None, doing: str) -> None:
        """A piece of text; None takes back what a failed try had written."""
        self._queue.put((place, piece, doing))

    def drain(self) -> bool:
        """Take in what has come; whether there was anything."""
        news = False
        while not self._queue.empty():
            place, piece, self._doing = self._queue.get()
            self._texts[place] = "" if piece is None else self._texts[place] + piece
            news = True
        return news

    @property
    def partial(self) -> Partial:
        return Partial(tuple(self._redact(text) for text in self._texts), self._doing)


class _Listening:
    """What the grid's loop sees of an asker: it hands on every piece of text and keeps every outcome, in the order of the calls."""

    silent = False
    in_flight = 0

    def __init__(self, asker: Asker, inbox: _Inbox, *, stream: bool) -> None:
        self._asker, self._inbox, self._stream = asker, inbox, stream
        self.outcomes: dict[int, Outcome] = {}
        self._places = 0
        self.group = asker.provider.pool

    async def ask(self, request: Request, *, on_retry: Callable[[ProviderFault], None] | None = None) -> Outcome:
        """The outcome of one question."""
        place, self._places = self._places, self._places + 1

        def retrying(fault: ProviderFault) -> None:
            self._inbox.put(place, None, f"retrying: {fault.kind}")
            if on_retry is not None:
                on_retry(fault)

        def heard(piece: str) -> None:
            self._inbox.put(place, piece, "asking")

        self.outcomes[place] = await self._asker.ask(request, on_text=heard if self._stream else None, on_retry=retrying)
        return self.outcomes[place]


class _Session:
    """All questions that this process asks with one ledger and experiment."""

    def __init__(self) -> None:
        self.grid, self._next, self._lock = uuid.uuid4().hex, 0, threading.Lock()

    def begin(self, ledger: Ledger, asking: Asking) -> int:
        """Record that these cells are going to be asked; returns how many they are."""
        plan = asking.plan
        with self._lock:
            first, self._next = self._next, self._next + len(plan)
        prompt, model = plan.variants[0].label, asking.redact(plan.targets[0].label)  # an address may hold a password
        cells = [CellRow(first + cell, plan.key(cell), prompt, model, plan.rows.ids[0], cell) for cell in range(len(plan))]
        ledger.begin(self.grid, NAME, _DESCRIPTION, cells)
        return len(plan)


_DESCRIPTION: dict[str, Any] = {
    **{name: [] for name in ("prompts", "models", "scorers", "judges")},
    **{name: {} for name in ("params", "how")},
    "dataset": {"source": NAME, "digest": "", "rows": 0, "columns": []},
    "stop": None,
}
_sessions: dict[tuple[str, str, int], _Session] = {}


def _session(ledger: Ledger, settings: Settings) -> _Session:
    return _sessions.setdefault((ledger.place, settings.experiment, os.getpid()), _Session())


def with_history(history: Sequence[Message], messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages of a further turn: one system part, the prompt's own or else that of the turns before, then all turns in order."""
    system = [message for message in messages if message.role == "system"] or [each for each in history if each.role == "system"]
    return (*system, *(each for each in (*history, *messages) if each.role != "system"))
