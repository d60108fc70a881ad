"""The live loop: claim, ask, record, score. It knows no provider, no scorer and no notebook: all three are passed in.

Order of what happens to a cell: its key is claimed on disk; the call is sent; the outcome is committed; only then is it
counted, shown and scored. A worker keeps its place until the commit, so at most ``concurrency`` replies can be lost to a
``kill -9``, and every one of them is still claimed and will be named as "maybe paid twice".
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llmops_lab.errors import LabError, ProviderFault, StoreError
from llmops_lab.grids._scoring import Judge, Scoring
from llmops_lab.grids.decide import StopRule
from llmops_lab.grids.loop import quick_handover
from llmops_lab.grids.plan import Plan
from llmops_lab.records import Outcome, Request
from llmops_lab.store._writer import Write
from llmops_lab.store.ledger import Ledger

PENDING, OK, FAILED, CANCELLED = range(4)
GRACE = 2.0
"""Seconds that calls in flight get to come home after a cancel, so that what was paid for is kept."""


class Ask(Protocol):
    """Asks one model until there is an outcome. ``group`` names the provider, which limits and outages are shared by."""

    @property
    def group(self) -> str:
        """Which provider it belongs to."""
        ...

    @property
    def silent(self) -> bool:
        """Nothing has ever come back from that provider."""
        ...

    @property
    def in_flight(self) -> int:
        """Calls that it wants at once, for full batches; 0 where the grid's own number is right."""
        ...

    async def ask(
        self, request: Request, *, on_send: Callable[[], None] | None = None, on_retry: Callable[[ProviderFault], None] | None = None
    ) -> Outcome:
        """The outcome of one question. ``on_send`` is called as each try goes out, ``on_retry`` with its fault before the next."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """What a face shows of a running grid. Counts are of cells; ``eta_s`` None before there is anything to go by."""

    total: int
    ok: int
    failed: int
    reused: int
    scored: int
    unscored: int
    cost_usd: float
    elapsed_s: float
    eta_s: float | None
    state: str


class GridRun:
    """One pass over the cells of a plan that are still open. ``statuses`` holds one code a cell; ``state`` how it stands."""

    def __init__(
        self,
        plan: Plan,
        asks: Sequence[Ask],
        judges: Sequence[Judge],
        ledger: Ledger,
        grid: str,
        *,
        expected: str | None = None,
        concurrency: int = 16,
        order: Sequence[int] | None = None,
        rule: StopRule | None = None,
        redact: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self.plan, self.ledger, self.grid, self.rule = plan, ledger, grid, rule
        self._asks, self._concurrency, self.redact = asks, concurrency, redact
        self._order = order
        self.statuses = bytearray(len(plan))
        self.state = "running"
        self.problem: LabError | None = None
        self.calls = self.reused = self.scored = self.unscored = 0
        self.cost_usd = 0.0
        self._answered = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._committed: deque[tuple[asyncio.Future[None], Exception | None]] = deque()
        self._started = time.monotonic()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._scoring = Scoring(self, judges, expected)

    # -- from any thread ---------------------------------------------------------------------------------------------------
    def cancel(self) -> None:
        """Stop sending; calls in flight get ``GRACE`` seconds."""
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self._stop, "cancelled")
        elif self.state == "running":
            self.state = "cancelled"  # before the loop has come to it: it will find nothing to do

    def progress(self) -> Progress:
        """How it stands now."""
        ok, failed = self.statuses.count(OK), self.statuses.count(FAILED)
        elapsed, new = time.monotonic() - self._started, ok + failed - self.reused
        left = len(self.plan) - ok - failed
        eta = elapsed / new * left if new > 0 and self.state == "running" else None
        return Progress(len(self.plan), ok, failed, self.reused, self.scored, self.unscored, self.cost_usd, elapsed, eta, self.state)

    # -- on the background loop --------------------------------------------------------------------------------------------
    async def go(self, reused: Mapping[int, int]) -> str:
        """Ask for every cell that is not in ``reused`` (cell -> number of its recorded reply), score all; returns the final state."""
        self.loop = asyncio.get_running_loop()
        self._started = time.monotonic()
        self._scoring.start()
        groups: dict[str, list[int]] = {}
        for number, ask in enumerate(self._asks):
            groups.setdefault(ask.group, []).append(number)
        try:
            await self._serve_recorded(reused)
            with quick_handover():
                await asyncio.gather(*(self._run_group(models) for models in groups.values()))
            await self.loop.run_in_executor(None, self._scoring.finish)
        except LabError as error:
            self._fail(error)
        finally:
            self._scoring.close()
            self._settle_state()
        return self.state

    async def _serve_recorded(self, reused: Mapping[int, int]) -> None:
        cells = {number: cell for cell, number in reused.items()}
        self.reused = len(reused)
        for cell in reused:
            self.statuses[cell] = OK
        await asyncio.get_running_loop().run_in_executor(None, self._scoring.add_recorded, cells)

    async def _run_group(self, models: Sequence[int]) -> None:
        """One provider's cells, with its own workers, so that a slow provider holds up no other."""
        todo = deque(self._open_cells(models))
        count = min(max(self._concurrency, *(self._asks[model].in_flight for model in models)), len(todo))
        window = _Window(self, todo, size=max(1, 2 * count))
        workers = [asyncio.ensure_future(self._work(window)) for _ in range(count)]
        self._tasks.update(workers)
        results = await asyncio.gather(*workers, return_exceptions=True)
        unsent = window.unsent()
        if unsent and not isinstance(self.problem, StoreError):
            await self._commit(self.ledger.claims(self.grid, [self.plan.key(cell) for cell in unsent], "release"))
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    def _open_cells(self, models: Sequence[int]) -> Iterable[int]:
        plan = self.plan
        wanted = set(models)
        a_row = plan.repeats * len(plan.variants) * len(plan.targets)
        for row in self._order if self._order is not None else range(len(plan.rows.items)):
            for cell in range(row * a_row, (row + 1) * a_row):
                if self.statuses[cell] == PENDING and cell % len(plan.targets) in wanted:
                    yield cell

    async def _work(self, window: _Window) -> None:
        while self.state == "running":
            cell = await window.next()
            if cell is None:
                return
            place = self.plan.place(cell)
            ask = self._asks[place.model]
            if ask.silent and window.finished >= max(8, self._concurrency):
                return  # nothing has ever come back from this provider: the rest stays open, to be resumed
            await self._one(cell, place.row, ask, window)

    async def _one(self, cell: int, row: int, ask: Ask, window: _Window) -> None:
        key, row_id = self.plan.key(cell), self.plan.rows.ids[row]
        window.sent(cell)
        on_its_way = False

        def sent() -> None:
            nonlocal on_its_way
            if self.state == "cancelled":
                raise asyncio.CancelledError
            on_its_way = True
            self.calls += 1

        def retried(fault: ProviderFault) -> None:
            nonlocal on_its_way
            on_its_way = False
            if fault.in_doubt:
                self.ledger.put([self.ledger.doubts(self.grid, [key], "retried", fault.kind)], _nothing)

        try:
            outcome = await ask.ask(self.plan.request(cell), on_send=sent, on_retry=retried)
        except asyncio.CancelledError:
            self.statuses[cell] = CANCELLED
            if on_its_way:
                self.ledger.put([self.ledger.doubts(self.grid, [key], "lost", "cancelled while in flight")], _nothing)
            else:
                window.unsend(cell)
            raise
        window.finished += 1
        if outcome.status == "skipped":
            window.unsend(cell)
            self._stop("budget")
            return
        self._answered = self._answered or outcome.answered
        outcome = redacted(outcome, self.redact)
        await self._commit(self.ledger.reply(self.grid, key, row_id, outcome))
        self._count(cell, outcome)

    def _count(self, cell: int, outcome: Outcome) -> None:
        self.cost_usd += outcome.cost_usd or 0.0
        if outcome.reply is not None:
            self.statuses[cell] = OK
            self.cost_usd += outcome.reply.cost_usd or 0.0
            self._scoring.add(cell, outcome.reply)
        else:
            self.statuses[cell] = FAILED
            self._scoring.missing(cell)
            if self.rule is not None:
                self.rule_add(cell, None)

    def rule_add(self, cell: int, value: float | None) -> None:
        """Tell the stop rule about a finished cell; runs on the loop."""
        rule = self.rule
        if rule is None:
            return
        at = self.plan.place(cell)
        rule.add(at.row, at.prompt * len(self.plan.targets) + at.model, value)
        if rule.decided and self.state == "running" and PENDING in self.statuses:
            self._stop("decided")

    async def _commit(self, *writes: Write) -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def committed(error: Exception | None) -> None:
            self._committed.append((done, error))
            if len(self._committed) == 1:  # else the loop has been told already and will come to this one too
                loop.call_soon_threadsafe(_resolve_all, self._committed)

        self.ledger.put(writes, committed)
        await done

    def _stop(self, state: str) -> None:
        if self.state != "running":
            return
        self.state = state
        if state == "cancelled" and self.loop is not None:
            self.loop.call_later(GRACE, self._cancel_tasks)

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _fail(self, error: LabError) -> None:
        self.problem, self.state = error, "failed"
        self._cancel_tasks()

    def _settle_state(self) -> None:
        if self.state != "running":
            return
        tried = self.calls > 0
        self.state = "unreachable" if tried and not self._answered else "done"


