"""CPU of ``import llmops_lab`` in a fresh interpreter, less that of ``pass``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.bench.processes import run
from tests.bench.rows import Row, middle

REPEATS = 15


def measure(*, repeats: int, small: bool) -> list[Row]:
    over = []
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(-1, repeats):
            bare = run(["-c", "pass"], Path(folder)).cpu
            ours = run(["-c", "import llmops_lab"], Path(folder)).cpu
            if round_ >= 0:
                over.append(ours - bare)
    return [Row("CPU of import llmops_lab over python -c pass", median(over), "s", at_most=0.15, note=middle(over, "s"))]
