"""What each live view costs on the wire: its script and style, compressed. anywidget sends the script with every view that is shown."""

from __future__ import annotations

import gzip

from llmops_lab.widgets import STATIC
from tests.bench.rows import Row

REPEATS = 1


def measure(*, repeats: int, small: bool) -> list[Row]:
    return [_row(name) for name in ("grid", "diff", "rating", "job")]


def _row(name: str) -> Row:
    files = [STATIC / f"{name}.js", STATIC / f"{name}.css"]
    there = all(path.is_file() for path in files)
    sizes = [len(gzip.compress(path.read_bytes(), 9)) / 1024 for path in files] if there else []
    note = f"script {sizes[0]:.1f} KB, style {sizes[1]:.1f} KB" if there else "the bundles are not built: type make front"
    return Row(f"bundle of {name}, gzip", sum(sizes) if there else None, "KB", at_most=30, note=note)
