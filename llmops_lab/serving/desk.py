"""The story of one chat completion: who asks, what, of which release; from the cache or from the model; whole or as a stream."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
import uuid
from dataclasses import dataclass

from llmops_lab.errors import BadInput, LabError, ProviderFault
from llmops_lab.records import Reply, Request, output_limit
from llmops_lab.serving import http
from llmops_lab.serving.cache import Cache
from llmops_lab.serving.journal import Journal
from llmops_lab.serving.keys import Books, Gate, Holder
from llmops_lab.serving.metrics import Call, Metrics
from llmops_lab.serving.protocol import ApiError, Asked, Stream, asked, completion, encode, fault_error
from llmops_lab.serving.release import Release, Shelf
from llmops_lab.store.keys import Entry

MOST_IN_FLIGHT = 1024
BUDGETED_TOKENS = 1024
"""The most tokens of a reply that a key with a budget gets without saying ``max_tokens``: what a call can cost must have an end."""
_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


@dataclass
class _Visit:
    """One request while it is being answered."""

    call: Call
    send: http.Send
    headers: http.Headers
    wanted: Asked | None = None
    holder: Holder | None = None
    release: Release | None = None
    request: Request | None = None
    begun: bool = False

    @property
    def marks(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer: which request, which version, and what the cache did."""
        made = [(b"x-request-id", self.call.id.encode())]
        if self.release is not None:
            made.append((b"x-llmops-lab-release", f"{self.release.name} {self.release.version}".strip().encode("ascii", "replace")))
            made.append((b"x-llmops-lab-cache", self.call.cache.encode()))
        return made


