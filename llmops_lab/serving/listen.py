"""The socket and the process: a port that is taken is refused before anything loads, and SIGTERM lets requests end."""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import math
import resource
import socket
import time
from collections.abc import Callable
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.serving.http import DRAINED
from llmops_lab.serving.protocol import ApiError, encode

GRACE_S = 30
"""So long may requests in flight take to end once the server was told to."""


HEAD_S = 20.0
"""So long may a request's head take at most; a connection on which none comes is closed."""
_HEAD_BYTES = 64 * 1024
_MOST_CONNECTIONS = 8192
_SPARE = 128  # file descriptors for all that is no connection of a caller


def most_connections() -> int:
    """How many callers may be connected, with a connection upstream each. Raises this process's own limit of open files for them."""
    soft, hard = (math.inf if each == resource.RLIM_INFINITY else each for each in resource.getrlimit(resource.RLIMIT_NOFILE))
    files = max(soft, min(hard, 2 * _MOST_CONNECTIONS + _SPARE))
    if files > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return int(min(_MOST_CONNECTIONS, max(16, (files - _SPARE) // 2)))


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at this address; 0 is any free port. Raises BadInput for one that cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off: an answer in two writes would wait 40 ms for an acknowledgement.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(1024)
    except (OSError, OverflowError) as error:
        made.close()
        said = str(getattr(error, "strerror", None) or error).rstrip(".")
        elsewhere = isinstance(error, socket.gaierror) or getattr(error, "errno", None) == errno.EADDRNOTAVAIL
        hint = "Name an address of this machine with --host" if elsewhere else "Name another port with --port; 0 takes any that is free"
        raise BadInput(f"{host}:{port} cannot be used: {said}. {hint}.") from error
    made.setblocking(False)
    return made


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Joined:
    """A transport that holds an answer's head back until its body comes: in one piece they wake their reader once."""

    def __init__(self, to: asyncio.Transport) -> None:
        self._to, self._head = to, b""
        self._soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        """Send, or keep a head until the next write; no longer than this turn of the event loop."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/"):
            self._head = data
            self._soon(self._flush)
            return
        self._to.write(data)

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._to.write(head)

    def close(self) -> None:
        """Send what waits, and close; a client that does not read it is not waited for without end."""
        self._flush()
        self._to.close()
        if self._to.get_write_buffer_size():
            asyncio.get_running_loop().call_later(GRACE_S, self._to.abort)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)


class _Bounded:
    """What is put before uvicorn's protocol: bounds for the number of connections, and for the time and size of a request's head."""

    connections: set[Any]
    transport: asyncio.Transport
    cycle: Any
    most = _MOST_CONNECTIONS
    head_s = HEAD_S
    _due: asyncio.TimerHandle | None = None
    _size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take a connection in, or turn it away."""
        super().connection_made(_Joined(transport))  # type: ignore[misc]
        if len(self.connections) > self.most:
            self._turn_away(503, "overloaded", f"{self.most} connections are open. Try again in a moment.")
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Read on, unless there is no end to the head."""
        if self.transport.is_closing():
            return
        super().data_received(data)  # type: ignore[misc]
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_head()  # a request has begun: from here on its body has a time limit
            return
        self._size += len(data)
        # Whoever was refused before the body had come still sends it, and would not read an answer that a closed connection cut off.
        rest = self.cycle is not None and self.cycle.more_body
        if rest and self._size > DRAINED:
            self.transport.close()
        elif not rest and self._size > _HEAD_BYTES:
            self._turn_away(431, "headers_too_large", f"the request's head has more than {_HEAD_BYTES:,} bytes.")
        elif self._due is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._forget_head()
        super().connection_lost(exc)  # type: ignore[misc]

    def _await_head(self) -> None:
        self._due = asyncio.get_running_loop().call_later(self.head_s, self.transport.close)

    def _forget_head(self) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due, self._size = None, 0

    def _turn_away(self, status: int, code: str, message: str) -> None:
        self._forget_head()
        error = ApiError(status, message, code=code, kind="api_error" if status == 503 else "invalid_request_error")
        body = encode(error.body)
        head = f"HTTP/1.1 {status} {code}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


def run(app: Any, at: socket.socket, *, head_s: float, ready: Callable[[], None]) -> bool:
    """Serve until SIGINT or SIGTERM; then take nothing new in, and let what is in flight end. False when some of it was cut off.

    That is after half a minute, or at a second SIGINT.
    """
    import uvicorn
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    class Protocol(_Bounded, AutoHTTPProtocol):  # type: ignore[valid-type, misc]
        most = most_connections()

    Protocol.head_s = head_s

    class Server(uvicorn.Server):
        cut_off = False

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            gc.collect()
            gc.freeze()  # what is loaded by now stays: looking through it again and again would hold requests up
            ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            began = time.monotonic()
            await super().shutdown(sockets=sockets)
            self.cut_off = self.force_exit or time.monotonic() - began >= GRACE_S

    config = uvicorn.Config(
        app,
        http=Protocol,
        log_level="critical",
        access_log=False,
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = Server(config)
    try:
        server.run(sockets=[at])
    except KeyboardInterrupt:  # uvicorn raises the signal again once it has ended
        pass
    return not server.cut_off
