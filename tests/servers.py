"""A real server that speaks OpenAI's chat completions over real sockets, and breaks in every way that real ones do.

    with ModelServer() as server:                        # a thread of this process, a free loopback port
        server.script("429_seconds", "ok")               # the next requests, whatever they ask
        server.script("reset", text="hello")             # the next requests whose last message is "hello"
        ask(f"openai:NAME@{server.url}")
        server.count("hello"), server.requests[0].headers

    python tests/servers.py --port N --latency-ms 50 --log FILE      # a process of its own; "ready URL" on stdout

What is not scripted is answered with ``answer(text)``, by default the last message's text. The log has one JSON line when
a request starts and one when its answer was handed to the socket, each written at once, so that it survives kill -9
of any client: {"event": "start" | "done", "n": request number, "text": last message, "t": seconds}.

``BEHAVIOURS`` lists all that can be scripted; ``FAULTS`` maps the 16 faults of a provider to the ones that play them;
any function ``async (request, body) -> response`` can be scripted as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import struct
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from aiohttp import web

Behaviour = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
JSON = "application/json"
SSE = "text/event-stream"


@dataclass
class Seen:
    """One request as the server got it. ``t`` is the monotonic second of its arrival."""

    text: str
    headers: dict[str, str]
    body: dict[str, Any]
    path: str
    t: float = field(default_factory=time.monotonic)


class ModelServer:
    """Runs from ``start`` (or ``with``) to ``stop``; every counter may be read from any thread."""

    def __init__(
        self,
        *,
        latency_ms: float = 0.0,
        answer: Callable[[str], str] | None = None,
        port: int = 0,
        log: str | None = None,
        keep: bool = True,
    ) -> None:
        self.latency_s = latency_ms / 1000
        self.answer = answer or (lambda text: text)
        self.port = port
        self.requests: list[Seen] = []
        self.counts: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self._keep = keep
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log else None
        self._scripts: dict[str | None, deque[str | Behaviour]] = defaultdict(deque)
        self._always: dict[str | None, str | Behaviour] = {}
        self._total = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """The base URL to put behind ``@``."""
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, *behaviours: str | Behaviour, text: str | None = None) -> None:
        """Play these, in order, for the next requests (or only for those whose last message is ``text``), then answer properly."""
        self._scripts[text].extend(behaviours)

    def always(self, behaviour: str | Behaviour, text: str | None = None) -> None:
        """Play this for every request that no script covers."""
        self._always[text] = behaviour

    def count(self, text: str) -> int:
        """How many requests had this last message."""
        return self.counts[text]

    def clear(self) -> None:
        """Forget requests, counts and scripts."""
        self.requests.clear()
        self.counts.clear()
        self._scripts.clear()
        self._always.clear()

    def start(self) -> ModelServer:
        self._started.clear()
        self._thread = threading.Thread(target=self._run, daemon=True, name="model-server")
        self._thread.start()
        self._started.wait(10)
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Close the port and every connection at once. ``start`` brings it back on the same port."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop = None

    def __enter__(self) -> ModelServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embed)
        return app

    async def serve(self) -> web.AppRunner:
        """Bind inside a running loop; fills in ``port``."""
        runner = web.AppRunner(self.app(), access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, backlog=1024, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        self._loop = loop
        try:
            runner = loop.run_until_complete(self.serve())
        except OSError as error:
            self._failure = error
            self._started.set()
            return
        self._started.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        text = last_text(body)
        number = self._arrived(request, body, text)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            behaviour = self._next(text)
            if behaviour is not None:
                response = await (BEHAVIOURS[behaviour] if isinstance(behaviour, str) else behaviour)(request, body)
            elif body.get("stream"):
                response = await stream(request, body, events(self.answer(text), body))
            else:
                response = web.json_response(completion(self.answer(text), body))
            if self._log is not None and not response.prepared:
                await response.prepare(request)
                await response.write_eof()
            self._write("done", number, text)
            return response
        finally:
            self.in_flight -= 1

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        """Letter counts as vectors: deterministic, alike for texts that are alike."""
        body = json.loads(await request.read())
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        self._arrived(request, body, "\n".join(texts))
        vectors = [[float(text.lower().count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz "] for text in texts]
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
        return web.json_response(
            {"object": "list", "model": body.get("model"), "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        )

    def _arrived(self, request: web.Request, body: dict[str, Any], text: str) -> int:
        self._total += 1
        self.counts[text] += 1
        if self._keep:
            self.requests.append(Seen(text, dict(request.headers), body, request.path))
        self._write("start", self._total, text)
        return self._total

    def _next(self, text: str) -> str | Behaviour | None:
        for key in (text, None):
            if self._scripts.get(key):
                return self._scripts[key].popleft()
            if key in self._always:
                return self._always[key]
        return None

    def _write(self, event: str, number: int, text: str) -> None:
        if self._log is not None:
            os.write(self._log, json.dumps({"event": event, "n": number, "text": text, "t": time.time()}).encode() + b"\n")


def last_text(body: dict[str, Any]) -> str:
    """The text of a request's last message, parts joined."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def completion(text: str | None, body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A whole answer; ``fields`` replace those of the choice."""
    asked = sum(len(str(message["content"]).split()) for message in body["messages"])
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **fields}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body.get("model", ""),
        "choices": [choice],
        "usage": {"prompt_tokens": asked, "completion_tokens": len((text or "").split()), "total_tokens": asked},
    }


