"""The grid's view from Python: a page of 100,000 cells that are ready, CPU and bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.bench.processes import script
from tests.bench.rows import Row, middle

REPEATS = 3
CELLS = 100_000


def measure(*, repeats: int, small: bool) -> list[Row]:
    cells = 3_000 if small else CELLS
    costs, sizes = [], []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        script("recorded_grid", cells, home=home)
        for _ in range(repeats):
            told = script("grid_page", home=home).told
            costs.append(told["cpu_ms"])
            sizes.append(told["bytes"])
    what = f"first page of a {cells:,}-cell grid that is ready"
    return [
        Row(f"{what}: Python CPU", median(costs), "ms", at_most=2.0, note=middle(costs, "ms")),
        Row(f"{what}: bytes", max(sizes) / 1024, "KB", at_most=64),
    ]