class Desk:
    """Answers chat completions. A caller who reads nothing for ``patience_s`` has gone."""

    def __init__(
        self, shelf: Shelf, gate: Gate, books: Books, cache: Cache, metrics: Metrics, journal: Journal, *, patience_s: float
    ) -> None:
        self.shelf, self.gate, self.metrics, self.journal = shelf, gate, metrics, journal
        self._books, self.cache, self._patience_s = books, cache, patience_s
        self._in_flight = 0

    async def chat(self, scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        """POST /v1/chat/completions."""
        send = http.patient(send, self._patience_s)
        visit = _Visit(Call(f"chatcmpl-{random.getrandbits(128):032x}"), send, http.headers_of(scope))
        self._in_flight += 1
        self.metrics.in_flight.inc()
        try:
            await self._visit(visit, receive)
        except ApiError as error:
            visit.call.status, visit.call.message = error.code, str(error)
            if not visit.begun:
                await http.refuse(send, error, visit.marks)
        except http.Gone:
            visit.call.status = "client_gone"
        except LabError as error:  # of the ledger: the endpoint says the same to the caller
            visit.call.status, visit.call.message = "unavailable", str(error)
            raise
        except BaseException as error:
            cut = isinstance(error, asyncio.CancelledError)  # the server ends, and its patience with this request has
            visit.call.status, visit.call.message = "cut_off" if cut else "internal_error", f"{type(error).__name__}: {error}"
            raise
        finally:
            self._in_flight -= 1
            self.metrics.in_flight.dec()
            self.journal.add(visit.call, visit.release, visit.request)
            if visit.release is not None:
                await visit.release.leave()

    async def _visit(self, visit: _Visit, receive: http.Receive) -> None:
        if self._in_flight > MOST_IN_FLIGHT:
            message = f"{MOST_IN_FLIGHT} requests are being answered. Try again in a moment."
            raise ApiError(503, message, code="overloaded", kind="api_error", retry_after=1.0)
        visit.holder = await self.gate.admit(visit.headers)
        if visit.holder is not None:
            visit.call.key_id, visit.call.key_name = visit.holder.key.id, visit.holder.key.name
        visit.wanted = asked(await http.read_body(receive, visit.headers))
        visit.call.stream = visit.wanted.stream
        release = visit.release = self.shelf.enter(visit.wanted.model)
        visit.call.release, visit.call.version = release.name, release.version
        try:
            request = visit.request = self._bounded(visit.holder, release.prepare(visit.wanted))
        except BadInput as error:
            raise ApiError(400, str(error), code="bad_request", param="prompt_variables") from None
        with http.cancelled_when_gone(receive):
            await self._answer(visit, release, visit.wanted, request)

    def _bounded(self, holder: Holder | None, request: Request) -> Request:
        if holder is None or holder.key.budget_usd is None or output_limit(request.params):
            return request
        return dataclasses.replace(request, params={**request.params, "max_tokens": BUDGETED_TOKENS})

    async def _answer(self, visit: _Visit, release: Release, wanted: Asked, request: Request) -> None:
        key = self.cache.key(release, request, visit.headers)
        kept = await self.cache.find(key) if key else None
        visit.call.cache = "hit" if kept else "miss" if key else "off"
        if kept is not None:
            visit.call.reply = kept
            await self._give(visit, release, wanted, kept)
            return
        hold = await self._hold(visit.holder, release, request)
        spent = hold.usd if hold else 0.0  # what a call that is given up on the way may have cost
        try:
            ask = self._ask_streamed if wanted.stream else self._ask_whole
            reply = visit.call.reply = await ask(visit, release, wanted, request)
            spent = spent if reply.cost_usd is None else reply.cost_usd
            if key:
                self.cache.keep(key, release, reply)
        except ProviderFault as fault:
            spent = fault.cost_usd if fault.cost_usd is not None else spent if fault.in_doubt else 0.0
            raise fault_error(fault) from None
        finally:
            visit.call.cost_usd = spent
            self._settle(visit.holder, hold, spent)
        if not wanted.stream:
            await self._give(visit, release, wanted, reply)

    async def _hold(self, holder: Holder | None, release: Release, request: Request) -> Entry | None:
        if holder is None or holder.key.budget_usd is None:
            return None
        most = release.most_usd(request)
        if most is None:
            message = (
                f"the key {holder.key.name!r} has a budget and nobody knows what {release.name!r} costs, so it cannot be kept. "
                "Whoever runs this server can set a price: [tool.llmops_lab.prices]."
            )
            raise ApiError(403, message, code="price_unknown", kind="insufficient_quota")
        entry = Entry("hold", holder.key.id, uuid.uuid4().hex, most)
        if most > 0 and not await self._books.hold(entry):
            message = (
                f"the key {holder.key.name!r} may spend {holder.key.budget_usd:g} USD, and this request, which may cost "
                f"{most:.2g} USD, might pass that."
            )
            raise ApiError(429, message, code="insufficient_quota", kind="insufficient_quota")
        return entry

    def _settle(self, holder: Holder | None, hold: Entry | None, spent: float) -> None:
        if hold is not None and hold.usd > 0:
            self._books.settle(Entry("settle", hold.api_key, hold.name, spent))
        elif holder is not None and spent > 0:
            self._books.settle(Entry("settle", holder.key.id, "", spent))

    async def _ask_whole(self, visit: _Visit, release: Release, wanted: Asked, request: Request) -> Reply:
        return await release.ask(request)

    async def _ask_streamed(self, visit: _Visit, release: Release, wanted: Asked, request: Request) -> Reply:
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        asking = asyncio.ensure_future(release.ask(request, on_text=pieces.put_nowait))

        def ended(done: asyncio.Future[Reply]) -> None:
            if not done.cancelled():
                done.exception()  # looked at, so that asyncio does not complain where the caller has gone
            pieces.put_nowait(None)

        asking.add_done_callback(ended)
        try:
            first = await pieces.get()
            if first is None:
                asking.result()  # what goes wrong before the first piece is told by the status
            visit.call.first_at = time.perf_counter()
            return await self._pass_on(visit, Stream(visit.call.id, release.name), first, pieces, asking, wanted)
        finally:
            asking.cancel()

    async def _pass_on(
        self,
        visit: _Visit,
        events: Stream,
        piece: str | None,
        pieces: asyncio.Queue[str | None],
        asking: asyncio.Future[Reply],
        wanted: Asked,
    ) -> Reply:
        visit.begun = True
        await visit.send({"type": "http.response.start", "status": 200, "headers": [*_STREAM, *visit.marks]})
        waiting = events.start()
        while piece is not None:
            waiting += events.piece(piece)
            if pieces.empty():
                await visit.send({"type": "http.response.body", "body": waiting, "more_body": True})
                waiting = b""
            piece = await pieces.get()
        try:
            reply = asking.result()
        except ProviderFault as fault:
            await visit.send({"type": "http.response.body", "body": waiting + events.error(fault_error(fault))})
            raise
        await visit.send({"type": "http.response.body", "body": waiting + events.end(reply, include_usage=wanted.include_usage)})
        return reply

    async def _give(self, visit: _Visit, release: Release, wanted: Asked, reply: Reply) -> None:
        if not wanted.stream:
            await http.answer(visit.send, 200, encode(completion(visit.call.id, release.name, reply)), visit.marks)
            return
        visit.call.first_at = time.perf_counter()
        events = Stream(visit.call.id, release.name)
        body = events.start() + (events.piece(reply.text) if reply.text else b"") + events.end(reply, include_usage=wanted.include_usage)
        await visit.send({"type": "http.response.start", "status": 200, "headers": [*_STREAM, *visit.marks]})
        await visit.send({"type": "http.response.body", "body": body})
