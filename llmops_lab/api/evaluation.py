"""``lab.evaluation(grid, against=...)``: what a grid says, to be read and to be acted on: verdicts, failures by name, a report, an end."""

from __future__ import annotations

import dataclasses
import functools
import html
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api import calls
from llmops_lab.api.display import WARNING, literal, table
from llmops_lab.api.verdict import Verdict
from llmops_lab.errors import BadInput, BudgetReached, Cancelled, GateFailed, LabError, Unreachable
from llmops_lab.escapes import inert
from llmops_lab.flows.keep_report import keep_report
from llmops_lab.records import nan_as_null
from llmops_lab.store.ledger import open_ledger

LAST = "last"
_WHOLE = ("done", "decided")
_SHOWN_FAILURES = 50
_ENDS: dict[str, type[LabError]] = {"budget": BudgetReached, "unreachable": Unreachable, "cancelled": Cancelled}


def evaluation(grid: Any, against: Any = None, *, baseline: str = "", margin: float | None = None) -> Evaluation:
    """Judge a grid: its prompts (or models) against ``baseline`` (the first, if none is named), and all of it against an earlier grid.

    ``against``: a grid, its MLflow run id or name; ``"last"``: the newest whole grid of the same name before it, if there is one.
    ``margin``: the largest difference that does not matter. Raises UnknownName or BadInput.
    """
    held = grid if hasattr(grid, "records") else calls.load(grid)
    earlier, note = _earlier(held, against)
    return Evaluation(held, earlier, [note] if note else [], baseline, margin)


def _earlier(grid: Any, against: Any) -> tuple[Any, str]:
    if against is None or against == "":
        return None, ""
    if against != LAST:
        return (against if hasattr(against, "records") else calls.load(against)), ""
    ledger = open_ledger(_settings.load())
    own = ledger.grid(_id(grid)) or {"name": "", "started": 0.0}
    found = [
        each["grid"]
        for each in ledger.grids(10_000)
        if each["name"] == own["name"] and each["started"] < own["started"] and each["state"] in _WHOLE
    ]
    if not found:
        return None, f"There is no earlier run called {own['name']!r} to compare with: this one is the first."
    return calls.load(found[0]), ""


