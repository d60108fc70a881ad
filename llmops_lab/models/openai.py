"""Any server that speaks OpenAI's chat completions: ``openai:NAME@BASE_URL`` (vLLM, Ollama, llama.cpp, LiteLLM proxy, ...).

BASE_URL ends where ``/chat/completions`` is put, most often in ``/v1``; without it the server is OPENAI_BASE_URL, else
api.openai.com. Which key goes where stands in ``remote.keys``. HTTP(S)_PROXY and NO_PROXY are honoured.

One ``ask`` is one try; ``timeout`` is for all of it, from connecting to the last byte. What can go wrong, and how it is told:

| what happened | kind | retryable | answered | in doubt |
|---|---|---|---|---|
| a refusal by status or error object | see ``remote.faults`` | | yes | only inside a begun stream |
| no connection: refused, unknown host, none within 10 s | connection | yes (a bad certificate: no) | no | no |
| reset or closed before the answer | connection | yes | no | yes |
| body cut short | connection | yes | yes | yes |
| no answer, or not all of it, within ``timeout`` | timeout | yes | if it had begun | yes |
| no JSON, HTML, not the format, broken HTTP | malformed | yes | yes | no (in a stream: yes) |
| no choices, null content without tool calls | empty | yes | yes | no |
| no finish reason | incomplete | yes | yes | if a stream was cut |

A stream that breaks after its finish reason is whole: it counts as a reply, with usage missing where that had not come yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
import urllib.request
import weakref
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from llmops_lab.errors import ProviderFault
from llmops_lab.models._prices import price_of
from llmops_lab.models._relay import OnChoices, RelayedStream, each_of, relayed
from llmops_lab.models._wire import StreamedReply, body, decode, encode, reply
from llmops_lab.records import Relayed, Reply, Request
from llmops_lab.redact import MASK
from llmops_lab.remote.faults import refusal, short
from llmops_lab.remote.keys import Endpoint, endpoint, key_for
from llmops_lab.settings import Settings

_CONNECT_S = 10.0  # a server that does not take a connection within this is away, however long a reply may take
_IDLE_S = 4.0  # uvicorn and node close idle connections after 5 s: be first, or the next request meets a closing one
_DRAIN_S = 0.2  # for the end of the body after [DONE], so that the connection can be used again
_LARGE_BODY = 2**20  # aiohttp wants more than this as a file
_ERROR_BODY = 2**16
R = TypeVar("R", bound=Reply)
P = TypeVar("P")
R_co = TypeVar("R_co", bound=Reply, covariant=True)
P_co = TypeVar("P_co", covariant=True)


def connect(target: str, *, settings: Settings) -> OpenAI:
    """The model NAME on the server BASE_URL. Sends nothing. Raises BadInput for a malformed target or a missing key."""
    server = endpoint(target)
    return OpenAI(server, key_for(server, settings.keys), settings)


class OpenAI:
    """One model of one server. Sessions are made on first use, one for each event loop that asks."""

    local = False

    def __init__(self, server: Endpoint, key: str | None, settings: Settings) -> None:
        self.identity = f"openai:{server.name}@{server.base_url}"
        self.pool = server.base_url
        self.price = price_of(self.identity, settings)
        self._server = server
        self._key = key
        self._url = URL(f"{server.base_url}/chat/completions")
        self._sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = weakref.WeakKeyDictionary()
        self._limit_name = "max_tokens"
        self._stream_options = True

    async def ask(self, request: Request, *, timeout: float, on_text: Callable[[str], None] | None = None) -> Reply:
        """One try. With ``on_text`` the reply is streamed and each new piece of text handed over. Raises ProviderFault."""
        found, streamed = await self._once(request, timeout, reply, StreamedReply, on_text)
        if on_text is not None and found.text and not streamed:
            on_text(found.text)
        return found

    async def relay(self, request: Request, *, timeout: float, on_choices: OnChoices | None = None) -> Relayed:
        """The same with all that the answer holds. With ``on_choices`` each event's choices are handed over.

        A server that answers in one document although a stream was asked for hands none over.
        """
        found, _ = await self._once(request, timeout, relayed, lambda: RelayedStream(request), each_of(on_choices))
        return found

    async def _once(
        self,
        request: Request,
        timeout: float,
        read: Callable[..., R],
        collect: Callable[[], _Collected[R, P]],
        on_piece: Callable[[P], None] | None,
    ) -> tuple[R, bool]:
        """The answer, and whether it was streamed."""
        data, started, answered = encode(self._body(request, on_piece is not None)), time.perf_counter(), False
        try:
            async with self._session().post(
                self._url,
                data=data if len(data) < _LARGE_BODY else io.BytesIO(data),
                timeout=_limits(timeout),
                allow_redirects=False,  # the key must not follow to another host
            ) as response:
                answered = True
                if response.status >= 300:
                    raise self._adapted(refusal(response.status, response.headers, await _error_body(response)), data)
                if on_piece is not None and not _is_whole(response):
                    return await _streamed(response, started, collect(), on_piece), True
                answer = await response.read()
                return read(decode(answer), latency_s=time.perf_counter() - started, headers=response.headers), False
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            fault = _trouble(error, answered, self.pool, timeout)
        except ProviderFault as error:
            fault = error
        raise self._masked(fault)  # outside the handler: aiohttp's errors hold the headers, thus the key

    async def close(self) -> None:
        """Close all connections."""
        running = asyncio.get_running_loop()
        for loop, session in list(self._sessions.items()):
            if loop is not running and loop.is_running():
                asyncio.run_coroutine_threadsafe(session.close(), loop)
                continue
            with contextlib.suppress(RuntimeError):  # its loop is closed, and its sockets with it
                await session.close()
        self._sessions.clear()

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            headers = {"Content-Type": "application/json", "Accept": "*/*", "User-Agent": "llmops-lab"}
            if self._key is not None:
                headers["Authorization"] = f"Bearer {self._key}"
            session = self._sessions[loop] = aiohttp.ClientSession(
                headers=headers,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S, ttl_dns_cache=60),  # the caller limits
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=_proxy(self._server),
            )
        return session

    def _body(self, request: Request, stream: bool) -> dict[str, Any]:
        wanted = body(self._server.name, request)
        if "max_tokens" in wanted and self._limit_name != "max_tokens":
            wanted[self._limit_name] = wanted.pop("max_tokens")
        wanted["stream"] = stream
        if stream and self._stream_options:
            wanted["stream_options"] = {"include_usage": True}
        return wanted

    def _adapted(self, fault: ProviderFault, sent: bytes) -> ProviderFault:
        # Two things that some servers refuse and another way of asking cures: the next try does it that way, and so do all that
        # follow. A server also quotes what it refuses, so these words tell nothing where the request held them elsewhere.
        said = str(fault)
        if fault.kind != "bad_request":
            return fault
        if "max_completion_tokens" in said and b'"max_tokens":' in sent and b"max_completion_tokens" not in sent:
            self._limit_name = "max_completion_tokens"
        elif "stream_options" in said and self._stream_options and sent.count(b"stream_options") == 1:
            self._stream_options = False
        else:
            return fault
        fault.retryable, fault.retry_after = True, 0.0
        return fault

    def _masked(self, fault: ProviderFault) -> ProviderFault:
        if self._key and self._key in str(fault):
            fault.args = (str(fault).replace(self._key, MASK),)
        if fault.status == 404:
            fault.args = (f"{fault} ({self._url}: is {self._server.name!r} its name there, and does BASE_URL end in /v1?)",)
        return fault


class _Collected(Protocol[R_co, P_co]):
    """What puts a stream's events together: pieces of type P on the way, a reply of type R at the end."""

    @property
    def finished(self) -> bool: ...

    def add_json(self, text: bytes) -> P_co: ...

    def reply(self, *, latency_s: float, ttft_s: float | None, cut: bool) -> R_co: ...


