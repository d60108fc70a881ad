"""Opening a fully recorded grid again, in a fresh process: by the same call, and by its name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.bench.processes import script, server
from tests.bench.rows import Row, middle

REPEATS = 5


def measure(*, repeats: int, small: bool) -> list[Row]:
    cells = 40 if small else 10_000
    again, loaded, calls, cpu = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, server(0, Path(folder, "calls.jsonl")) as url:
        home = Path(folder, "home")
        script("one_grid", url, cells, home=home)
        sent = Path(folder, "calls.jsonl").stat().st_size
        for _ in range(repeats):
            told = script("one_grid", url, cells, "--reopen", home=home).told
            again.append(told["wall"])
            cpu.append(told["cpu"])
            loaded.append(told["load_wall"])
            calls.append(Path(folder, "calls.jsonl").stat().st_size - sent)
    return [
        Row(
            f"lab.grid(...) again, {cells:,} recorded cells, scored anew",
            median(again),
            "s",
            at_most=2.0,
            note=f"{middle(again, 's')}, CPU {middle(cpu, 's')}",
        ),
        Row(f"lab.load(...).frame() of {cells:,} recorded cells", median(loaded), "s", at_most=2.0, note=middle(loaded, "s")),
        Row("bytes of calls that the server logged meanwhile", sum(calls), "", at_most=0),
    ]
