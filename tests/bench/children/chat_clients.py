"""Bare aiohttp clients of a chat endpoint, each with one request at a time. ``chat_clients.py URL MODEL CLIENTS REQUESTS``."""

import asyncio
import json
import statistics
import sys
import time

import aiohttp

url, model, clients, requests = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
TASKS = (
    "Classify the intent: I want to return order {n}, it arrived broken.",
    "What is {n} plus 7?",
    "Is this review positive or negative? The room {n} was clean and the staff kind.",
    "Answer from the text. Text: Ticket {n} was opened by Ada in Oslo. Question: Who opened ticket {n}?",
    "Extract name and city as JSON: Ben from Rome bought {n} chairs.",
)
FRESH = {"Cache-Control": "no-cache"}  # what is measured is asking, not remembering


async def measure():
    times, numbers = [], iter(range(requests))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=FRESH, timeout=aiohttp.ClientTimeout(total=230)) as session:

        async def ask(number):
            messages = [{"role": "user", "content": TASKS[number % len(TASKS)].format(n=number)}]
            body = {"model": model, "messages": messages, "max_tokens": 24, "temperature": 0}
            async with session.post(f"{url}/chat/completions", json=body) as answer:
                assert answer.status == 200, await answer.text()
                found = await answer.json()
                assert found["choices"][0]["message"]["content"] is not None

        async def client():
            for number in numbers:
                began = time.perf_counter()
                await ask(number)
                times.append(time.perf_counter() - began)

        await asyncio.gather(*(ask(number) for number in range(clients)))  # connections are made, the model is loaded
        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        wall = time.perf_counter() - began
    print(json.dumps({"rate": requests / wall, "p50": statistics.median(times)}))


asyncio.run(measure())
