"""CPU of one more call in a grid, against the ``openai`` package with gather: N calls taken from 2 N, so that start-up falls out."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.processes import script, server
from tests.bench.rows import Row, middle, ratio

REPEATS = 5


def measure(*, repeats: int, small: bool) -> list[Row]:
    calls = 40 if small else 500
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder, server(50) as url:
        for round_ in range(-1, repeats):
            client = [script("openai_client", url, number, home=Path(folder, "client")).cpu for number in (calls, 2 * calls)]
            homes = [Path(folder, f"grid{round_}-{times}") for times in (1, 2)]
            grid = [script("one_grid", url, times * calls, home=home).cpu for times, home in enumerate(homes, 1)]
            if round_ >= 0:
                ours.append(1000 * (grid[1] - grid[0]) / calls)
                theirs.append(1000 * (client[1] - client[0]) / calls)
    what = f"marginal CPU a call (2 x {calls} less {calls} calls), against the openai client with gather"
    return [Row(what, ratio(ours, theirs), "x", at_most=0.25, note=f"{middle(ours, 'ms')} / {middle(theirs, 'ms')}")]
