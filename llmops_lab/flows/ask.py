"""One question: a prompt is rendered, one model asked, the reply recorded, shown as it comes, and told to MLflow as a trace.

The calls run in the grid engine, so claims, redaction, retries and doubts are those of a grid.
"""

from __future__ import annotations

import dataclasses
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass

from llmops_lab.errors import ProviderFault
from llmops_lab.flows.plan_ask import PlannedAsk, Question, plan_ask, session_of
from llmops_lab.flows.track_ask import queue_traces, tell_traces, track_stopped
from llmops_lab.grids.loop import submit
from llmops_lab.grids.run import GridRun, redacted
from llmops_lab.models._ask import Asker, Pool, limits_of
from llmops_lab.models._warm import leave
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import ModelSpec, Outcome, Request
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import Ledger, open_ledger

WRITING = "writing the trace"
"""What a question does when its reply is on record and only MLflow is still to be told."""
_BEAT = 0.1  # seconds between two looks at what has come: at most ten reports a second


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


def ask(question: Question, settings: Settings, *, progress: Callable[[Partial], None] | None = None) -> list[Asked]:
    """Ask, record, tell MLflow. One ``Asked`` for each repeat, failed ones too.

    ``progress`` is called in this thread, at most ten times a second. An interrupt cancels what is in flight (after a short grace, so
    that what was paid for is kept), records what may have been paid for, and goes on as KeyboardInterrupt. Raises BadInput before
    anything is sent, StoreError when the ledger cannot be written.
    """
    planned, started = plan_ask(question, settings), time.time()
    ledger = open_ledger(settings)
    outcomes = _send(planned, ledger, progress)
    asked = [Asked(each, planned.plan.request(place), question.prompt, question.model) for place, each in enumerate(outcomes)]
    if not question.track:
        return asked
    queued = queue_traces(planned, ledger, outcomes, started)
    if progress is not None:
        progress(Partial(tuple(each.reply.text if each.reply else "" for each in outcomes), WRITING))
    told = tell_traces(planned, ledger, queued)
    return [
        dataclasses.replace(each, trace_id=trace, run_id=run, prompt=told.prompt, latest=told.latest)
        for each, (trace, run) in zip(asked, told.traces, strict=True)
    ]


def _send(planned: PlannedAsk, ledger: Ledger, progress: Callable[[Partial], None] | None) -> list[Outcome]:
    settings, question, session = planned.settings, planned.question, session_of(ledger, planned.settings)
    session.begin(ledger, planned)
    inbox = _Inbox(question.repeats, planned.redact)
    pool = Pool(settings.concurrency, limits_of(question.model.spec, planned.provider.pool, settings))
    asker = Asker(planned.provider, pool, timeout=settings.timeout, retries=settings.retries, budget=None, stream=question.stream)
    listening = _Listening(asker, inbox, stream=question.stream)
    concurrency = min(question.repeats, settings.concurrency)
    run = GridRun(planned.plan, [listening], [], ledger, session.grid, concurrency=concurrency, redact=planned.redact.tree)
    try:
        _wait(run, submit(_pass(planned, run)), inbox, progress)
    except KeyboardInterrupt:
        if question.track:
            track_stopped(planned, ledger, inbox.partial.texts)
        raise
    finally:
        ledger.end(session.grid, "done")
    if run.problem is not None:
        raise run.problem
    return [redacted(listening.outcomes[place], planned.redact.tree) for place in range(question.repeats)]


async def _pass(planned: PlannedAsk, run: GridRun) -> None:
    try:
        await run.go({})
    finally:
        await leave(planned.provider)


def _wait(run: GridRun, future: Future[None], inbox: _Inbox, progress: Callable[[Partial], None] | None) -> None:
    try:
        while not wait([future], _BEAT if progress else None).done:
            if progress is not None and inbox.drain():
                progress(inbox.partial)
    except KeyboardInterrupt:
        run.cancel()
        wait([future])
        if inbox.drain() and progress is not None:
            progress(inbox.partial)
        raise
    future.result()


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
        self.group = asker.group

    async def ask(
        self, request: Request, *, on_send: Callable[[], None] | None = None, on_retry: Callable[[ProviderFault], None] | None = None
    ) -> Outcome:
        """The outcome of one question."""
        place, self._places = self._places, self._places + 1

        def retrying(fault: ProviderFault) -> None:
            self._inbox.put(place, None, f"retrying: {fault.kind}")
            if on_retry is not None:
                on_retry(fault)

        def heard(piece: str) -> None:
            self._inbox.put(place, piece, "asking")

        on_text = heard if self._stream else None
        self.outcomes[place] = await self._asker.ask(request, on_text=on_text, on_send=on_send, on_retry=retrying)
        return self.outcomes[place]
