"""A grid read back from the ledger: one line a cell, and one line a (prompt, model) with what its scorers add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.escapes import inert
from llmops_lab.grids.frame import cell_record, cell_records, summarise
from llmops_lab.records import Score
from llmops_lab.scorers._run import has_summary
from llmops_lab.scorers._run import summarise as scorer_summary
from llmops_lab.store import pages
from llmops_lab.store.ledger import CellState, Ledger
from llmops_lab.store.rows import keep_summary

Line = dict[str, Any]


def cell_table(ledger: Ledger, grid: str, state: str) -> list[Line]:
    """One dict a cell, in plan order. ``state`` tells what became of cells without a record."""
    return list(cell_records(ledger, grid, state, _plan(ledger, grid).get("scorers", ())))


def summary_table(ledger: Ledger, grid: str, cells: Sequence[Line]) -> list[Line]:
    """One dict a (prompt, model), from the lines of ``cell_table``; a scorer's own summary (label: F1, ...) follows the counts."""
    plan = _plan(ledger, grid)
    lines = summarise(cells, plan.get("scorers", ()))
    judges = {each["name"]: each["plugin"] for each in plan.get("judges", ()) if has_summary(each["plugin"])}
    if judges:
        groups = _scores(ledger, grid, cells, judges)
        for line in lines:
            for name, plugin in judges.items():
                extra = scorer_summary(plugin, groups.get((line["prompt"], line["model"], name), ()))
                line |= {f"{name}_{key}": value for key, value in extra.items() if f"{name}_{key}" not in line}
    return lines


def unscored(cells: Sequence[Line], scorers: Sequence[str]) -> list[str]:
    """For each scorer that left cells with a reply without a score: how many, and what it said of one of them."""
    told = []
    for name in scorers:
        left = [cell for cell in cells if cell["status"] == "ok" and cell[name] is None]
        if left:
            told.append(left_unscored(name, len(left), next((cell[f"{name}_error"] for cell in left if cell[f"{name}_error"]), "")))
    return told


def left_unscored(scorer: str, number: int, said: str) -> str:
    """That a scorer left so many cells without a score, and what it said of one."""
    reason = " ".join(said.split())
    return f"{scorer} left {number:,} unscored{f' ({inert(reason)[:120]})' if reason else ''}"


def keep_figures(ledger: Ledger, grid: str, lines: Sequence[Line], left: Sequence[str]) -> None:
    """Record what a grid that ended came to, so that it is shown without reading its cells."""
    record = ledger.grid(grid)
    if record and record["ended"] is not None:
        keep_summary(ledger, grid, record["ended"], {"lines": lines, "left": left})


def some_cells(ledger: Ledger, grid: str, state: str, numbers: Sequence[int]) -> list[Line]:
    """The lines of the cells with these numbers, each with its number as ``cell``; those that are not there (any more) are left out."""
    found = [each for each in (pages.cell(ledger, grid, number) for number in dict.fromkeys(numbers)) if each is not None]
    return [{"cell": each.row.cell, **line} for each, line in zip(found, _lines(ledger, grid, state, found), strict=True)]


def _lines(ledger: Ledger, grid: str, state: str, found: Sequence[CellState]) -> list[Line]:
    scorers, lines = _plan(ledger, grid).get("scorers", ()), []
    for each in found:
        scores = pages.scores_of(ledger, grid, each.row.cell, each.row.cell)
        lines.append(cell_record(each, {name: score for (_, name), score in scores.items()}, state, scorers))
    return lines


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
