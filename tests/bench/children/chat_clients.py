"""Lean clients of a chat endpoint, each with one connection and one request at a time: what is measured is the server.

``chat_clients.py URL MODEL CLIENTS REQUESTS``
"""

import asyncio
import json
import statistics
import sys
import time
from urllib.parse import urlsplit

import httptools
import uvloop

url, model, clients, requests = urlsplit(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
TASKS = (
    "Classify the intent: I want to return order {n}, it arrived broken.",
    "What is {n} plus 7?",
    "Is this review positive or negative? The room {n} was clean and the staff kind.",
    "Answer from the text. Text: Ticket {n} was opened by Ada in Oslo. Question: Who opened ticket {n}?",
    "Extract name and city as JSON: Ben from Rome bought {n} chairs.",
)
FRESH = "Cache-Control: no-cache"  # what is measured is asking, not remembering


class Client(asyncio.Protocol):
    """One connection; the parser calls back into it."""

    def connection_made(self, transport):
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)

    def ask(self, number):
        """Send one request; a future of its body."""
        self._pieces, self._answer = [], asyncio.get_running_loop().create_future()
        messages = [{"role": "user", "content": TASKS[number % len(TASKS)].format(n=number)}]
        body = json.dumps({"model": model, "messages": messages, "max_tokens": 24, "temperature": 0}).encode()
        head = (
            f"POST {url.path}/chat/completions HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n{FRESH}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        return self._answer

    def data_received(self, data):
        self._parser.feed_data(data)

    def on_body(self, piece):
        self._pieces.append(piece)

    def on_message_complete(self):
        status, body = self._parser.get_status_code(), b"".join(self._pieces)
        if status == 200 and json.loads(body)["choices"][0]["message"]["content"] is not None:
            self._answer.set_result(body)
        else:
            self._answer.set_exception(RuntimeError(f"HTTP {status}: {body!r}"))

    def connection_lost(self, error):
        if not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the server closed the connection: {error}"))


async def measure():
    loop, times, numbers = asyncio.get_running_loop(), [], iter(range(requests))
    made = [(await loop.create_connection(Client, url.hostname, url.port))[1] for _ in range(clients)]

    async def run(client):
        for number in numbers:
            began = time.perf_counter()
            await client.ask(number)
            times.append(time.perf_counter() - began)

    async with asyncio.timeout(230):
        await asyncio.gather(*(client.ask(number) for number, client in enumerate(made)))  # connections are made, the model is loaded
        began = time.perf_counter()
        await asyncio.gather(*map(run, made))
        wall = time.perf_counter() - began
    print(json.dumps({"rate": requests / wall, "p50": statistics.median(times)}))


uvloop.run(measure())