async def _streamed(response: aiohttp.ClientResponse, started: float, collected: _Collected[R, P], on_piece: Callable[[P], None]) -> R:
    ttft, done = None, False
    latest = started
    try:
        async for line in _lines(response.content):
            data = _event_data(line)
            if data is None:
                continue
            latest = time.perf_counter()
            if data == b"[DONE]":
                done = True
                break
            piece = collected.add_json(data)
            if piece:
                ttft = latest - started if ttft is None else ttft
                on_piece(piece)
    except (aiohttp.ClientError, TimeoutError, OSError):
        if not collected.finished:
            raise
    if done:
        await _drain(response.content)
    return collected.reply(latency_s=latest - started, ttft_s=ttft, cut=not done)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest: list[bytes] = []
    async for chunk in stream.iter_any():
        *whole, last = chunk.split(b"\n")
        for line in whole:
            rest.append(line)
            yield b"".join(rest)
            rest = []
        if last:
            rest.append(last)
    yield b"".join(rest)


def _event_data(line: bytes) -> bytes | None:
    """The data in a line of server-sent events; None for comments, other fields and blank lines."""
    line = line.strip()
    for field in (b"data:", b"error:"):  # llama.cpp once sent "error: {...}"
        if line.startswith(field):
            return line[len(field) :].strip() or None
    return line if line.startswith(b"{") else None  # an error object without the field's name


