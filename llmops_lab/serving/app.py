"""The endpoints: chat completions (whole and streamed), models, health."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route

from llmops_lab.errors import BadInput, ProviderFault
from llmops_lab.records import Reply
from llmops_lab.serving import http
from llmops_lab.serving.protocol import ApiError, Asked, Stream, asked, completion, encode, fault_error
from llmops_lab.serving.release import Release, Shelf

_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class Endpoint:
    """An ASGI application for one path, which Starlette calls as it is: no request or response objects are made."""

    def __init__(self, handle: Callable[[http.Scope, http.Receive, http.Send], Awaitable[None]]) -> None:
        self._handle = handle

    async def __call__(self, scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        """Answer one request."""
        await self._handle(scope, receive, send)


class Desk:
    """Where requests come in."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def chat(self, scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        """POST /v1/chat/completions."""
        number = f"chatcmpl-{uuid.uuid4().hex}"
        mark = [(b"x-request-id", number.encode())]
        try:
            wanted = asked(await http.read_body(receive, http.headers_of(scope)))
            release = self._shelf.enter(wanted.model)
            try:
                await self._answer(number, wanted, release, receive, send)
            finally:
                await release.leave()
        except ApiError as error:
            await http.refuse(send, error, mark)
        except http.Gone:
            return

    async def _answer(self, number: str, wanted: Asked, release: Release, receive: http.Receive, send: http.Send) -> None:
        try:
            request = release.prepare(wanted)
            with http.cancelled_when_gone(receive):
                if wanted.stream:
                    await self._streamed(number, wanted, release, request, send)
                    return
                reply = await release.ask(request)
        except BadInput as error:
            raise ApiError(400, str(error), code="bad_request", param="prompt_variables") from None
        except ProviderFault as fault:
            raise fault_error(fault) from None
        await http.answer(send, 200, encode(completion(number, release.name, reply)), [(b"x-request-id", number.encode())])

    async def _streamed(self, number: str, wanted: Asked, release: Release, request: Any, send: http.Send) -> None:
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        asking = asyncio.ensure_future(release.ask(request, on_text=pieces.put_nowait))
        asking.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            first = await pieces.get()
            if first is None:
                asking.result()  # what goes wrong before the first piece is told by the status
            await self._send_stream(Stream(number, release.name), wanted, first, pieces, asking, send)
        finally:
            asking.cancel()

    async def _send_stream(
        self,
        events: Stream,
        wanted: Asked,
        first: str | None,
        pieces: asyncio.Queue[str | None],
        asking: asyncio.Future[Reply],
        send: http.Send,
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _STREAM})
        waiting, piece = events.start(), first
        while piece is not None:
            waiting += events.piece(piece)
            if pieces.empty():
                await send({"type": "http.response.body", "body": waiting, "more_body": True})
                waiting = b""
            piece = await pieces.get()
        try:
            waiting += events.end(asking.result(), include_usage=wanted.include_usage)
        except ProviderFault as fault:
            waiting += events.error(fault_error(fault))
        await send({"type": "http.response.body", "body": waiting})

    async def models(self, scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        """GET /v1/models."""
        data = [
            {"id": name, "object": "model", "created": int(release.since), "owned_by": "llmops-lab"}
            for name, release in self._shelf.current.items()
        ]
        await http.answer(send, 200, encode({"object": "list", "data": data}), [])

    async def health(self, scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        """GET /health."""
        await http.answer(send, 200, encode({"status": "ok"}), [])


def make_app(desk: Desk) -> Starlette:
    """The routes, and typed errors for all that is none."""
    routes = [
        Route("/v1/chat/completions", Endpoint(desk.chat), methods=["POST"]),
        Route("/v1/models", Endpoint(desk.models), methods=["GET"]),
        Route("/health", Endpoint(desk.health), methods=["GET"]),
    ]
    return Starlette(routes=routes)
