"""What the side-by-side view may ask: the whole at a glance, a page of rows, one row, the slices."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmops_lab.api.views import _diff_page
from llmops_lab.api.views._view import Answer, recorded_as
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows import diff_slices
from llmops_lab.flows.diff import Pair, mean
from llmops_lab.records import Verdict, nan_as_null
from llmops_lab.stats.verdict import sentence

MOST_ROWS = 200
"""Rows of one page, at most."""
_BINS = 20
_RECORDED_SLICES = 40
_TITLE = 160
_FILTERS: dict[str, Callable[[Pair, int], bool]] = {
    "all": lambda pair, row: True,
    "worse": lambda pair, row: pair.outcome(row) == "worse",
    "better": lambda pair, row: pair.outcome(row) == "better",
    "equal": lambda pair, row: pair.outcome(row) == "equal",
    "flips": lambda pair, row: pair.flips[row] is not None,
    "change": lambda pair, row: pair.flips[row] == "change",
    "noise": lambda pair, row: pair.flips[row] == "noise",
    "unknown": lambda pair, row: (pair.flips[row] or "").startswith("unknown"),
    "different": lambda pair, row: pair.texts[row] == "different",
    "missing": lambda pair, row: pair.outcome(row) == "missing" or pair.texts[row] == "missing",
}
"""Which rows are listed, of a pair."""


class DiffView:
    """The Python side of the view of an ``api.diff.Diff``. What it answers is worked out once: the grids have ended."""

    name = "diff"

    def __init__(self, diff: Any) -> None:
        self._diff, self._compared = diff, diff.compared
        self._searchable: dict[int, str] = {}
        self._methods = {"open": self._open, "rows": self._rows, "row": self._row, "slices": self._slices}

    def call(self, method: str, params: Mapping[str, Any], *, user: str) -> Answer:
        """Answer one call."""
        if method not in self._methods:
            raise UnknownName("method", method, self._methods)
        return Answer(nan_as_null(self._methods[method](params)))

    def listen(self, push: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """There are no events: the grids have ended."""
        return lambda: None

    def page(self) -> tuple[str, str]:
        """The static twin."""
        return _diff_page.page(self._diff)

    def recorded(self, most: int = MOST_ROWS) -> dict[str, Answer]:
        """Answers for a page without a kernel, by ``recorded_as``: the first ``most`` rows of every list, and those rows whole."""
        answers = {"open": self.call("open", {}, user="")}
        lists: list[dict[str, Any]] = []
        for pair in range(len(self._compared.pairs)):
            kept: list[dict[str, Any]] = [{"filter": name} for name in _FILTERS]
            if not self._diff.slices_note:
                told = answers[recorded_as("slices", {"pair": pair})] = self.call("slices", {"pair": pair}, user="")
                kept += [{"filter": "all", "slice": each["at"]} for each in told.data["slices"][:_RECORDED_SLICES]]
            lists += [{"pair": pair, "start": 0, "count": most, **each} for each in kept]
        rows = set[int]()
        for asked in lists:
            listed = answers[recorded_as("rows", asked)] = self.call("rows", asked, user="")
            rows |= {line["row"] for line in listed.data["rows"]}
        return answers | {recorded_as("row", {"row": row}): self.call("row", {"row": row}, user="") for row in sorted(rows)}

    # -- open --------------------------------------------------------------------------------------------------------------
    def _open(self, params: Mapping[str, Any]) -> dict[str, Any]:
        compared, judge = self._compared, self._compared.judge
        return {
            "variants": [self._variant(number) for number in range(len(compared.sides))],
            "by": self._diff.by,
            "scorer": judge and {name: judge[name] for name in ("name", "higher_is_better", "bounds")},
            "edges": self._edges,
            "pairs": [self._pair(number) for number in range(len(compared.pairs))],
            "rows": len(compared.rows),
            "note": compared.note,
            "flips_note": self._diff.flips_note,
            "slices_note": self._diff.slices_note,
            "values_note": "" if self._diff.values else _diff_page.NO_VALUES,
            "replicates": max((len(side.cells[row]) for side in compared.sides for row in compared.rows), default=0),
        }

    def _variant(self, number: int) -> dict[str, Any]:
        side, means = self._compared.sides[number], self._means[number]
        scored = [value for value in means if value is not None]
        edges = self._edges
        counts = [0] * max(0, len(edges) - 1)
        for value in scored:
            counts[_bin(value, edges)] += 1
        replied = sum(any(cell["text"] is not None for cell in side.cells[row]) for row in self._compared.rows)
        asked = self._diff.asked(number)
        return {
            "name": side.name, "mean": sum(scored) / len(scored) if scored else None, "scored": len(scored), "replied": replied,
            "histogram": counts, **asked,
        }  # fmt: skip

    @functools.cached_property
    def _means(self) -> list[list[float | None]]:
        scorer = self._diff.scorer
        return [[mean(side.cells[row], scorer) for row in self._compared.rows] for side in self._compared.sides]

    @functools.cached_property
    def _edges(self) -> list[float]:
        values = [value for means in self._means for value in means if value is not None]
        if not values:
            return []
        if all(pair.binary for pair in self._compared.pairs):
            return [0.0, 0.5, 1.0]
        low, high = min(values), max(values)
        bounds = self._compared.judge and self._compared.judge["bounds"]
        if bounds and math.isfinite(bounds[0]) and math.isfinite(bounds[1]):
            low, high = bounds
        high = high if high > low else low + 1.0
        return [low + (high - low) * at / _BINS for at in range(_BINS + 1)]

    def _pair(self, number: int) -> dict[str, Any]:
        pair, rows = self._compared.pairs[number], range(len(self._compared.rows))
        verdict = self._compared.verdicts[number] if self._compared.verdicts else None
        return {
            "a": pair.a_name, "b": pair.b_name, "verdict": verdict and _verdict(verdict),
            "counts": {name: sum(kept(pair, row) for row in rows) for name, kept in _FILTERS.items()},
        }  # fmt: skip

    # -- rows --------------------------------------------------------------------------------------------------------------
    def _rows(self, params: Mapping[str, Any]) -> dict[str, Any]:
        pair = self._chosen_pair(params)
        start, count = _whole(params, "start", 0), min(MOST_ROWS, _whole(params, "count", 100))
        found = self._listed(params, pair)
        return {"total": len(found), "start": start, "rows": [self._line(pair, row) for row in found[start : start + count]]}

    def _listed(self, params: Mapping[str, Any], pair: Pair) -> list[int]:
        name = params.get("filter", "all")
        if name not in _FILTERS:
            raise UnknownName("filter", str(name), _FILTERS)
        rows = list(range(len(self._compared.rows))) if params.get("sort") == "plan" else pair.order()
        rows = [row for row in rows if _FILTERS[name](pair, row)]
        if params.get("slice") is not None:
            inside = self._slice(params).group.rows
            rows = [row for row in rows if inside[row]]
        words = str(params.get("search") or "").casefold()
        return [row for row in rows if words in self._searched(row)] if words else rows

    def _line(self, pair: Pair, row: int) -> dict[str, Any]:
        row_id, passed = self._compared.rows[row], pair.passed[row]
        return {
            "row": row, "id": row_id, "title": self._title(row_id), "outcome": pair.outcome(row), "a": pair.a[row], "b": pair.b[row],
            "gain": pair.gains[row], "flip": pair.flips[row], "texts": pair.texts[row], "passed": passed and list(passed),
        }  # fmt: skip

    def _title(self, row_id: str) -> str:
        column = self._diff.title_column
        title = str(self._diff.values.get(row_id, {}).get(column) or "") if column else ""
        return " ".join(title[: 2 * _TITLE].split())[:_TITLE]

    def _searched(self, row: int) -> str:
        if row not in self._searchable:
            self._searchable[row] = self._words(self._compared.rows[row])
        return self._searchable[row]

    def _words(self, row_id: str) -> str:
        texts = [cell["text"] or "" for side in self._compared.sides for cell in side.cells[row_id]]
        return "\n".join([row_id, *texts, *(str(value) for value in self._diff.values.get(row_id, {}).values())]).casefold()

    # -- one row -----------------------------------------------------------------------------------------------------------
    def _row(self, params: Mapping[str, Any]) -> dict[str, Any]:
        row = _whole(params, "row", -1)
        if not 0 <= row < len(self._compared.rows):
            raise BadInput(f"there is no row number {row}; rows are counted from 0 to {len(self._compared.rows) - 1}.")
        row_id, scorer = self._compared.rows[row], self._diff.scorer
        values = self._diff.values.get(row_id, {})
        return {
            "row": row,
            "id": row_id,
            "values": [[name, _diff_page.text(value)] for name, value in values.items()],
            "pairs": [self._line(pair, row) for pair in self._compared.pairs],
            "variants": [[_cell(cell, scorer) for cell in side.cells[row_id]] for side in self._compared.sides],
        }

    # -- slices ------------------------------------------------------------------------------------------------------------
    def _slices(self, params: Mapping[str, Any]) -> dict[str, Any]:
        number = self._pair_number(params)
        found = self._diff.found_slices(diff_slices.FDR)
        kept = [(at, one) for at, one in enumerate(found[number]) if one.found or one.group.kind == "metadata"]
        return {
            "level": diff_slices.FDR,
            "tested": sum(one.p_value is not None for each in found for one in each),
            "groups": sum(len(each) for each in found),
            "slices": [{"at": at, **diff_slices.line(one, self._compared), "also": _names(one.also)} for at, one in kept[:MOST_ROWS]],
            "left_out": max(0, len(kept) - MOST_ROWS),
        }

    def _slice(self, params: Mapping[str, Any]) -> Any:
        slices, at = self._diff.found_slices(diff_slices.FDR)[self._pair_number(params)], _whole(params, "slice", -1)
        if not 0 <= at < len(slices):
            raise BadInput(f"there is no slice number {at}.")
        return slices[at]

    def _pair_number(self, params: Mapping[str, Any]) -> int:
        number = _whole(params, "pair", 0)
        if not 0 <= number < len(self._compared.pairs):
            raise BadInput(f"there is no pair number {number}; there are {len(self._compared.pairs)}.")
        return number

    def _chosen_pair(self, params: Mapping[str, Any]) -> Pair:
        pair: Pair = self._compared.pairs[self._pair_number(params)]
        return pair


def _names(groups: Sequence[Any]) -> str:
    shown = "; ".join(each.name for each in groups[:3])
    return f"{shown}; and {len(groups) - 3} more" if len(groups) > 3 else shown


def _verdict(verdict: Verdict) -> dict[str, Any]:
    kept = ("outcome", "delta", "ci_low", "ci_high", "p_value", "n_pairs", "n_missing", "wins", "losses", "ties", "alpha")
    return {"sentence": sentence(verdict), **{name: getattr(verdict, name) for name in kept}}


def _cell(cell: Mapping[str, Any], scorer: str | None) -> dict[str, Any]:
    kept = ("prompt", "model", "replicate", "status", "text", "error", "finish_reason", "latency_s", "cost_usd", "key")
    line = {name: cell.get(name) for name in kept}
    return line | {"score": cell[scorer] if scorer else None, "score_note": cell.get(f"{scorer}_error", "") if scorer else ""}


def _bin(value: float, edges: list[float]) -> int:
    share = (value - edges[0]) / (edges[-1] - edges[0])
    return min(len(edges) - 2, max(0, int(share * (len(edges) - 1))))


def _whole(params: Mapping[str, Any], name: str, default: int) -> int:
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInput(f"{name} is a whole number, not {value!r:.80}.")
    return value