async def _drain(stream: aiohttp.StreamReader) -> None:
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(_DRAIN_S):
            while not stream.at_eof():
                await stream.readany()


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    pieces: list[bytes] = []
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):  # the status alone is answer enough
        async for piece in response.content.iter_chunked(_ERROR_BODY):
            pieces.append(piece)
            if sum(map(len, pieces)) >= _ERROR_BODY:
                break
    return b"".join(pieces)


def _is_whole(response: aiohttp.ClientResponse) -> bool:
    """Whether a server answered with one document although a stream was asked for."""
    kind = response.headers.get("Content-Type", "").lower()
    return "json" in kind or "html" in kind


def _trouble(error: Exception, answered: bool, base_url: str, timeout: float) -> ProviderFault:
    """The fault for an exception of aiohttp's."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ProviderFault("connection", f"no connection to {base_url} within {min(timeout, _CONNECT_S):g} s")
    if isinstance(error, TimeoutError):
        what = "the answer was not complete" if answered else "no answer"
        return ProviderFault("timeout", f"{what} within {timeout:g} s", answered=answered, in_doubt=True)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ProviderFault("connection", f"the proxy refused to connect to {base_url}: HTTP {error.status}")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError):
        bad_certificate = isinstance(error, aiohttp.ClientSSLError)
        message = f"no connection to {base_url}: {_reason(error)}"
        return ProviderFault("connection", message, retryable=False if bad_certificate else None)
    if isinstance(error, aiohttp.ClientResponseError):
        return ProviderFault("malformed", f"the answer is no proper HTTP: {short(error.message)}", in_doubt=True)
    if isinstance(error, aiohttp.ClientPayloadError):
        return ProviderFault("connection", "the answer's body was cut short", answered=True, in_doubt=True)
    return ProviderFault("connection", f"the connection was closed before the answer: {_reason(error)}", answered=answered, in_doubt=True)


def _reason(error: Exception) -> str:
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    return short(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)


@lru_cache(maxsize=64)
def _limits(timeout: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout * 0.9, _CONNECT_S))  # below total: who fired tells what was sent


def _proxy(server: Endpoint) -> str | None:
    parts = urlsplit(server.base_url)
    if server.loopback or urllib.request.proxy_bypass(parts.netloc):
        return None
    proxy = urllib.request.getproxies().get(parts.scheme) or urllib.request.getproxies().get("all")
    return proxy if proxy and proxy.startswith(("http://", "https://")) else None