class Evaluation:
    """What was found. ``notes``: comparisons that could not be made, and why; ``verdicts`` and ``failures`` say the rest."""

    def __init__(self, grid: Any, against: Any, notes: list[str], baseline: str, margin: float | None) -> None:
        self.grid, self.against, self.notes = grid, against, notes
        self._margin = margin
        self._where: list[str] = []
        self.verdicts = [*self._within(baseline), *self._across()]

    @functools.cached_property
    def cells(self) -> list[dict[str, Any]]:
        """The cells of the grid, as dicts."""
        found: list[dict[str, Any]] = self.grid.records()
        return found

    @property
    def table(self) -> Any:
        """A DataFrame with one line a (prompt, model)."""
        return self.grid.summary()

    @property
    def failures(self) -> Any:
        """A DataFrame with the cells that have no answer or lack a score, and why."""
        import pandas

        return pandas.DataFrame(self._failed(), columns=["prompt", "model", "row_id", "what", "why"])

    @property
    def worse(self) -> list[Verdict]:
        """The verdicts that say worse."""
        return [each for each in self.verdicts if each.outcome == "worse"]

    @property
    def result(self) -> dict[str, Any]:
        """All of it as JSON, for ``lab.job_result``."""
        return {
            "grid": _id(self.grid),
            "run_id": self.grid.run_id,
            "state": self.grid.state,
            "against": None if self.against is None else {"grid": _id(self.against), "run_id": self.against.run_id},
            "dataset": self.grid.dataset.get("digest"),
            "cells": len(self.cells),
            "failed": sum(cell["status"] != "ok" for cell in self.cells),
            "summary": nan_as_null(self.table.to_dict("records")),
            "verdicts": [nan_as_null({**dataclasses.asdict(each), "sentence": each.sentence}) for each in self.verdicts],
            "notes": list(self.notes),
            "report": list(self._where),
        }

    def keep(self) -> Evaluation:
        """Write report.md and report.html into the job's folder and into the grid's MLflow run; what could not be is a note."""
        texts = {"report.md": self.markdown(), "report.html": self._document()}
        self._where, trouble = keep_report(texts, self.grid.run_id, _settings.load())
        self.notes += [f"The report is not in MLflow. {trouble}."] if trouble else []
        return self

    def check(self, *, worse: bool = False) -> Evaluation:
        """Itself, when every cell has an answer. ``worse``: a verdict that says worse fails it, too.

        Raises BudgetReached, Unreachable, Cancelled, LabError for cells without an answer, GateFailed for a worse verdict.
        """
        state, failed = self.grid.state, sum(cell["status"] != "ok" for cell in self.cells)
        if state not in _WHOLE or (failed and state == "done"):
            raise _ENDS.get(state, LabError)(f"the grid is {state}; {failed:,} of {len(self.cells):,} cells have no answer.")
        if worse and self.worse:
            raise GateFailed("; ".join(each.sentence for each in self.worse))
        return self

    def markdown(self) -> str:
        """The report as Markdown; what models and files say stands in it as code, never as markup."""
        head = [f"# {_code(self._title())}", "", *(f"- {line}" for line in self._lines())]
        parts = [("Scores", self._scores()), ("Failures", self._failures())]
        return "\n".join([*head, *(line for title, (names, lines) in parts if lines for line in _section(title, names, lines))]) + "\n"

    # -- what is found -----------------------------------------------------------------------------------------------------
    def _within(self, baseline: str) -> list[Verdict]:
        by = "prompt" if len({cell["prompt"] for cell in self.cells}) > 1 else "model"
        names = list(dict.fromkeys(cell[by] for cell in self.cells))
        first = baseline or names[0]
        if first not in names:
            raise BadInput(f"baseline: no {by} is called {first!r}. Known: {', '.join(names)}.")
        others = [name for name in names if name != first]
        if len(others) > 1 and self._margin is not None:
            self.notes.append("Of three and more, each is judged against the baseline without a margin.")
        found: list[Verdict] = []
        for scorer in self._scorers() if others else ():
            if len(others) == 1:
                found += self._judged(scorer, a=first, b=others[0], by=by)
            else:
                found += self._tried(scorer, lambda name=scorer: calls.compare_all(self.grid, baseline=first, scorer=name, by=by))
        return found

    def _across(self) -> list[Verdict]:
        if self.against is None:
            return []
        known = {(cell["prompt"], cell["model"]) for cell in self.against.records()}
        pairs = list(dict.fromkeys((cell["prompt"], cell["model"]) for cell in self.cells))
        shared = [pair for pair in pairs if pair in known]
        self.notes += [f"{' with '.join(pair)} was not asked before: no comparison." for pair in pairs if pair not in known]
        found: list[Verdict] = []
        for scorer in self._scorers() if shared else ():
            if scorer not in self.against.scorers:
                self.notes.append(f"{scorer} did not score the earlier run: no comparison.")
                continue
            for prompt, model in shared:
                told = f", {prompt} with {model}" if len(shared) > 1 else ""
                found += [
                    Verdict.of(dataclasses.replace(each, a="before", b=f"now{told}"))
                    for each in self._judged(scorer, other=self.against, prompt=prompt, model=model)
                ]
        return found

    def _scorers(self) -> list[str]:
        return [each["name"] for each in self.grid.judges if each["higher_is_better"] is not None]

    def _judged(self, scorer: str, *, other: Any = None, **sides: Any) -> list[Verdict]:
        grids = (self.grid,) if other is None else (other, self.grid)
        return self._tried(scorer, lambda: [calls.compare(*grids, scorer=scorer, margin=self._margin, **sides)])

    def _tried(self, scorer: str, judge: Any) -> list[Verdict]:
        try:
            made: list[Verdict] = judge()
        except BadInput as error:  # too few rows in common, other expected answers, no score on one side
            self.notes.append(f"{scorer}: no verdict. {error}")
            return []
        return made

    def _failed(self) -> list[dict[str, Any]]:
        found = []
        for cell in self.cells:
            where = {name: cell[name] for name in ("prompt", "model", "row_id")}
            if cell["status"] != "ok":
                found.append({**where, "what": cell["status"], "why": cell["error"] or ""})
                continue
            missing = [name for name in self.grid.scorers if cell[name] is None]
            found += [{**where, "what": f"no score of {name}", "why": cell[f"{name}_error"] or ""} for name in missing]
        return found

    # -- how it looks ------------------------------------------------------------------------------------------------------
    def _title(self) -> str:
        record = open_ledger(_settings.load()).grid(_id(self.grid)) or {}
        return str(record.get("name") or _id(self.grid))

    def _lines(self) -> list[str]:
        dataset = self.grid.dataset
        return [
            f"state: {self.grid.state}; {len(self.cells):,} cells; MLflow run {self.grid.run_id or 'none yet'}",
            f"rows: {_code(str(dataset.get('source', '')))}, digest {str(dataset.get('digest', ''))[:12]}",
            *(f"against: {_code(each.run_id or _id(each))}" for each in [self.against] if each is not None),
            *(f"verdict: {_code(each.sentence)}" for each in self.verdicts),
            *(f"note: {_code(each)}" for each in self.notes),
        ]

    def _scores(self) -> tuple[list[str], list[list[object]]]:
        lines = self.table.to_dict("records")
        names = ["prompt", "model", "n", "n_failed", *(end for name in self.grid.scorers for end in (name, f"{name}_low", f"{name}_high"))]
        return names, [[_figure(line.get(name)) for name in names] for line in lines]

    def _failures(self) -> tuple[list[str], list[list[object]]]:
        found = self._failed()
        lines: list[list[object]] = [list(each.values()) for each in found[:_SHOWN_FAILURES]]
        if len(found) > _SHOWN_FAILURES:
            lines.append(["...", "", "", f"{len(found) - _SHOWN_FAILURES:,} more", ""])
        return ["prompt", "model", "row", "what", "why"], lines

    def _page(self) -> tuple[str, str]:
        texts, pages = [inert("\n".join(line.replace("`", "") for line in self._lines()))], []
        for line in self._lines():
            style = f' style="{WARNING}"' if line.startswith("note:") else ""
            pages.append(f"<div{style}>{html.escape(inert(line.replace('`', '')))}</div>")
        for title, (names, lines) in (("Scores", self._scores()), ("Failures", self._failures())):
            if lines:
                plain, page = table(names, lines)
                texts.append(f"{title}\n{plain}")
                pages.append(f"<h4>{title}</h4>{page}")
        return "\n\n".join(texts), literal("".join(pages))

    def _document(self) -> str:
        head = html.escape(inert(self._title()))
        style = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:70rem}td,th{padding:.2em .8em .2em 0}"
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{head}</title>'
            f"<style>{style}</style><h1>{head}</h1>{self._page()[1]}</html>\n"
        )

    def __repr__(self) -> str:
        return self._page()[0]

    def _repr_html_(self) -> str:
        return self._page()[1]


def _id(grid: Any) -> str:
    # One that another machine logged has no line in this ledger, and goes by its run.
    return str(getattr(grid, "grid_id", "") or grid.run_id)


def _figure(value: Any) -> object:
    value = nan_as_null(value)
    return f"{value:.3f}" if isinstance(value, float) else value


def _code(text: str) -> str:
    return "`" + inert(text).replace("`", "'").replace("\n", " ") + "`"


def _section(title: str, names: list[str], lines: list[list[object]]) -> list[str]:
    rows = [["" if value is None else _code(str(value)).replace("|", "\\|") for value in line] for line in lines]
    return ["", f"## {title}", "", f"| {' | '.join(names)} |", "|" + "---|" * len(names), *(f"| {' | '.join(row)} |" for row in rows)]
