"""The same calls through the ``openai`` package and gather. ``openai_client.py URL CALLS``."""

import asyncio
import json
import sys

from openai import AsyncOpenAI


async def main(url, calls):
    places = asyncio.Semaphore(32)
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

        async def ask(text):
            async with places:
                messages = [{"role": "user", "content": text}]
                answer = await client.chat.completions.create(model="m", messages=messages, temperature=0, max_tokens=256)
            return answer.choices[0].message.content == text

        found = await asyncio.gather(*(ask(f"What is {number} plus 1?") for number in range(calls)))
    assert sum(found) == calls
    print(json.dumps({}))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
