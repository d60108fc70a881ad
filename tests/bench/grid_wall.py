"""Wall time of the grid call after one warm-up call, against a bare aiohttp loop likewise warmed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.processes import script, server
from tests.bench.rows import Row, middle, ratio

REPEATS = 9


def measure(*, repeats: int, small: bool) -> list[Row]:
    calls = 40 if small else 1000
    ours, floor = [], []
    with tempfile.TemporaryDirectory() as folder, server(50) as url:
        for round_ in range(-1, repeats):
            bare = script("bare_loop", url, calls, "--warm", home=Path(folder, "bare"))
            grid = script("one_grid", url, calls, "--warm", home=Path(folder, f"grid{round_}"))
            if round_ >= 0:
                ours.append(grid.told["wall"])
                floor.append(bare.told["wall"])
    what = f"wall of the grid call, {calls:,} calls x 50 ms, 32 in flight, warmed, against bare aiohttp"
    return [Row(what, ratio(ours, floor), "x", at_most=1.15, note=f"{middle(ours, 's')} / {middle(floor, 's')}")]
