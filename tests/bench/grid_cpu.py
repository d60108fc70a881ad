"""CPU of a whole process that asks a grid, against one that runs a bare aiohttp loop over the same calls."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.processes import script, server
from tests.bench.rows import Row, middle, ratio

REPEATS = 7


def measure(*, repeats: int, small: bool) -> list[Row]:
    calls = 40 if small else 1000
    ours, floor = [], []
    with tempfile.TemporaryDirectory() as folder, server(50) as url:
        for round_ in range(-1, repeats):
            bare = script("bare_loop", url, calls, home=Path(folder, "bare"))
            grid = script("one_grid", url, calls, home=Path(folder, f"grid{round_}"))
            if round_ >= 0:  # the round before wrote the bytecode
                ours.append(grid.cpu)
                floor.append(bare.cpu)
    what = f"CPU of {calls:,} calls x 50 ms, 32 in flight, ledger, one scorer, whole process, against bare aiohttp"
    return [Row(what, ratio(ours, floor), "x", at_most=2.0, note=f"{middle(ours, 's')} / {middle(floor, 's')}")]
