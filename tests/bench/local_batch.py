"""Tokens a CPU second of a local model: a grid in batches, against the same requests one by one, with equal greedy text."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.processes import script
from tests.bench.rows import Row, middle, ratio

REPEATS = 5


def measure(*, repeats: int, small: bool) -> list[Row]:
    requests = 6 if small else 96
    rows = []
    for model in ("hf", "tiny"):
        with tempfile.TemporaryDirectory() as folder:
            told = script("local_model", model, requests, repeats, home=Path(folder)).told
        grid, single = told["grid"], told["single"]
        what = f"tokens a CPU second, {model} on the embedded model, {requests} requests in a grid against one by one"
        note = f"{middle(grid, '/s')} / {middle(single, '/s')}"
        rows.append(Row(what, ratio(grid, single), "x", at_least=4.0, note=note))
        rows.append(Row(f"requests whose greedy text was equal, of {requests}", told["equal"], "", at_least=requests))
    return rows
