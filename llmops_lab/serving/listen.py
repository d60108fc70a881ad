"""The socket and the process: a port that is taken is refused before anything loads, and SIGTERM lets requests end."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import socket
import time
from collections.abc import Callable
from typing import Any

from llmops_lab.errors import BadInput

GRACE_S = 30
"""So long may requests in flight take to end once the server was told to."""


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
        said = getattr(error, "strerror", None) or error
        raise BadInput(f"{host}:{port} cannot be used: {said}. Name another port with --port; 0 takes any that is free.") from error
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


def run(app: Any, at: socket.socket, *, ready: Callable[[], None]) -> bool:
    """Serve until SIGINT or SIGTERM; then take nothing new in, and let what is in flight end. False when some of it was cut off.

    That is after half a minute, or at a second SIGINT.
    """
    import uvicorn
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    class Protocol(AutoHTTPProtocol):  # type: ignore[valid-type, misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(_Joined(transport))

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
