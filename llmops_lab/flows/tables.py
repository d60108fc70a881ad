"""A grid read back from the ledger: one line a cell, and one line a (prompt, model) with what its scorers add."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab import plugins
from llmops_lab.errors import UnknownName
from llmops_lab.grids.frame import cell_records, summarise
from llmops_lab.records import Score, canonical
from llmops_lab.store.ledger import Ledger

Line = dict[str, Any]


def cell_table(ledger: Ledger, grid: str, state: str) -> list[Line]:
    """One dict a cell, in plan order. ``state`` tells what became of cells without a record."""
    return list(cell_records(ledger, grid, state, _plan(ledger, grid).get("scorers", ())))


def summary_table(ledger: Ledger, grid: str, cells: Sequence[Line]) -> list[Line]:
    """One dict a (prompt, model), from the lines of ``cell_table``; a scorer's own summary (label: F1, ...) follows the counts."""
    plan = _plan(ledger, grid)
    lines = summarise(cells, plan.get("scorers", ()))
    summaries = {each["name"]: found for each in plan.get("judges", ()) if (found := _summary(each["plugin"]))}
    if summaries:
        groups = _scores(ledger, grid, cells, summaries)
        for line in lines:
            for name, summary in summaries.items():
                scores = [score for score in groups.get((line["prompt"], line["model"], name), ()) if score.value is not None]
                extra = _summarised(summary, scores) if scores else {}
                line |= {f"{name}_{key}": value for key, value in extra.items() if f"{name}_{key}" not in line}
    return lines


def _summary(plugin: str) -> Any:
    """What a scorer adds to the summary; None where it adds nothing, or is not installed here."""
    try:
        return getattr(plugins.find("scorers", plugin), "summarise", None) if plugin else None
    except (UnknownName, ImportError):
        return None


def _summarised(summary: Any, scores: Sequence[Score]) -> dict[str, Any]:
    try:
        extra: dict[str, Any] = json.loads(canonical(dict(summary(scores))))  # what no store can hold is as good as an error
        return extra
    except Exception as error:  # a plugin's own code: the rest of the table stands
        return {"summary_error": f"{type(error).__name__}: {error}"}


def _scores(ledger: Ledger, grid: str, cells: Sequence[Line], wanted: Mapping[str, Any]) -> dict[tuple[str, str, str], list[Score]]:
    newest = {(cell, name): score for cell, name, score in ledger.grid_scores(grid) if name in wanted}
    lines = {found.row.cell: line for found, line in zip(ledger.cells(grid), cells, strict=True)}  # a forgotten row leaves a gap
    groups: dict[tuple[str, str, str], list[Score]] = {}
    for (cell, name), score in newest.items():
        groups.setdefault((lines[cell]["prompt"], lines[cell]["model"], name), []).append(score)
    return groups


def _plan(ledger: Ledger, grid: str) -> dict[str, Any]:
    record = ledger.grid(grid)
    return record["plan"] if record else {}
