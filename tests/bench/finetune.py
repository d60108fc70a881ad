"""A LoRA for the held-out task on the embedded model: what it gains, what it forgets, and the CPU after the imports."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.bench.processes import script
from tests.bench.rows import Row, middle

REPEATS = 1


def measure(*, repeats: int, small: bool) -> list[Row]:
    sizes = (24, 0.5, 10, 10) if small else (1500, 1, 100, 200)
    rounds = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(script("tuned", *sizes, home=Path(folder)).told)
    gained = [each["route"]["tuned"] for each in rounds]
    lost = [each["general"]["base"] - each["general"]["tuned"] for each in rounds]
    cpu = [each["cpu"] for each in rounds]
    before = f"{median(each['route']['base'] for each in rounds):.2f} before; {rounds[0]['route verdict']}"
    kept = f"{middle([each['general']['base'] for each in rounds], '')} before; {rounds[0]['general verdict']}"
    expected = f"the estimate before it began: {rounds[0]['expected']:.0f} s; it took {rounds[0]['seconds']:.0f} s of wall clock"
    return [
        Row(f"exact match on the held-out task after a LoRA, {sizes[2]} fresh rows", median(gained), "", at_least=0.95, note=before),
        Row(f"what is lost of exact match on the known tasks, {sizes[3]} fresh rows", median(lost), "", at_most=0.10, note=kept),
        Row("CPU of that LoRA after the imports: reading, estimate, training", median(cpu), "s", at_most=60, note=expected),
    ]
