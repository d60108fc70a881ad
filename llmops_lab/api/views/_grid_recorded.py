"""All that the view of a grid can be asked, for a page without a kernel: every cell, and the figures of all of them.

The page sorts and filters by itself (labextension/src/page/grid.ts), as ``_grid_query`` does. Figures of a filter come without intervals.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.api.views._grid_cells import Cells
from llmops_lab.api.views._grid_page import page
from llmops_lab.errors import BadInput

MOST_CELLS = 20_000
"""Each cell is written whole; more of them would be too much for one page."""
DETAILS = 50
_OWN = ("prompt", "model", "status", "finish reason")
_COPY = "this is a copy to be read: what changes a grid is done in a notebook."


def recorded(view: Any) -> tuple[dict[str, Any], list[bytes]]:
    """``(answers, buffers)`` of a ``GridView``: what ``flows.export_page`` takes. Raises BadInput for a grid that is too large."""
    total = view._source.size()
    if total > MOST_CELLS:
        raise BadInput(f"the grid has {total:,} cells, and a page holds {MOST_CELLS:,} at most. Export to a .parquet or .csv file.")
    cells = _read(view)
    opened = view.call("open", {}, user="")
    columns = [*view._rows(cells), *_OWN]
    scorers = view._scorers or [""]
    parts: list[bytes] = [*opened.buffers, *_whole_table(view, cells)]
    answers: dict[str, Any] = {
        "open": {"data": {**opened.data, "can_cancel": False, "can_resume": False, "why": _COPY, "selected": []}, "buffers": [0, 1]},
        "all": {"data": {}, "buffers": [2, 3]},
        "summary": {"data": {name: view.call("summary", {"scorer": name}, user="").data for name in scorers}},
        "groups": {"data": {by: {name: _groups(view, by, name) for name in scorers} for by in columns}},
    }
    for name, packed in (("more", [_packed(_more(view, cells, columns))]), ("cell", _details(view, cells))):
        answers[name] = {"data": {"size": DETAILS}, "buffers": list(range(len(parts), len(parts) + len(packed)))}
        parts += packed
    return answers, parts


def _read(view: Any) -> Cells:
    while not view._standing()["ready"] and not view._broken:  # a large grid is read in the background
        time.sleep(0.05)
    cells: Cells = view._whole()
    return cells


def _whole_table(view: Any, cells: Cells) -> tuple[bytes, bytes]:
    import numpy

    everything = numpy.arange(len(cells) + 1)
    return page(cells, everything[:-1], everything, 0, len(cells), kept=None, asked=lambda rows: view._some_asked(cells, rows))


def _groups(view: Any, by: str, scorer: str) -> Mapping[str, Any]:
    told: Mapping[str, Any] = view.call("groups", {"by": by, "scorer": scorer}, user="").data
    return told


def _more(view: Any, cells: Cells, columns: Sequence[str]) -> dict[str, Any]:
    # What is only needed for a search or a group: whole texts, what each row asked, and the group of each cell in each column.
    labels = {}
    for column in columns:
        names: dict[str, int] = {}
        codes = [names.setdefault(label, len(names)) for label in view._labels(cells, column)]
        labels[column] = {"names": list(names), "codes": codes}
    return {"texts": cells.text, "row": list(cells.row), "asked": list(view._every_asked(cells)), "labels": labels}


def _details(view: Any, cells: Cells) -> list[bytes]:
    numbers = list(cells.cell)
    chunks = [numbers[at : at + DETAILS] for at in range(0, len(numbers), DETAILS)]
    return [_packed([view.call("cell", {"cell": number}, user="").data for number in chunk]) for chunk in chunks]


def _packed(data: Any) -> bytes:
    return gzip.compress(json.dumps(data, separators=(",", ":")).encode("ascii"), 6, mtime=0)
