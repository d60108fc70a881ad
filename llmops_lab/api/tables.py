"""What every scored grid shows, running, recorded or read from MLflow: its tables, figures and files."""

from __future__ import annotations

import html
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from llmops_lab.api import plots
from llmops_lab.api.display import literal, money, table
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.escapes import inert
from llmops_lab.flows.export import export, without_surrogates
from llmops_lab.grids.frame import columns


class Tables(ABC):
    """Lines a cell and a (prompt, model), as DataFrames, figures and files."""

    @property
    @abstractmethod
    def state(self) -> str:
        """How the grid stands or ended."""

    @property
    @abstractmethod
    def run_id(self) -> str | None:
        """The id of its MLflow run."""

    @property
    @abstractmethod
    def judges(self) -> list[dict[str, Any]]:
        """Name, plugin, direction and bounds of each scorer."""

    @property
    @abstractmethod
    def dataset(self) -> dict[str, Any]:
        """What is kept of the rows: source, digest, number, columns; and digests of the ids and of the expected values."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """One dict a cell, in plan order."""

    @abstractmethod
    def _lines(self, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One dict a (prompt, model), from the cells of ``records``."""

    @abstractmethod
    def _story(self, cells: list[dict[str, Any]], lines: list[dict[str, Any]]) -> str:
        """How it ended, in a line, as these cells and lines have it."""

    @property
    def scorers(self) -> list[str]:
        """The names of the score columns."""
        return [str(each["name"]) for each in self.judges]

    def frame(self) -> Any:
        """A DataFrame with one line a cell."""
        import pandas

        lines, names = self.records(), columns(self.scorers)
        try:
            return pandas.DataFrame(lines, columns=names)
        except UnicodeEncodeError:  # a lone surrogate, which a text column cannot hold: shown as its escape, as in a file
            return pandas.DataFrame([{name: without_surrogates(value) for name, value in line.items()} for line in lines], columns=names)

    def summary(self) -> Any:
        """A DataFrame with one line a (prompt, model)."""
        import pandas

        return pandas.DataFrame(self._lines(self.records()))

    def export(self, path: str | Path) -> Path:
        """Write the cells to a .csv, .tsv, .json, .jsonl or .parquet file; in the first two no text is run as a formula."""
        return export(self.records(), path)

    def plot(self, scorer: str | None = None, *, kind: str = "scores") -> Any:
        """A plotly figure, one mark a (prompt, model): ``scores`` with intervals, ``cost`` against quality with the frontier, ``latency``.

        ``scorer``: the first, if none is named. Raises BadInput or UnknownName.
        """
        if kind == "latency":
            return plots.latency(self.records())
        if not self.scorers:
            raise BadInput("there is nothing to plot: this grid has no scorer. Try plot(kind='latency').")
        name = scorer or self.scorers[0]
        if name not in self.scorers:
            raise UnknownName("score column", name, self.scorers)
        higher = next(each["higher_is_better"] for each in self.judges if each["name"] == name)
        if kind == "cost":
            return plots.frontier(self._lines(self.records()), name, higher_is_better=higher is not False)
        if kind != "scores":
            raise UnknownName("kind of plot", kind, ("scores", "cost", "latency"))
        return plots.scores(self._lines(self.records()), name)

    def __repr__(self) -> str:
        (plain, _), story = self._shown()
        return f"{plain}\n{story}"

    def _repr_html_(self) -> str:
        (_, page), story = self._shown()
        return literal(f"{page}<p>{html.escape(story)}</p>")

    def _shown(self) -> tuple[tuple[str, str], str]:
        # The cells are read once, so that the table and the line below it tell of the same moment.
        cells = self.records()
        lines = self._lines(cells)
        shown = [_shown(line, self.scorers) for line in lines]
        head = list(dict.fromkeys(name for line in shown for name in line))
        return table(head, [[line.get(name) for name in head] for line in shown]), self._story(cells, lines)


def _shown(line: dict[str, Any], scorers: list[str]) -> dict[str, str]:
    shown = {name: str(line[name]) for name in ("prompt", "model", "n", "n_ok", "n_failed")}
    shown |= {name: str(line[name]) for name in ("n_cancelled", "n_skipped", "n_truncated") if line[name]}
    for name in scorers:
        value = line[name]
        shown[name] = "-" if value is None else f"{value:.3f} [{_bound(line[f'{name}_low'])}, {_bound(line[f'{name}_high'])}]"
        if line[f"{name}_n"] < line["n"]:
            shown[name] += f" ({line[f'{name}_n']} scored)"
    shown["cost_usd"] = "-" if line["cost_usd"] is None else money(line["cost_usd"]).lstrip("$")
    shown["latency_p50"] = "-" if line["latency_p50"] is None else f"{line['latency_p50']:.3f}"
    return shown


def _bound(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "?"  # one value, or one row with repeats, says nothing about its spread


def unscored(cells: list[dict[str, Any]], scorers: list[str]) -> list[str]:
    """For each scorer that left cells with a reply without a score: how many, and what it said of one of them."""
    told = []
    for name in scorers:
        left = [cell for cell in cells if cell["status"] == "ok" and cell[name] is None]
        if left:
            reason = " ".join(next((cell[f"{name}_error"] for cell in left if cell[f"{name}_error"]), "").split())
            told.append(f"{name} left {len(left):,} unscored{f' ({inert(reason)[:120]})' if reason else ''}")
    return told