def chunk(body: dict[str, Any], delta: dict[str, Any] | None, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One event of a stream."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": body.get("model", ""),
        "choices": choices,
        **fields,
    }


def events(text: str, body: dict[str, Any]) -> list[Any]:
    """A whole stream: role, words, finish reason, usage where asked for, and the closing mark."""
    words = text.split(" ")
    pieces = [word if index == 0 else f" {word}" for index, word in enumerate(words)]
    made: list[Any] = [chunk(body, {"role": "assistant", "content": ""}), *(chunk(body, {"content": piece}) for piece in pieces)]
    made.append(chunk(body, {}, "stop"))
    if (body.get("stream_options") or {}).get("include_usage"):
        made.append(chunk(body, None, usage=completion(text, body)["usage"]))
    return [*made, "[DONE]"]


def sse(event: Any) -> bytes:
    """One server-sent event; text and bytes go out as they are."""
    if isinstance(event, bytes):
        return event
    return b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n"


async def stream(request: web.Request, body: dict[str, Any], items: list[Any], *, pause: float = 0.0) -> web.StreamResponse:
    """A chunked stream of events; a number among them is a pause in seconds."""
    response = web.StreamResponse(headers={"Content-Type": SSE})
    await response.prepare(request)
    for item in items:
        if isinstance(item, int | float):
            await asyncio.sleep(item)
            continue
        await response.write(sse(item))
        if pause:
            await asyncio.sleep(pause)
    await response.write_eof()
    return response


def answers(status: int, content: Any, *, kind: str = JSON, **headers: str) -> Behaviour:
    """A behaviour: this status with this body (a dict is sent as JSON), underscores in header names as dashes."""
    data = content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content)).encode()
    extra = {name.replace("_", "-"): value for name, value in headers.items()}

    async def play(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status, body=data, headers={"Content-Type": kind, **extra})

    return play


def refuses(status: int, message: str = "no", code: str | None = None, **headers: str) -> Behaviour:
    """A behaviour: OpenAI's error object with this status."""
    return answers(status, {"error": {"message": message, "type": "error", "code": code, "param": None}}, **headers)


def replies(text: str | None, **fields: Any) -> Behaviour:
    """A behaviour: a whole answer with these fields of the choice replaced, streamed requests too."""

    async def play(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion(text, body, **fields))

    return play


