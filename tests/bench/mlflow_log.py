"""CPU of logging a grid's scored cells to MLflow on SQLite, against one plain ``mlflow.log_table`` of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.processes import script
from tests.bench.rows import Row, middle, ratio

REPEATS = 7


def measure(*, repeats: int, small: bool) -> list[Row]:
    cells = 40 if small else 1000
    with tempfile.TemporaryDirectory() as folder:
        told = script("logged_grid", cells, repeats, home=Path(folder)).told
    ours, plain = told["ours"], told["plain"]
    what = f"CPU of logging {cells:,} scored cells to MLflow on SQLite, against one mlflow.log_table into an open run"
    return [Row(what, ratio(ours, plain), "x", at_most=2.0, note=f"{middle(ours, 's')} / {middle(plain, 's')}")]
