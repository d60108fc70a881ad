"""The same calls as a grid: ledger, one scorer, not tracked. ``one_grid.py URL CELLS [--warm] [--reopen]``."""

import json
import resource
import sys
import time
from pathlib import Path

import llmops_lab as lab

url, cells = sys.argv[1], int(sys.argv[2])


def ask(rows, name):
    return lab.grid(
        {"plain": "{{ question }}"},
        rows,
        models=[f"openai:m@{url}"],
        scorers=["exact"],
        expected="answer",
        concurrency=32,
        track=False,
        name=name,
    )


def peak_mb():
    # Since this program began; getrusage would count what the process was before it became this program.
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024


def rows_of(numbers):
    return [{"id": str(number), "question": f"What is {number} plus 1?", "answer": f"What is {number} plus 1?"} for number in numbers]


if "--warm" in sys.argv:
    ask([{"id": "warm", "question": "warm", "answer": "warm"}], "warm")
rows = rows_of(range(cells))
began, cpu = time.perf_counter(), time.process_time()
grid = ask(rows, "bench")
told = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu, "peak_mb": peak_mb()}
assert grid.state == "done" and grid.calls == (0 if "--reopen" in sys.argv else cells), (grid.state, grid.calls)
if "--reopen" in sys.argv:
    began = time.perf_counter()
    frame = lab.load("bench").frame()
    told["load_wall"] = time.perf_counter() - began
    assert len(frame) == cells and (frame["status"] == "ok").all() and (frame["exact"] == 1).all()
print(json.dumps(told))
