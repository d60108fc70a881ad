"""HTTP as the endpoints need it: bodies within bounds, JSON answers, event streams, and noticing that the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from llmops_lab.serving.protocol import ApiError, encode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Mapping[bytes, bytes]

MOST_BYTES = 4 * 2**20
"""The largest body that is read."""
DRAINED = 64 * 2**20
"""So much is taken in of a body that is too large or not wanted, so that its sender gets to reading the answer."""
_BODY_S = 30.0


class Gone(Exception):
    """The client hung up."""


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The request's headers, names in lower case; the last of equal names."""
    return dict(scope["headers"])


async def read_body(receive: Receive, headers: Headers) -> bytes:
    """The whole body. Raises ApiError 413 for one that is too large and 408 for one that does not end, Gone when the client went."""
    try:
        async with asyncio.timeout(_BODY_S):
            return await _read(receive, headers)
    except TimeoutError:
        raise ApiError(408, f"the body was not complete within {_BODY_S:g} s.", code="request_timeout") from None


async def _read(receive: Receive, headers: Headers) -> bytes:
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        piece = message.get("body", b"")
        size += len(piece)
        if size <= MOST_BYTES:
            pieces.append(piece)
        if not message.get("more_body"):
            break
        if size > DRAINED:
            break
    if size > MOST_BYTES:  # only now: whoever is still sending would not read the answer
        raise ApiError(413, f"the body has more than {MOST_BYTES:,} bytes.", code="request_too_large")
    return b"".join(pieces)


def patient(send: Send, seconds: float) -> Send:
    """The same ``send``, which raises Gone when the client has read nothing of what came before for so long."""

    async def sent(message: MutableMapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(seconds):
                await send(message)
        except TimeoutError:
            raise Gone from None

    return sent


async def answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]], *, kind: bytes = b"application/json") -> None:
    """One whole answer."""
    length = str(len(body)).encode()
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), (b"content-length", length), *headers]}
    )
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, error: ApiError, headers: list[tuple[bytes, bytes]]) -> None:
    """An error in OpenAI's shape."""
    more = list(headers)
    if error.retry_after is not None:
        more.append((b"retry-after", str(max(1, round(error.retry_after + 0.499))).encode()))
    if error.status == 401:
        more.append((b"www-authenticate", b"Bearer"))
    await answer(send, error.status, encode(error.body), more)


@contextmanager
def cancelled_when_gone(receive: Receive) -> Iterator[None]:
    """Inside it, a client that hangs up cancels what the current task waits for; raises Gone then."""
    task, gone = asyncio.current_task(), False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            continue
        gone = True
        if task is not None:
            task.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone and task is not None:
            task.uncancel()
            raise Gone from None
        raise
    finally:
        watching.cancel()
