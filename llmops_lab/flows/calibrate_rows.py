"""Labels out of a table become what a judge can be held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from llmops_lab.flows.calibrate import Case, number
from llmops_lab.grids.rows import Rows
from llmops_lab.records import Reply, Score
from llmops_lab.stats.agreement import Agreement, agreement


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what; the optional ones count only where the table has them."""

    text: str
    label: str
    score: str | None = None
    item: str = "item"
    rater: str = "rater"
    variant: str = "variant"
    expected: str | None = None


def cases(table: Rows, columns: Columns) -> list[Case]:
    """One case an item and variant; several lines of one are several raters. Raises UnknownName for a column that is not there."""
    table.require(columns.label)
    for name in (columns.score or columns.text, columns.expected):
        if name is not None:
            table.require(name)
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row_id, row in zip(table.ids, table.items, strict=True):
        # With its id, under which the judge's call is recorded: a row that is forgotten takes it along.
        found.setdefault((str(row.get(columns.item, row_id)), str(row.get(columns.variant) or "")), []).append({"id": row_id, **row})
    return [_case(item, variant, rows, columns) for (item, variant), rows in found.items()]


def _case(item: str, variant: str, rows: list[Mapping[str, Any]], columns: Columns) -> Case:
    said = tuple(row[columns.label] for row in rows if row.get(columns.label) is not None)
    first = rows[0]
    if columns.score is not None:
        score = first.get(columns.score)
        known = None if score is None or score != score else number(score, "score", "Name the column that holds the judge's: score='...'.")
        return Case(item, variant, said=said, score=known)
    return Case(item, variant, said=said, ask=partial(_asked, first, columns))


def _asked(row: Mapping[str, Any], columns: Columns, judge: Any) -> Score:
    text = row.get(columns.text)
    if text is None:
        return Score(None, reason="this row has no text")
    shown = {name: value for name, value in row.items() if name not in (columns.text, columns.label, columns.rater)}
    score: Score = judge(Reply(str(text), "stop"), row.get(columns.expected) if columns.expected else None, shown)
    return score


def people(table: Rows, columns: Columns, alpha: float) -> Agreement | None:
    """How far the raters of a table agree, where it names them: Krippendorff's alpha, nominal."""
    import pandas

    if columns.rater not in table.columns:
        return None
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row_id, row in zip(table.ids, table.items, strict=True):
        place = (str(row.get(columns.item, row_id)), str(row.get(columns.variant) or ""))
        lines.setdefault(place, {})[str(row.get(columns.rater))] = row.get(columns.label)
    names = list(dict.fromkeys(name for line in lines.values() for name in line))
    if len(names) < 2:
        return None
    filled = [[line.get(name) for name in names] for line in lines.values()]
    return agreement(pandas.DataFrame(filled, columns=names, dtype=object), alpha=alpha)
