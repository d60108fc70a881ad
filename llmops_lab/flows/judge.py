"""A model that judges, as scorers get it: a function from a request to its outcome, with retries, redaction and a record of every call.

All calls of judges of one process are cells of one grid of the ledger called ``judgements``. A call is claimed before it is sent, and
committed before it counts. A reply that is recorded under the same model, parameters and request (without the nonce) is not bought again.
"""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

from llmops_lab.errors import BadInput, Cancelled, ProviderFault
from llmops_lab.grids.loop import submit, waited
from llmops_lab.grids.run import GRACE, redacted
from llmops_lab.models._ask import Asker, Budget, Pool, limits_of, open_model
from llmops_lab.models._provider import Provider, in_flight
from llmops_lab.models._warm import leave, warm
from llmops_lab.records import ModelSpec, Outcome, Request, canonical, digest, output_limit
from llmops_lab.redact import Redactor
from llmops_lab.scorers._judge import Call
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import CellRow, Ledger, open_ledger

NAME = "judgements"
_LINGER_S = 2.0
"""So long a model stays open after its last call: the next one need not connect anew."""
_MOST_AT_ONCE = 64


class JudgeModel:
    """Called from any thread but the background loop's. ``identity`` is model, address and parameters."""

    def __init__(self, spec: ModelSpec, settings: Settings, *, budget: float | None = None) -> None:
        """Opens the model; sends nothing. Raises UnknownName, BadInput or MissingExtra."""
        self._settings, self._spec, self._redact = settings, spec, Redactor()
        provider = open_model(spec.spec, settings)
        self.identity = self._redact(canonical([provider.identity, spec.params]))
        self.model = self._redact(spec.name)
        if budget is not None and (provider.price is None or not output_limit({"max_tokens": 1, **spec.params})):
            raise BadInput(
                f"a budget needs a price of {spec.spec} that is known and a limit on its replies. Set [tool.llmops_lab.prices."
                f"{spec.spec!r}] input = ..., output = ... (USD per million tokens) and max_tokens, or leave the budget out."
            )
        places = max(settings.concurrency, in_flight(provider))
        self._pool = Pool(places, limits_of(spec.spec, provider.pool, settings))
        self.at_once = min(_MOST_AT_ONCE, self._pool.most)
        self._budget = None if budget is None else Budget(budget)
        self._line = _Line(provider, self._pool, settings, self._budget)
        self._turns: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self._guard = threading.Lock()

    def __call__(self, request: Request, *, same: Any = None, row_id: str = "", usable: Callable[[str], bool] | None = None) -> Call:
        """The outcome of one question, from the ledger where a usable reply to the ``same`` is recorded. Raises StoreError."""
        request = Request(request.messages, _given({**request.params, **self._spec.params}), request.schema, request.tools)
        key = self._redact(canonical([self.identity, request if same is None else same]))
        key = digest(["judge", key])
        ledger = open_ledger(self._settings)
        with self._turn(key):
            found = _recorded(ledger, key, usable)
            return Call(key, found, recorded=True) if found else Call(key, self._bought(ledger, request, key, row_id))

    @contextmanager
    def _turn(self, key: str) -> Iterator[None]:
        """One at a time for the same question: whoever comes second finds it answered."""
        with self._guard:
            turn = self._turns.get(key)
            if turn is None:
                turn = self._turns[key] = threading.Lock()
        with turn:
            yield

    def _bought(self, ledger: Ledger, request: Request, key: str, row_id: str) -> Outcome:
        book = _book_of(ledger)
        with book.writing(key, self.model, row_id):
            ledger.settle_doubts(book.grid, [key])
            ledger.write(ledger.claims(book.grid, [key]))
            outcome = self._sent(ledger, book.grid, request, key, row_id)
            if outcome.status == "skipped":
                ledger.write(ledger.claims(book.grid, [key], "release"))
                return outcome
            outcome = redacted(outcome, self._redact.tree)
            ledger.write(ledger.reply(book.grid, key, row_id, outcome))
        return outcome

    def _sent(self, ledger: Ledger, grid: str, request: Request, key: str, row_id: str) -> Outcome:
        way = _Way(lambda fault: ledger.put([ledger.doubts(grid, [key], "retried", fault.kind)], _nothing))
        future = submit(self._line.ask(request, way))
        try:
            return waited(future)
        except (KeyboardInterrupt, Cancelled):
            way.closed = True
            late = _late(future) if way.out else None
            if late is not None:
                ledger.write(ledger.reply(grid, key, row_id, redacted(late, self._redact.tree)))
            elif way.out:
                ledger.write(ledger.doubts(grid, [key], "lost", "cancelled while in flight"))
            else:
                ledger.write(ledger.claims(grid, [key], "release"))
            future.cancel()
            raise


