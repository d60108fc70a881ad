"""What is done with cells that somebody picked: into a dataset, into a rating queue."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api.views._grid_source import Source
from llmops_lab.errors import BadInput, LabError, UnknownName
from llmops_lab.flows.add_to_dataset import add_to_dataset
from llmops_lab.store.ledger import open_ledger

EXPECT = ("expected", "reply", "nothing")
"""What a dataset's record shall expect: the row's own expected value, the reply as it is, or nothing."""
_RESPONSE = "expected_response"  # MLflow's own name for it, which its scorers look for


def to_dataset(grid: Any, source: Source, cells: Sequence[Mapping[str, Any]], name: str, expect: str) -> dict[str, Any]:
    """Add the rows of these cells to an MLflow dataset; says what became of it. Raises BadInput and UnknownName."""
    if expect not in EXPECT:
        raise UnknownName("thing to expect", expect, EXPECT)
    rows = dict(source.rows([cell["row_id"] for cell in cells]))
    column = grid.plan.get("how", {}).get("expected")
    records = [_record(grid, cell, rows.get(cell["row_id"]), column, expect) for cell in cells]
    if expect == "expected":  # what a row expects is the same for all its cells
        records = list({record["tags"]["row_id"]: record for record in records}.values())
    settings = _settings.load()
    ident = add_to_dataset(open_ledger(settings), settings, name, records)
    many = f"{len(records)} row{'s' if len(records) > 1 else ''}"
    if ident:
        return {"waits": False, "said": f"Added {many} to the MLflow dataset {name}."}
    return {"waits": True, "said": f"{many} kept for the MLflow dataset {name}: MLflow is away, and gets it as soon as it answers."}


def _record(grid: Any, cell: Mapping[str, Any], row: Mapping[str, Any] | None, column: str | None, expect: str) -> dict[str, Any]:
    if row is None:
        raise BadInput(f"row {cell['row_id']} is not in this ledger, so nobody knows its inputs. Run the grid here first.")
    inputs = {name: value for name, value in row.items() if name not in ("id", column)}
    expected: dict[str, Any] = {}
    if expect == "reply":
        if not cell["text"]:
            raise BadInput(f"cell {cell['cell']} (row {cell['row_id']}) has no reply to expect.")
        expected = {_RESPONSE: cell["text"]}
    elif expect == "expected" and column and row.get(column) is not None:
        expected = {_RESPONSE: row[column]}
    tags = {"row_id": cell["row_id"], "prompt": cell["prompt"], "model": cell["model"]}
    source = {"grid": getattr(grid, "grid_id", None), "run": grid.run_id, "cell": cell["cell"], "dataset": grid.dataset.get("digest")}
    return {"inputs": inputs, "expectations": expected, "tags": tags, "source": {k: v for k, v in source.items() if v is not None}}


def queue_names() -> list[str]:
    """The rating queues of this project, the newest first."""
    from llmops_lab.store import reviews

    return reviews.names(open_ledger(_settings.load()))


def to_queue(grid: Any, cells: Sequence[int], name: str) -> dict[str, Any]:
    """Add the rows of these cells to a rating queue that is there. Raises LabError."""
    queue = importlib.import_module("llmops_lab.api.queue").queue(name)
    if not hasattr(queue, "add"):
        raise LabError("this version's queues take no further items. Make one of the selection: lab.rate(g.selected(), ...).")
    added = queue.add(grid, cells)
    return {"said": f"Sent {added} item{'s' if added != 1 else ''} to the queue {name}."}


def tracking_uri() -> str:
    """Where MLflow is, without a password."""
    from llmops_lab.track import connect

    try:
        return connect.shown(_settings.load())
    except LabError:
        return ""
