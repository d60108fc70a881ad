"""A grid on a local model with all that a grid does, and the bare provider one by one. ``local_model.py hf|tiny REQUESTS REPEATS``."""

import asyncio
import json
import sys
import time

import llmops_lab as lab
from llmops_lab import plugins
from llmops_lab.models import tiny
from llmops_lab.records import Message, Request
from llmops_lab.settings import load

kind, requests, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
target = str(tiny.FOLDER) if kind == "hf" else ""
spec = f"hf:{target}" if kind == "hf" else "tiny"
PARAMS = {"temperature": 0, "max_tokens": 24}
TASKS = (
    "Classify the intent: I want to return order {n}, it arrived broken.",
    "What is {n} plus 7?",
    "Is this review positive or negative? The room {n} was clean and the staff kind.",
    "Answer from the text. Text: Ticket {n} was opened by Ada in Oslo. Question: Who opened ticket {n}?",
    "Extract name and city as JSON: Ben from Rome bought {n} chairs.",
)
ROWS = [{"id": str(n), "question": TASKS[n % len(TASKS)].format(n=n)} for n in range(requests)]
provider = plugins.find("models", kind).connect(target, settings=load())


def one_by_one():
    async def ask():
        replies = []
        for row in ROWS:
            replies.append(await provider.ask(Request((Message("user", row["question"]),), PARAMS), timeout=60))
        return replies

    began = time.process_time()
    replies = asyncio.run(ask())
    return sum(reply.usage.output_tokens for reply in replies) / (time.process_time() - began), [reply.text for reply in replies]


def in_a_grid():
    began = time.process_time()
    grid = lab.grid({"plain": "{{ question }}"}, ROWS, models=[spec], params=PARAMS, track=False, reuse=False)
    cpu, frame = time.process_time() - began, grid.frame()
    assert grid.calls == requests and (frame["status"] == "ok").all()
    return frame["output_tokens"].sum() / cpu, list(frame["text"])


one_by_one()
in_a_grid()
rounds = [(one_by_one(), in_a_grid()) for _ in range(repeats)]
equal = min(sum(a == b for a, b in zip(single[1], grid[1], strict=True)) for single, grid in rounds)
print(json.dumps({"single": [single[0] for single, _ in rounds], "grid": [grid[0] for _, grid in rounds], "equal": equal}))
