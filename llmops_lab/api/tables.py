"""What every scored grid shows, running, recorded or read from MLflow: its tables, figures and files."""

from __future__ import annotations

import functools
import html
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_lab.api import plots, shown
from llmops_lab.api.display import literal, money, table
from llmops_lab.api.export import ENDINGS, export_grid, is_page
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows.export import export, without_surrogates
from llmops_lab.flows.tables import unscored
from llmops_lab.grids.frame import columns
from llmops_lab.records import Message

if TYPE_CHECKING:
    from llmops_lab.api.views._grid_cells import Cells
    from llmops_lab.api.views._grid_detail import Opened
    from llmops_lab.api.views._grid_source import Source
    from llmops_lab.api.views.grid import GridView


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

    @property
    @abstractmethod
    def plan(self) -> dict[str, Any]:
        """How the grid was asked: prompts, models, dataset, params, scorers."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """One dict a cell, in plan order."""

    @abstractmethod
    def _lines(self, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One dict a (prompt, model), from the cells of ``records``."""

    @abstractmethod
    def _story(self, lines: list[dict[str, Any]], left: list[str]) -> str:
        """How it ended, in a line, as these lines have it; ``left`` says what the scorers left unscored."""

    # -- what the view of a grid asks of it --------------------------------------------------------------------------------
    @property
    @abstractmethod
    def _title(self) -> str:
        """What it is called."""

    @abstractmethod
    def _source(self) -> Source:
        """Where its cells are read from."""

    @abstractmethod
    def _opened(self, number: int) -> Opened:
        """One cell with all that is known of it. Raises UnknownName."""

    @abstractmethod
    def _sent(self, opened: Opened, row: Mapping[str, Any] | None) -> tuple[Sequence[Message] | None, str]:
        """What was sent for a cell, or why nobody can say."""

    @abstractmethod
    def _some(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """The lines of these cells, each with its number as ``cell``."""

    @property
    def _why_not_again(self) -> str:
        """Why its cells cannot be asked anew from here; "" where they can."""
        return "This grid was read back. Call lab.grid(...) with the same arguments to go on with it: nothing is asked twice."

    @functools.cached_property
    def _stirred(self) -> threading.Condition:
        return threading.Condition()

    def _wait_for_work(self, stopped: threading.Event) -> None:
        """Return when something may change again: ``_stir`` was called, or a minute has passed (another process may go on with it)."""
        with self._stirred:
            if not stopped.is_set() and self.state != "running":
                self._stirred.wait(60)

    def _stir(self) -> None:
        """Wake whoever waits for work."""
        with self._stirred:
            self._stirred.notify_all()

    def _keep_figures(self, cells: Cells) -> None:
        """Somebody has read all cells: what they come to may be kept."""
        return

    @functools.cached_property
    def _selection(self) -> list[int]:
        return []

    @functools.cached_property
    def _view(self) -> GridView:
        from llmops_lab.api.views.grid import GridView

        if self.state == "planned":
            raise BadInput("this grid has not begun, so it has no cells to show. g.start() begins it.")
        return GridView(self)

    def show(self) -> GridView:
        """Show the cells as a table to look through: sort, filter, group, open one. Returns the view. Raises BadInput before it began."""
        shown.show(self._view, of=self)
        return self._view

    def _display_again(self) -> None:
        shown.display(self._view, of=self)

    def selected(self) -> Any:
        """A DataFrame of the cells that are selected in the view, one line a cell; ``cell`` is its number in the grid."""
        import pandas

        return pandas.DataFrame(self._some(self._selection), columns=["cell", *columns(self.scorers)])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.state == "planned":
            return {"text/plain": repr(self), "text/html": self._repr_html_()}, {}
        return shown.mimebundle(self._view)

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
        """Write the cells to a .csv, .tsv, .json, .jsonl or .parquet file; in the first two no text is run as a formula.

        To a .html file goes a page to be read, which opens from disk and sorts and filters without a kernel.
        """
        if is_page(path):
            return export_grid(self._view, path)
        return export(self.records(), path, also=ENDINGS[:1])

    def plot(self, scorer: str | None = None, *, kind: str = "scores") -> Any:
        """A plotly figure, one mark a (prompt, model): ``scores`` with intervals, ``cost`` against quality with the frontier, ``latency``.

        ``scorer``: the first, if none is named. Raises BadInput or UnknownName.
        """
        if kind == "latency":
            return plots.latency(self.records())
        if not self.scorers:
            raise BadInput("there is nothing to plot: this grid has no scorer. Try plot(kind='latency').")
        name = scorer or self.scorers[0]
        higher = judge_of(self, name)["higher_is_better"]
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
        return self._laid_out(*self._figures())

    def _laid_out(self, lines: list[dict[str, Any]], left: list[str]) -> tuple[tuple[str, str], str]:
        """The figures as a table, in text and in HTML, and how the grid ended."""
        texts = [_shown(line, self.scorers) for line in lines]
        head = list(dict.fromkeys(name for line in texts for name in line))
        return table(head, [[line.get(name) for name in head] for line in texts]), self._story(lines, left)

    def _figures(self) -> tuple[list[dict[str, Any]], list[str]]:
        """One dict a (prompt, model), and what the scorers left unscored."""
        cells = self.records()
        return self._lines(cells), unscored(cells, self.scorers)

    def _figures_at_hand(self) -> tuple[list[dict[str, Any]], list[str]] | None:
        """The same, or None where every cell of a large grid would have to be read for it."""
        return self._figures()


def judge_of(grid: Any, scorer: str) -> dict[str, Any]:
    """What is known of a score column of a grid: name, plugin, direction and bounds. Raises UnknownName."""
    if scorer not in grid.scorers:
        raise UnknownName("score column", scorer, grid.scorers)
    return next(dict(each) for each in grid.judges if each["name"] == scorer)


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
