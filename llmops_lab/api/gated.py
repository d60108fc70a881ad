"""The gate that a person holds: what it decided on each suite and why, the rows behind it, and a figure."""

from __future__ import annotations

import html
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.api.display import literal, table
from llmops_lab.errors import GateFailed, UnknownName
from llmops_lab.escapes import inert
from llmops_lab.governance.gate import GateResult, SuiteResult, to_dict

_COLOURS = {True: "var(--jp-success-color0,#1a7f37)", False: "var(--jp-error-color1,#cf222e)"}


class Gate:
    """What ``lab.gate`` found. ``result`` is the record that is kept as evidence; ``check()`` raises GateFailed where it failed."""

    def __init__(self, result: GateResult, grids: Mapping[str, Sequence[Any]]) -> None:
        """``grids``: suite -> the candidate's grid, and the champion's where there was one."""
        self.result = result
        self._grids = grids

    @property
    def passed(self) -> bool:
        """Whether the candidate may go on."""
        return self.result.passed

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it may not, a line for each suite that failed or is missing."""
        return self.result.reasons

    @property
    def compared(self) -> bool:
        """Whether a suite has a verdict, and ``figure()`` something to show."""
        return any(each.measured.verdict is not None for each in self.result.suites)

    @property
    def digest(self) -> str:
        """The digest of the content that stood at the gate: a promotion compares it."""
        return self.result.digest

    @property
    def evidence(self) -> dict[str, Any]:
        """The record as plain data, as it is kept."""
        return to_dict(self.result)

    def check(self) -> Gate:
        """Raise GateFailed with every reason, or return the gate."""
        if not self.passed:
            raise GateFailed(f"{inert(self.result.candidate.name)} did not pass: {inert('; '.join(self.reasons))}")
        return self

    def file(self, name: str, version: int | str) -> Gate:
        """Let the result speak for a registered version as well, when that has the content that stood here. Raises BadInput when not."""
        from llmops_lab import settings as _settings
        from llmops_lab.flows import gate as flow
        from llmops_lab.store.ledger import open_ledger

        settings = _settings.load()
        filed = flow.file(self.result, name, version, ledger=open_ledger(settings), settings=settings)
        return Gate(filed, self._grids)

    def rows(self, suite: str | None = None) -> list[dict[str, Any]]:
        """The rows that count against the candidate: without a score on a side, or scored worse than the champion; the worst first."""
        found: list[dict[str, Any]] = []
        for each in self._wanted(suite):
            found += _against(each, self._grids[each.suite.name])
        return found

    def diff(self, suite: str | None = None) -> Any:
        """Champion and candidate side by side on a suite's rows. Raises UnknownName; needs a champion."""
        each = self._wanted(suite)[0]
        grids = self._grids[each.suite.name]
        if len(grids) < 2:
            raise UnknownName("champion", "champion", [], "This gate had none, so there is nothing to set beside the candidate.")
        return importlib.import_module("llmops_lab.api.diff").diff(grids[1], grids[0], scorer=each.suite.scorer)

    def figure(self) -> Any:
        """The difference of each suite with its interval, and the margin up to which a loss is borne."""
        return importlib.import_module("llmops_lab.api.plots").differences(self.result.suites)

    def _wanted(self, suite: str | None) -> list[SuiteResult]:
        if suite is None:
            return list(self.result.suites)
        found = [each for each in self.result.suites if each.suite.name == suite]
        if not found:
            raise UnknownName("suite", suite, [each.suite.name for each in self.result.suites])
        return found

    @property
    def _head(self) -> str:
        result = self.result
        against = f" against {result.champion.name}" if result.champion else ", which has no champion to stand against,"
        what = f"{result.candidate.name}{against}{f' for {result.alias}' if result.alias else ''}"
        return inert(f"gate {'passed' if self.passed else 'failed'}: {what}")

    def _table(self) -> tuple[str, str]:
        lines = [_line(each) for each in self.result.suites]
        lines += [[name, "missing", "", "", "", "", "required and not run"] for name in self.result.missing]
        return table(["suite", "passed", "verdict", "champion", "candidate", "rows", "reason"], lines)

    def __repr__(self) -> str:
        return f"{self._head}\n{self._table()[0]}"

    def _repr_html_(self) -> str:
        head, _, rest = html.escape(self._head).partition(":")
        return literal(f'<p><b style="color: {_COLOURS[self.passed]}">{head}</b>:{rest}</p>{self._table()[1]}')


def _line(each: SuiteResult) -> list[object]:
    found = each.measured
    before = found.verdict.mean_a if found.verdict else None
    scored = f"{found.scored:,}" + (f" of {found.rows:,}" if found.scored < found.rows else "")
    return [each.suite.name, "yes" if each.passed else "no", each.outcome, _number(before), _number(found.mean), scored, each.reason]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _against(each: SuiteResult, grids: Sequence[Any]) -> list[dict[str, Any]]:
    scorer, up = each.suite.scorer, each.measured.higher_is_better
    by_row = [{cell["row_id"]: cell for cell in grid.records()} for grid in grids]
    found: list[tuple[float, dict[str, Any]]] = []
    for row, mine in by_row[0].items():
        theirs = by_row[1].get(row, {}) if len(by_row) > 1 else {}
        was, now = theirs.get(scorer), mine[scorer]
        unscored = now is None or (len(by_row) > 1 and was is None)
        loss = 0.0 if unscored or was is None else (float(was) - float(now)) * (1 if up else -1)
        if unscored or loss > 0:
            line = {"suite": each.suite.name, "row_id": row, "why": _why(mine, theirs, scorer) if unscored else "worse"}
            line |= {"champion": was, "candidate": now, "champion_text": theirs.get("text"), "candidate_text": mine.get("text")}
            found.append((float("inf") if unscored else loss, line))
    return [line for _, line in sorted(found, key=lambda pair: -pair[0])]


def _why(mine: Mapping[str, Any], theirs: Mapping[str, Any], scorer: str) -> str:
    for name, cell in (("candidate", mine), ("champion", theirs)):
        if cell and cell[scorer] is None:
            return f"{name} has no score: {cell.get('error') or cell.get(f'{scorer}_error') or cell['status']}"
    return "no score"