class _Way:
    """Of one call: whether a try is on its way, and whether a further one may go out."""

    def __init__(self, doubted: Callable[[ProviderFault], None]) -> None:
        self.out = self.closed = False
        self._doubted = doubted

    def sent(self) -> None:
        """A try goes out; after a cancel none does."""
        if self.closed:
            raise asyncio.CancelledError
        self.out = True

    def retried(self, fault: ProviderFault) -> None:
        """A try went wrong and another one follows."""
        self.out = False
        if fault.in_doubt:
            self._doubted(fault)


class _Line:
    """An open model on the background loop; closed a while after its last call."""

    def __init__(self, provider: Provider, pool: Pool, settings: Settings, budget: Budget | None) -> None:
        self._provider, self._users = warm(provider), 0
        self._timer: asyncio.TimerHandle | None = None
        self._asker = Asker(self._provider, pool, timeout=settings.timeout, retries=settings.retries, budget=budget, stream=False)
        self._plain = False  # its server has refused a schema

    async def ask(self, request: Request, way: _Way) -> Outcome:
        """One question. A server that refuses a schema is asked without one, now and from then on."""
        self._users += 1
        if self._timer is not None:
            self._timer.cancel()
        tell: dict[str, Any] = {"on_send": way.sent, "on_retry": way.retried}
        try:
            if request.schema is not None and not self._plain:
                outcome = await self._asker.ask(request, **tell)
                if outcome.error != "bad_request":
                    return outcome
                again = await self._asker.ask(_plain(request), **tell)
                self._plain = again.status == "ok"
                return again if self._plain else outcome
            return await self._asker.ask(_plain(request), **tell)
        finally:
            self._users -= 1
            if not self._users:
                self._timer = asyncio.get_running_loop().call_later(_LINGER_S, self._close)

    def _close(self) -> None:
        if not self._users:
            self._closing = asyncio.ensure_future(leave(self._provider))


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _plain(request: Request) -> Request:
    return Request(request.messages, request.params, None, request.tools)


class _Book:
    """The judges' calls of one process in one ledger: a grid that grows. It counts as running while a call is out."""

    def __init__(self, ledger: Ledger) -> None:
        self.grid, self._ledger = uuid.uuid4().hex, ledger
        self._next = self._open = 0
        self._lock = threading.Lock()

    @contextmanager
    def writing(self, key: str, model: str, row_id: str) -> Iterator[None]:
        """Record that this call is going to be made; inside it the grid runs."""
        with self._lock:
            cell, self._next, self._open = self._next, self._next + 1, self._open + 1
        self._ledger.begin(self.grid, NAME, _DESCRIPTION, [CellRow(cell, key, "judge", model, row_id, 0)])
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                last = not self._open
            if last:
                self._ledger.end(self.grid, "done")


_DESCRIPTION: dict[str, Any] = {
    **{name: [] for name in ("prompts", "models", "scorers", "judges")},
    **{name: {} for name in ("params", "how")},
    "dataset": {"source": NAME, "digest": "", "rows": 0, "columns": []},
}
_books: dict[tuple[str, int], _Book] = {}


def _book_of(ledger: Ledger) -> _Book:
    return _books.setdefault((ledger.place, os.getpid()), _Book(ledger))


def _recorded(ledger: Ledger, key: str, usable: Callable[[str], bool] | None) -> Outcome | None:
    for _, outcome in ledger.outcomes(list(ledger.answered([key]).values())):
        if outcome.reply is not None and (usable is None or usable(outcome.reply.text)):
            return outcome
    return None


def _late(future: Future[Outcome]) -> Outcome | None:
    # After an interrupt: what was paid for is kept if it comes home soon.
    with suppress(Exception):
        return future.result(GRACE)
    return None


def _nothing(_: Exception | None) -> None:
    """A doubt that could not be written shows again at the next resume, from its open claim."""
