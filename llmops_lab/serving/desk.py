"""The story of one chat completion: who asks, what, of which release; from the cache or from the model; whole or as a stream."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput, LabError, ProviderFault
from llmops_lab.records import Relayed, Reply, Request
from llmops_lab.serving import http
from llmops_lab.serving.asked import Asked, asked
from llmops_lab.serving.cache import Cache
from llmops_lab.serving.journal import Journal
from llmops_lab.serving.keys import Books, Gate, Holder
from llmops_lab.serving.metrics import Call, Metrics
from llmops_lab.serving.protocol import ApiError, Stream, completion, encode, fault_error, rest_of
from llmops_lab.serving.release import Made, Release, Shelf
from llmops_lab.serving.till import bounded, opened

MOST_IN_FLIGHT = 1024
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
                await self.shelf.leave(visit.release)

    async def _visit(self, visit: _Visit, receive: http.Receive) -> None:
        if self._in_flight > MOST_IN_FLIGHT:
            message = f"{MOST_IN_FLIGHT} requests are being answered. Try again in a moment."
            raise ApiError(503, message, code="overloaded", kind="api_error", retry_after=1.0)
        holder = visit.holder = await self.gate.known(visit.headers)
        if holder is not None:
            visit.call.key_id, visit.call.key_name = holder.key.id, holder.key.name
            holder.count()
        visit.wanted = asked(await http.read_body(receive, visit.headers))
        visit.call.stream = visit.wanted.stream
        release = visit.release = self.shelf.enter(visit.wanted.model)
        visit.call.release, visit.call.version = release.name, release.version
        try:
            request = visit.request = bounded(visit.holder, release.prepare(visit.wanted))
        except BadInput as error:
            raise ApiError(400, str(error), code="bad_request", param="prompt_variables") from None
        with http.cancelled_when_gone(receive):
            await self._answer(visit, release, visit.wanted, request)

    async def _answer(self, visit: _Visit, release: Release, wanted: Asked, request: Request) -> None:
        key = self.cache.key(release, request, visit.headers)
        kept = await self.cache.find(key) if key else None
        visit.call.cache = "hit" if kept else "miss" if key else "off"
        if kept is not None:
            visit.call.reply = kept
            await self._give(visit, release, wanted, kept)
            return
        bill = await opened(self._books, visit.holder, release, request)
        try:
            if wanted.stream:
                reply = await self._ask_streamed(visit, release, wanted, request, bill.made)
            else:
                reply = await release.ask(request)
            visit.call.reply = reply
            bill.paid(reply)
            if key:
                self.cache.keep(key, release, reply)
        except ProviderFault as fault:
            bill.failed(fault)
            raise fault_error(fault) from None
        finally:
            bill.close(self._books, visit.call)
        if not wanted.stream:
            await self._give(visit, release, wanted, reply)

    async def _ask_streamed(self, visit: _Visit, release: Release, wanted: Asked, request: Request, made: Made) -> Reply:
        pieces: asyncio.Queue[list[dict[str, Any]] | None] = asyncio.Queue()

        def take(choices: list[dict[str, Any]]) -> None:
            made.add(choices)
            pieces.put_nowait(choices)

        asking = asyncio.ensure_future(release.ask(request, on_choices=take))

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
        piece: list[dict[str, Any]] | None,
        pieces: asyncio.Queue[list[dict[str, Any]] | None],
        asking: asyncio.Future[Reply],
        wanted: Asked,
    ) -> Reply:
        visit.begun = True
        await visit.send({"type": "http.response.start", "status": 200, "headers": [*_STREAM, *visit.marks]})
        waiting, in_pieces = b"", piece is not None
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
        if not in_pieces:
            waiting = events.whole(reply)
        elif not isinstance(reply, Relayed):
            waiting += events.piece(rest_of(reply))
        await visit.send({"type": "http.response.body", "body": waiting + events.end(reply, include_usage=wanted.include_usage)})
        return reply

    async def _give(self, visit: _Visit, release: Release, wanted: Asked, reply: Reply) -> None:
        if not wanted.stream:
            await http.answer(visit.send, 200, encode(completion(visit.call.id, release.name, reply)), visit.marks)
            return
        visit.call.first_at = time.perf_counter()
        events = Stream(visit.call.id, release.name)
        await visit.send({"type": "http.response.start", "status": 200, "headers": [*_STREAM, *visit.marks]})
        body = events.whole(reply) + events.end(reply, include_usage=wanted.include_usage)
        await visit.send({"type": "http.response.body", "body": body})
