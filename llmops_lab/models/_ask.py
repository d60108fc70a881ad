"""Between a question and its outcome: the pool of calls in flight, retries, and the spend cap. Runs on one event loop."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from llmops_lab import plugins
from llmops_lab.errors import BadInput, LabError, ProviderFault
from llmops_lab.models._prices import price_of
from llmops_lab.models._provider import Price, Provider, in_flight
from llmops_lab.records import Outcome, Reply, Request, Turn, Usage, canonical, output_limit
from llmops_lab.settings import Settings

MAX_WAIT = 120.0
"""Seconds; a provider that asks to wait longer than this gets no further try."""
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 30.0
_TOKENS_PER_IMAGE = 2_000


def open_model(spec: str, settings: Settings) -> Provider:
    """The provider of a model spec such as ``tiny`` or ``openai:NAME@BASE_URL``. Sends nothing. Raises UnknownName or BadInput."""
    if not isinstance(spec, str) or not spec.strip():
        raise BadInput(f"a model is named by text such as 'tiny' or 'openai:NAME@BASE_URL', not {spec!r}.")
    name, _, target = spec.strip().partition(":")
    provider: Provider = plugins.find("models", name).connect(target, settings=settings)
    if provider.price is None:
        provider.price = price_of(spec, settings)
    return provider


def limits_of(spec: str, pool: str, settings: Settings) -> Mapping[str, float] | None:
    """What the settings say under a provider's base URL (a slash at its end does not count), else under its name."""
    found = (limits for name, limits in settings.limits.items() if name.rstrip("/") == pool.rstrip("/"))
    return next(found, settings.limits.get(spec.partition(":")[0]))


