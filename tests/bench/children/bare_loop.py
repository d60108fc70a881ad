"""The floor: a bare aiohttp loop that asks and compares. ``bare_loop.py URL CALLS [--warm]``."""

import asyncio
import json
import sys
import time

import aiohttp


async def main(url, calls, warm):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(text):
            body = {"model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 256}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                answer = json.loads(await response.read())
            return answer["choices"][0]["message"]["content"] == text

        async def work(numbers):
            return [await ask(f"What is {number} plus 1?") for number in numbers]

        if warm:
            await ask("warm")
        began, numbers = time.perf_counter(), iter(range(calls))
        found = await asyncio.gather(*(work(numbers) for _ in range(32)))
        wall = time.perf_counter() - began
    assert sum(map(sum, found)) == calls
    print(json.dumps({"wall": wall}))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), "--warm" in sys.argv))
