"""Records a grid of two prompts, answered at once. ``recorded_grid.py CELLS [NAME]``."""

import json
import sys

import llmops_lab as lab

cells = int(sys.argv[1])


def right(reply, row):
    return int(row["id"]) % 3 != 0 if "Think" in reply.text else int(row["id"]) % 2 == 0


rows = [
    {"id": str(number), "question": f"What is {number} plus one, and who asks about {number}?", "kind": "abc"[number % 3]}
    for number in range(cells // 2)
]
prompts = {"plain": "{{ question }}", "steps": "Think. {{ question }}"}
scorers = [lab.scorer(right, higher_is_better=True)]
name = sys.argv[2] if len(sys.argv) > 2 else "recorded"
grid = lab.grid(prompts, rows, models=["echo"], scorers=scorers, track=False, progress=False, name=name, concurrency=32)
grid.show()  # as whoever looked at it once has left it: with its figures kept
while not grid._view.call("standing", {}, user="").data["ready"]:
    grid._view.call("open", {}, user="")
assert grid.state == "done"
print(json.dumps({"cells": cells}))