def streams(*items: Any) -> Behaviour:
    """A behaviour: this stream; a dict is an event, bytes go out as they are, a number is a pause in seconds."""

    async def play(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await stream(request, body, list(items))

    return play


async def _429_date(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    now = time.time()
    return await refuses(429, Retry_After=formatdate(now + 2, usegmt=True), Date=formatdate(now, usegmt=True))(request, body)


async def _hangs(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


async def _resets(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    assert request.transport is not None
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with RST
    request.transport.abort()
    return web.Response()


async def _raw(request: web.Request, *pieces: bytes) -> web.StreamResponse:
    """Write these bytes past aiohttp, then close the connection."""
    transport = request.transport
    assert transport is not None
    for piece in pieces:
        transport.write(piece)
        await asyncio.sleep(0.01)
    transport.close()
    return web.Response()


def raw(*pieces: bytes) -> Behaviour:
    """A behaviour: these bytes are all that is sent before the connection is closed."""

    async def play(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await _raw(request, *pieces)

    return play


async def _short_body(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    whole = json.dumps(completion("the answer is 42", body)).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nContent-Length: {len(whole)}\r\n\r\n".encode()
    return await _raw(request, head, whole[: len(whole) // 2])


def _cut(framing: str, *, finished: bool = False) -> Behaviour:
    """A stream cut in the middle (or after its finish reason): until "close", in "chunked" framing, or short of its "length"."""

    async def play(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        sent = [chunk(body, {"role": "assistant", "content": ""}), chunk(body, {"content": "the answer "})]
        if finished:
            sent.append(chunk(body, {"content": "is 42"}, "stop"))
        data = b"".join(map(sse, sent))
        head = {"close": "Connection: close", "chunked": "Transfer-Encoding: chunked", "length": f"Content-Length: {len(data) + 500}"}
        start = f"HTTP/1.1 200 OK\r\nContent-Type: {SSE}\r\n{head[framing]}\r\n\r\n".encode()
        return await _raw(request, start, b"%x\r\n%s\r\n" % (len(data), data) if framing == "chunked" else data)

    return play


async def _stalls(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return await stream(request, body, [chunk(body, {"role": "assistant", "content": ""}), chunk(body, {"content": "the answer "}), 3600])


async def _ok(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    text = last_text(body)
    return await stream(request, body, events(text, body)) if body.get("stream") else web.json_response(completion(text, body))


BEHAVIOURS: dict[str, Behaviour] = {
    "ok": _ok,
    "429_seconds": refuses(429, "slow down", Retry_After="2"),
    "429_date": _429_date,
    "429_ms": refuses(429, "slow down", retry_after_ms="250"),
    "429_quota": refuses(429, "You exceeded your current quota", "insufficient_quota"),
    "500": refuses(500, "the server had an error"),
    "502": answers(502, "<html><body>Bad Gateway</body></html>", kind="text/html"),
    "503": refuses(503, "loading the model", Retry_After="1"),
    "529": refuses(529, "overloaded"),
    "timeout": _hangs,
    "reset": _resets,
    "short_body": _short_body,
    "bad_json": answers(200, '{"choices": [{"message": {"content": "the ans'),
    "html_200": answers(200, "<!DOCTYPE html><html><body>Log in</body></html>", kind="text/html"),
    "empty_choices": answers(200, {"id": "1", "object": "chat.completion", "choices": []}),
    "null_content": replies(None),
    "cut_stream_close": _cut("close"),
    "cut_stream_chunked": _cut("chunked"),
    "cut_stream_length": _cut("length"),
    "cut_after_finish": _cut("close", finished=True),
    "cut_chunked_after_finish": _cut("chunked", finished=True),
    "stalled_stream": _stalls,
    "400": refuses(400, "temperature must be at most 2", "invalid_value"),
    "401": refuses(401, "Incorrect API key provided", "invalid_api_key"),
    "403": refuses(403, "this key may not"),
    "404": refuses(404, "The model does not exist", "model_not_found"),
    "422": answers(422, {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}),
    "content_filter": replies("", finish_reason="content_filter"),
    "no_finish_reason": replies("the answer is 42", finish_reason=None),
    "length": replies("the answer", finish_reason="length"),
    "empty_text": replies(""),
}

FAULTS: dict[str, tuple[str, ...]] = {
    "rate limit": ("429_seconds", "429_date", "429_ms"),
    "500": ("500",),
    "502": ("502",),
    "503": ("503",),
    "529": ("529",),
    "timeout": ("timeout",),
    "reset": ("reset",),
    "short body": ("short_body",),
    "bad JSON": ("bad_json",),
    "HTML with 200": ("html_200",),
    "empty choices": ("empty_choices",),
    "null content": ("null_content",),
    "stream cut, until close": ("cut_stream_close",),
    "stream cut, chunked": ("cut_stream_chunked",),
    "stream cut, content length": ("cut_stream_length",),
    "stalled stream": ("stalled_stream",),
}


async def _serve_for_ever(server: ModelServer) -> None:
    await server.serve()
    print(f"ready {server.url}", flush=True)
    await asyncio.Event().wait()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible test server on a loopback port.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--log")
    parser.add_argument("--always", choices=sorted(BEHAVIOURS), help="play this for every request")
    options = parser.parse_args(arguments)
    server = ModelServer(latency_ms=options.latency_ms, port=options.port, log=options.log, keep=False)
    if options.always:
        server.always(options.always)
    asyncio.run(_serve_for_ever(server))


if __name__ == "__main__":
    main(sys.argv[1:])
