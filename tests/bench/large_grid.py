"""Peak memory of a large grid (one prompt, one model, a row a cell), and its CPU a call against that of a small one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.bench.processes import script, server
from tests.bench.rows import Row, middle

REPEATS = 1  # 100,000 calls last minutes; the small grid is asked five times on each side of it


def measure(*, repeats: int, small: bool) -> list[Row]:
    few, many = (20, 100) if small else (1_000, 100_000)
    large, short = [], []
    with tempfile.TemporaryDirectory() as folder, server(0) as url:
        for round_ in range(repeats):
            for turn in range(1 if small else 11):
                is_large = turn == 5 or small
                if not is_large or small:
                    told = script("one_grid", url, few, "--warm", home=Path(folder, f"few{round_}-{turn}")).told
                    short.append(1000 * told["cpu"] / few)
                if is_large:
                    large.append(script("one_grid", url, many, "--warm", home=Path(folder, f"many{round_}")).told)
    costs = [1000 * told["cpu"] / many for told in large]
    peak = max(told["peak_mb"] for told in large)
    note = f"{middle(costs, 'ms')} / {middle(short, 'ms')}, server without latency"
    return [
        Row(f"peak memory of a {many:,}-cell grid, whole process", peak, "MB", at_most=250),
        Row(f"CPU a call of {many:,} cells against {few:,} cells", median(costs) / median(short), "x", at_most=1.2, note=note),
    ]