class _Window:
    """Hands out cells, each only after its claim is on disk; claims are written a window at a time, ahead of need."""

    def __init__(self, run: GridRun, todo: deque[int], size: int) -> None:
        self._run, self._todo, self._size = run, todo, size
        self._ready: deque[int] = deque()
        self._claimed: set[int] = set()
        self._claiming: asyncio.Future[None] | None = None
        self.finished = 0

    async def next(self) -> int | None:
        """The next cell to send, or None when there is none."""
        while True:
            if self._todo and len(self._ready) <= self._size // 2 and self._claiming is None:
                self._claiming = asyncio.ensure_future(self._claim())
                self._claiming.add_done_callback(lambda claim: claim.cancelled() or claim.exception())  # told also when nobody waits
            if self._ready:
                return self._ready.popleft()
            if self._claiming is None:
                return None
            await asyncio.shield(self._claiming)

    async def _claim(self) -> None:
        cells = [self._todo.popleft() for _ in range(min(self._size, len(self._todo)))]
        self._claimed.update(cells)
        try:
            await self._run._commit(self._run.ledger.claims(self._run.grid, [self._run.plan.key(cell) for cell in cells]))
            self._ready.extend(cells)
        finally:
            self._claiming = None

    def sent(self, cell: int) -> None:
        """A cell is about to go out; its claim now stands until an outcome is recorded."""
        self._claimed.discard(cell)

    def unsend(self, cell: int) -> None:
        """It did not go out after all."""
        self._claimed.add(cell)

    def unsent(self) -> list[int]:
        """Cells that were claimed and never sent."""
        return sorted(self._claimed)


def redacted(outcome: Outcome, redact: Callable[[Any], Any]) -> Outcome:
    """The outcome as it is stored and shown: without the secrets in what a provider wrote."""
    if outcome.reply is None:
        return dataclasses.replace(outcome, message=redact(outcome.message))
    reply = outcome.reply
    told = (reply.text, reply.tool_calls, reply.model, reply.finish_reason)
    stored = redact(told)
    if stored == told:
        return outcome
    names = ("text", "tool_calls", "model", "finish_reason")
    return dataclasses.replace(outcome, reply=dataclasses.replace(reply, **dict(zip(names, stored, strict=True))))


def _resolve_all(committed: deque[tuple[asyncio.Future[None], Exception | None]]) -> None:
    while committed:
        done, error = committed.popleft()
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


def _nothing(_: Exception | None) -> None:
    """A doubt that could not be written shows again at the next resume, from its open claim."""
