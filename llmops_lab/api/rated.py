"""What is put before raters: the replies of a grid, or plain rows that hold replies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows import rate_grid, rate_rows
from llmops_lab.flows.rate_rows import Columns
from llmops_lab.flows.rendered import rendered
from llmops_lab.grids.rows import Rows, read_rows
from llmops_lab.ratings.items import Found, Spec
from llmops_lab.records import Request
from llmops_lab.store.rows import rows_of

CELL = frozenset({"prompt", "model", "row_id", "replicate", "text", "key"})
"""Columns by which a table is one of a grid's cells. Its ``prompt`` is the name of a prompt, which no rater may see."""
Rated = tuple[tuple[str, ...], list[Found], str | None]


def rated(given: Any, mode: str, sides: dict[str, Any], columns: dict[str, Any], keys: Collection[str] | None = None) -> Rated:
    """The names of the sides, the rows, and the grid that they come from, if any. Raises BadInput and UnknownName.

    ``keys``: of a grid the cells with these keys alone.
    """
    if hasattr(given, "judges"):
        return _of_grid(given, mode, sides, columns, keys)
    table = read_rows(given)
    replies = rate_rows.reply_columns(mode, table, columns["text"], **sides)
    prompt = columns["prompt"] or ("prompt" if "prompt" in table.columns and not set(table.columns) >= CELL else None)
    if prompt is not None:
        table.require(prompt)
    wanted = Columns(replies, prompt, rate_rows.source_columns(table, columns["source"]), columns["gold"], columns["suggestions"])
    return replies, rate_rows.from_rows(table, wanted), None


def picked(grid: Any, spec: Spec, cells: Sequence[int]) -> tuple[tuple[str, ...], list[Found]]:
    """What a queue gets of these cells of a grid: each of them, or, where it compares, the sides of their rows. Raises as ``rated``."""
    lines = _cells(grid)
    unknown = sorted(set(cells) - {line["cell"] for line in lines})
    if unknown:
        raise UnknownName("cell", str(unknown[0]), ())
    names = rate_grid.chosen("single", lines, None, None, None if spec.mode == "single" else spec.variants)
    rows = {line["row_id"] for line in lines if line["cell"] in cells}
    only = {line["cell"] for line in lines if (line["cell"] in cells if spec.mode == "single" else line["row_id"] in rows)}
    table, request = _known(grid)
    expected = grid.dataset.get("expected")
    wanted = Columns(names, None, (), hidden=(expected,) if expected else ())
    return names, rate_grid.from_grid(lines, names, wanted, table, request, grid=getattr(grid, "grid_id", None), only=only)


def _of_grid(grid: Any, mode: str, sides: dict[str, Any], columns: dict[str, Any], keys: Collection[str] | None) -> Rated:
    if grid.state in ("planned", "running"):
        raise BadInput(f"the grid is still {grid.state}: a queue holds the replies that are there. Wait for it (g.wait()), then rate.")
    for name in ("text", "prompt"):
        if columns[name] is not None:
            raise BadInput(f"{name}= names a column of plain rows; a grid has its own replies and prompts.")
    cells = _cells(grid)
    named = rate_grid.chosen(mode, cells, **sides)
    table, request = _known(grid)
    if table is None and (columns["source"] or isinstance(columns["gold"], str) or isinstance(columns["suggestions"], str)):
        raise BadInput("the rows of this grid are not at hand. Call lab.grid(...) with the same arguments first: nothing is asked again.")
    expected, ident = grid.dataset.get("expected"), getattr(grid, "grid_id", None)
    source = rate_rows.source_columns(table, columns["source"]) if table else ()
    wanted = Columns(named, None, source, columns["gold"], columns["suggestions"], (expected,) if expected else ())
    only = None if keys is None else {cell["cell"] for cell in cells if cell["key"] in keys}
    return named, rate_grid.from_grid(cells, named, wanted, table, request, grid=ident, only=only), ident


def _known(grid: Any) -> tuple[Rows | None, Callable[[dict[str, Any]], Request | None]]:
    """The rows of a grid, and what was sent for a cell of it, as far as they are known here."""
    planned = getattr(grid, "_planned", None)
    if planned is not None:
        return planned.plan.rows, lambda cell: planned.plan.request(cell["cell"])
    ledger, dataset = getattr(grid, "_ledger", None), grid.dataset
    record = ledger.grid(grid.grid_id) if ledger is not None else None
    if ledger is None or record is None:
        return None, lambda cell: None
    kept = dict(rows_of(ledger, dataset["digest"]))

    def request(cell: dict[str, Any]) -> Request | None:
        messages, _ = rendered(record["plan"]["prompts"], cell["prompt"], kept.get(cell["row_id"]))
        return Request(messages) if messages else None

    return (Rows(list(kept.values()), list(kept), str(dataset["source"]), dataset["digest"]) if kept else None), request


def _cells(grid: Any) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = grid.records()
    ledger = getattr(grid, "_ledger", None)
    numbers = (
        [found.row.cell for found in ledger.cells(grid.grid_id)] if ledger else list(range(len(lines)))
    )  # a forgotten row leaves a gap
    return [{**line, "cell": number} for line, number in zip(lines, numbers, strict=True)]
