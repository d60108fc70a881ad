"""One page of a grid as Arrow: a table of its cells, and one of its lines. Long texts are cut: a cell that is opened is asked for whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmops_lab.api.views._grid_cells import NUMBERS, Cells
from llmops_lab.escapes import inert

CELLS_A_PAGE = 120
PREVIEW = 140
_READ = 400


def lines_a_page(layout: str, variants: int) -> int:
    """How many lines a page has, so that it stays small whatever the number of columns."""
    return CELLS_A_PAGE if layout == "cells" else max(6, CELLS_A_PAGE // max(1, variants))


def preview(text: str, length: int = PREVIEW) -> str:
    """The beginning of a text, in one line."""
    return inert(" ".join(text[:_READ].split())[:length])


def page(
    cells: Cells, flat: Any, borders: Any, start: int, count: int, *, kept: Any, asked: Callable[[Sequence[int]], Sequence[str]],
    shift: int = 0,
) -> tuple[bytes, bytes]:  # fmt: skip
    """Cells and lines number ``start`` to ``start + count`` as two Arrow streams. ``kept`` tells of each cell whether the filter wants it.

    ``asked(rows)`` says what rows asked, in a line each. ``shift`` is the number of the first line, where these cells are not all.
    """
    import numpy
    import pyarrow

    first, last = min(start, len(borders) - 1), min(start + count, len(borders) - 1)
    edges = numpy.asarray(borders[first : last + 1])
    at = numpy.asarray(flat[edges[0] : edges[-1]])
    line = numpy.repeat(numpy.arange(first, last), numpy.diff(edges))
    texts = [cells.text[place] for place in at.tolist()]
    columns: dict[str, Any] = {
        "cell": _taken(cells.cell, "i8", at).astype("i4"),
        "line": (line + shift).astype("i4"),
        "variant": _taken(cells.variant, "i4", at),
        "status": _taken(cells.status, "i1", at),
        "text": pyarrow.array([None if text is None else preview(text) for text in texts], pyarrow.string()),
        "finish": pyarrow.array([inert(cells.finish[place]) for place in at.tolist()], pyarrow.string()),
        "error": pyarrow.array([inert(cells.error[place]) for place in at.tolist()], pyarrow.string()),
        "kept": numpy.asarray(kept[at]) if kept is not None else numpy.ones(len(at), dtype=bool),
    }
    for name in NUMBERS:
        columns[name] = pyarrow.array(_taken(cells.numbers[name], "f8", at), from_pandas=True)
    for name in cells.scorers:
        columns[f"score:{name}"] = pyarrow.array(_taken(cells.scores[name], "f8", at), from_pandas=True)
    heads = at[edges[:-1] - edges[0]] if len(edges) > 1 else at[:0]
    rows = _taken(cells.row, "i4", heads).tolist()
    lines = {
        "row_id": pyarrow.array([inert(cells.row_ids[row]) for row in rows], pyarrow.string()),
        "replicate": _taken(cells.replicate, "i4", heads),
        "asked": pyarrow.array([preview(text) for text in asked(rows)], pyarrow.string()),
    }
    return stream(columns), stream(lines)


def _taken(column: Any, kind: str, at: Any) -> Any:
    import numpy

    return numpy.frombuffer(column, dtype=kind)[at] if len(column) else numpy.zeros(0, dtype=kind)


def stream(columns: dict[str, Any]) -> bytes:
    """Columns of one length as an Arrow IPC stream."""
    import pyarrow

    batch = pyarrow.RecordBatch.from_pydict(columns)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    written: bytes = sink.getvalue().to_pybytes()
    return written
