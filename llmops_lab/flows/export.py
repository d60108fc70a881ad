"""Cells go into a file that other programs open: ``.csv``, ``.tsv``, ``.json``, ``.jsonl`` or ``.parquet``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.escapes import encodable, storable
from llmops_lab.store.whole import replacing

Cells = Sequence[Mapping[str, Any]]
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def export(cells: Cells, path: str | Path, *, also: Sequence[str] = ()) -> Path:
    r"""Write cells (dicts with the same keys) to ``path``, whole or not at all, replacing what was there; returns the absolute path.

    In .csv and .tsv a text that a spreadsheet would run as a formula gets an apostrophe in front, and NUL is written as ``\x00``; numbers
    stay numbers. A lone surrogate, which no UTF-8 file can hold, is written as its escape everywhere. Raises BadInput for another ending
    or a folder that is not there. ``also``: endings that the caller writes, to be named where the ending is wrong.
    """
    kind = Path(path).suffix.lower()
    if kind not in _WRITERS:
        raise BadInput(f"{Path(path).name} does not say what to write. Known endings: {', '.join((*_WRITERS, *also))}.")
    return whole(path, lambda half: _WRITERS[kind](cells, half))


def whole(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a file beside ``path`` and move it there; returns the absolute path. Raises BadInput where that fails."""
    target = Path(path).expanduser().absolute()
    if not target.parent.is_dir():
        raise BadInput(f"the folder {target.parent} does not exist. Make it, or choose another place for {target.name}.")
    try:
        with replacing(target) as half:
            write(half)
    except OSError as error:
        raise BadInput(f"{target} cannot be written: {error.strerror or error}.") from error
    return target


def _separated(mark: str) -> Callable[[Cells, Path], None]:
    def write(cells: Cells, path: Path) -> None:
        table = io.StringIO(newline="")
        writer = csv.writer(table, delimiter=mark)
        writer.writerow([_inert(name) for name in cells[0]] if cells else [])
        writer.writerows([_inert(value) for value in cell.values()] for cell in cells)
        path.write_text(table.getvalue(), "utf-8", newline="")

    return write


def _inert(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = storable(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def _json(cells: Cells, path: Path) -> None:
    path.write_text(json.dumps(list(cells), indent=1) + "\n", "utf-8")


def _lines(cells: Cells, path: Path) -> None:
    path.write_text("".join(json.dumps(cell) + "\n" for cell in cells), "utf-8")


def _parquet(cells: Cells, path: Path) -> None:
    import pandas

    table = {name: [without_surrogates(cell[name]) for cell in cells] for name in (cells[0] if cells else ())}
    for name, values in table.items():
        kinds = {type(value) for value in values if value is not None}
        if bool in kinds and len(kinds) > 1:  # a scorer that says True here and 0.5 there
            table[name] = [None if value is None else float(value) for value in values]
    pandas.DataFrame(table).to_parquet(path)


def without_surrogates(value: Any) -> Any:
    """A text with its lone surrogates as escapes; anything else as it is."""
    return encodable(value) if isinstance(value, str) else value


_WRITERS: dict[str, Callable[[Cells, Path], None]] = {
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".json": _json,
    ".jsonl": _lines,
    ".parquet": _parquet,
}
