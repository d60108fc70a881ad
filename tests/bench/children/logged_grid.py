"""What tracking adds to a recorded grid, and what ``mlflow.log_table`` costs, in turns. ``logged_grid.py CELLS REPEATS``.

Both log to the same SQLite store, and both have been done once before, so that neither pays for imports or the store's tables.
"""

import json
import os
import resource
import sys

os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"

import llmops_lab as lab

cells, repeats = int(sys.argv[1]), int(sys.argv[2])
ROWS = [{"id": str(number), "question": f"What is {number} plus 1?", "answer": f"What is {number} plus 1?"} for number in range(cells)]


def cpu():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def grid(track):
    asked = lab.grid({"plain": "{{ question }}"}, ROWS, models=["echo"], scorers=["exact"], expected="answer", track=track)
    assert asked.state == "done" and bool(asked.run_id) == track
    return asked


def cost(work):
    began = cpu()
    work()
    return cpu() - began


def plain():
    with mlflow.start_run():
        return cost(lambda: mlflow.log_table(frame, "cells.json"))


def ours():
    untracked = cost(lambda: grid(track=False))
    return cost(lambda: grid(track=True)) - untracked


frame = grid(track=True).frame()

import mlflow  # noqa: E402 - after the grid, which switches its telemetry off

plain()
ours()
rounds = [(plain(), ours()) for _ in range(repeats)]
print(json.dumps({"plain": [first for first, _ in rounds], "ours": [second for _, second in rounds]}))