class Pool:
    """Calls in flight at one provider. Halves on 429 and overload, grows by one for each full round of successes, waits as told."""

    def __init__(self, concurrency: int, limits: Mapping[str, float] | None = None) -> None:
        limits = limits or {}
        self.most = max(1, int(min(concurrency, limits.get("concurrency", concurrency))))
        self.limit = float(self.most)
        self.in_flight = 0
        self.answers = 0
        self.silences = 0
        self._gap = 60.0 / limits["rpm"] if limits.get("rpm") else 0.0
        self._next_start = 0.0
        self._pause_until = 0.0
        self._halved_at = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for a place, for the pause that the provider asked for, and for the gap of a per-minute limit."""
        while self.in_flight >= int(self.limit):
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._wake()  # the place that was offered goes to the next one
                raise
        self.in_flight += 1
        if self._gap or self._pause_until:
            try:
                await self._pace()
            except BaseException:
                self.leave()
                raise

    async def _pace(self) -> None:
        while (wait := max(self._pause_until, self._next_start) - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        self._next_start = max(self._next_start, time.monotonic()) + self._gap if self._gap else 0.0

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
        self._wake()

    def _wake(self) -> None:
        free = int(self.limit) - self.in_flight
        while self._waiting and free > 0:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    def went_well(self) -> None:
        """A good answer: room for a little more."""
        self.answers += 1
        if self.limit < self.most:
            self.limit = min(self.most, self.limit + 1.0 / self.limit)

    def went_wrong(self, fault: ProviderFault, sent: float) -> None:
        """A fault: overload halves the limit, once for all calls that were in flight together. ``sent``: monotonic seconds."""
        if fault.answered:
            self.answers += 1
        else:
            self.silences += 1
        overloaded = fault.kind == "rate_limited" or fault.status in (503, 529)
        now = time.monotonic()
        if overloaded and fault.retryable:
            if sent > self._halved_at:
                self.limit, self._halved_at = max(1.0, self.limit / 2.0), now
            if fault.retry_after:
                self._pause_until = max(self._pause_until, now + min(fault.retry_after, MAX_WAIT))

    @property
    def silent(self) -> bool:
        """Nothing has ever come back, although there was time for several tries."""
        return self.answers == 0 and self.silences > 0


class Budget:
    """A cap in USD. Reserves the most that a call may cost before it is sent, settles with what it did cost."""

    def __init__(self, cap: float) -> None:
        self.cap, self.spent, self.reserved = cap, 0.0, 0.0
        self.stopped = False
        self._settled = asyncio.Event()

    async def reserve(self, amount: float) -> bool:
        """True when the call may go; False when it might pass the cap and no call in flight can free anything."""
        while not self.stopped:
            if self.spent + self.reserved + amount <= self.cap + 1e-12:
                self.reserved += amount
                return True
            if self.reserved <= 1e-15:
                self.stopped = True
                break
            self._settled.clear()
            await self._settled.wait()
        return False

    def reopen(self) -> None:
        """Let a further pass try again what is left of the cap."""
        self.stopped = False

    def settle(self, reserved: float, cost: float) -> None:
        """Replace a reservation by the real cost."""
        self.reserved = max(0.0, self.reserved - reserved)
        self.spent += cost
        self._settled.set()


def most_it_can_cost(request: Request, price: Price, timeout: float) -> float:
    """Upper bound in USD of one try: no token is shorter than a byte, and the reply ends at its limit of tokens."""
    images = sum(part.get("type") != "text" for m in request.messages if not isinstance(m.content, str) for part in m.content)
    reply = output_limit(request.params)
    tokens: float = (price.input or 0.0) * (size_of(request) + images * _TOKENS_PER_IMAGE) + (price.output or 0.0) * reply
    return tokens + (price.gpu_hour or 0.0) * timeout / 3600.0


def size_of(request: Request) -> int:
    """Bytes of all that a model may have to read: texts, calls of tools, tools, and whatever the parameters hold, such as a form."""
    size = sum(len(message.role) + 8 for message in request.messages) + len(request.text.encode("utf-8", "replace"))
    said = [each for each in request.params.values() if isinstance(each, Mapping | list | tuple | str)]
    said += [message.more for message in request.messages if isinstance(message, Turn)]
    return size + sum(len(canonical(each)) for each in (request.schema, *request.tools, *said) if each)


class Asker:
    """Asks one model until there is an outcome: a good reply, or a fault that no further try can cure."""

    def __init__(self, provider: Provider, pool: Pool, *, timeout: float, retries: int, budget: Budget | None, stream: bool) -> None:
        self.provider, self.pool, self.budget = provider, pool, budget
        self._timeout, self._retries, self._stream = timeout, retries, stream
        self.sent = 0

    @property
    def group(self) -> str:
        """Which limits it shares with other models."""
        return self.provider.pool

    @property
    def silent(self) -> bool:
        """Nothing has ever come back from its provider."""
        return self.pool.silent

    @property
    def in_flight(self) -> int:
        """Calls that the provider wants at once, for full batches; 0 where any number is right."""
        return in_flight(self.provider)

    async def ask(
        self,
        request: Request,
        *,
        on_text: Callable[[str], None] | None = None,
        on_send: Callable[[], None] | None = None,
        on_retry: Callable[[ProviderFault], None] | None = None,
    ) -> Outcome:
        """The outcome of one question. Status "skipped" means over budget.

        ``on_send`` is called before each try goes out, and may raise CancelledError to keep it here; ``on_retry`` with every fault
        before the next try.
        """
        on_text = on_text or (_ignore if self._stream else None)
        tries, fault, faults = 0, ProviderFault("bad_request", "no try was made"), list[ProviderFault]()
        while tries <= self._retries:
            tries += 1
            try:
                reply = await self._once(request, on_text, on_send)
            except ProviderFault as problem:
                fault = problem
                faults.append(problem)
            else:
                if reply is None and faults:
                    tries -= 1
                    break  # what was sent before stands; the budget stops the next question
                if reply is None:
                    return Outcome("skipped", None, "budget", "the next call might have passed the spend cap", tries - 1)
                return _with_bill(Outcome("ok", reply, tries=tries), faults)
            if not fault.retryable or tries > self._retries or (fault.retry_after or 0.0) > MAX_WAIT:
                break
            if on_retry is not None:
                on_retry(fault)
            await asyncio.sleep(self._backoff(tries, fault))
        return _with_bill(Outcome("failed", None, fault.kind, str(fault), tries, fault.answered), faults)

    async def _once(self, request: Request, on_text: Callable[[str], None] | None, on_send: Callable[[], None] | None) -> Reply | None:
        price, budget = self.provider.price, self.budget
        await self.pool.enter()
        reserved = spent = 0.0
        try:
            if budget is not None and price is not None:
                reserved = most_it_can_cost(request, price, self._timeout)
                if not await budget.reserve(reserved):
                    reserved = 0.0
                    return None
            if on_send is not None:
                on_send()
            spent = reserved  # what a cancelled or unanswered try may have cost
            self.sent += 1
            started = time.monotonic()
            reply = await self._answer(request, on_text)
            if price is not None and reply.cost_usd is None:
                reply = dataclasses.replace(reply, cost_usd=price.cost(reply.usage, reply.latency_s))
            spent = reserved if reply.cost_usd is None else reply.cost_usd
            self.pool.went_well()
            return reply
        except ProviderFault as fault:
            if price is not None and fault.usage is not None:
                fault.cost_usd = price.cost(Usage(*fault.usage), time.monotonic() - started)
            spent = reserved if fault.in_doubt or may_be_billed(fault) else 0.0
            spent = spent if fault.cost_usd is None else fault.cost_usd
            self.pool.went_wrong(fault, started)
            raise
        finally:
            if budget is not None and reserved:
                budget.settle(reserved, spent)
            self.pool.leave()

    async def _answer(self, request: Request, on_text: Callable[[str], None] | None) -> Reply:
        try:
            return await self.provider.ask(request, timeout=self._timeout, on_text=on_text)
        except LabError:
            raise
        except Exception as error:  # a provider file that breaks its promise fails this call, not the grid
            message = f"the provider of {self.provider.identity} broke: {type(error).__name__}: {error}"
            raise ProviderFault("server_error", message, retryable=False, in_doubt=True) from error

    def _backoff(self, tries: int, fault: ProviderFault) -> float:
        if fault.retry_after is not None:
            return fault.retry_after
        longest: float = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** (tries - 1))
        return random.uniform(longest / 2.0, longest)  # noqa: S311 - jitter, not a secret


def may_be_billed(fault: ProviderFault) -> bool:
    """Whether it was a 200 whose reply is of no use and says nothing of tokens: a cap must hold even if all of it was charged."""
    return fault.answered and fault.status is None and fault.kind in ("empty", "incomplete", "malformed", "content_filter")


def _with_bill(outcome: Outcome, faults: Sequence[ProviderFault]) -> Outcome:
    billed = [fault for fault in faults if fault.usage is not None]
    if not billed:
        return outcome
    given, made = (sum(tokens or 0 for tokens in column) for column in zip(*(fault.usage or () for fault in billed), strict=True))
    costs = [fault.cost_usd for fault in billed if fault.cost_usd is not None]
    return dataclasses.replace(outcome, usage=Usage(given, made), cost_usd=sum(costs) if costs else None)


def _ignore(_: str) -> None:
    """Asking for a stream is what measures the time to the first token."""
