"""CPU of a LoRA step of the template's trainer against a bare PyTorch loop of the same model and batches; trl's own trainer beside it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.processes import script
from tests.bench.rows import Row, middle, ratio

REPEATS = 7


def measure(*, repeats: int, small: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        told = script("lora_step", 4 if small else 40, repeats, home=Path(folder)).told
    ours, trl, bare = told["ours"], told["trl"], told["bare"]
    note = f"{middle(ours, 's')} / {middle(bare, 's')}; trl's own: {ratio(trl, bare):.3g} x"
    what = "CPU of a LoRA step on the embedded model, batches of 8, against a bare loop"
    return [Row(what, ratio(ours, bare), "x", at_most=1.05, note=note)]
