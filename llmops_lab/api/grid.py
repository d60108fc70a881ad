"""The grid that a person holds: watch it, stop it, resume it, read its tables."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows.grid import LiveGrid
from llmops_lab.flows.track import track_grid
from llmops_lab.grids.frame import CELL_COLUMNS, cell_records, summarise
from llmops_lab.grids.run import GridRun, Progress
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import Ledger


class Grid:
    """A grid, running or ended. Its tables come from the ledger, so they show what is on disk and nothing else."""

    def __init__(self, ledger: Ledger, grid: str, settings: Settings, live: LiveGrid | None = None, *, track: bool = True) -> None:
        self._ledger, self._settings, self._live, self._track = ledger, settings, live, track
        self._run: GridRun | None = None
        self._future: Future[str] | None = None
        self._last: GridRun | None = None
        self._lock = threading.Lock()
        self.grid_id = grid
        self.calls = self.reused = 0
        self.spent = 0.0
        self.run_id: str | None = (ledger.grid(grid) or {}).get("run_id")

    @property
    def state(self) -> str:
        """``running``, ``done``, ``cancelled``, ``budget``, ``unreachable``, ``decided``, ``failed`` or ``interrupted``."""
        if self._run is not None and self._future is not None and not self._future.done():
            return "running"
        if self._last is not None and (self._last.problem is not None or self._run is not None):
            return self._last.state  # ended, but not (or never to be) written into the ledger
        return str((self._ledger.grid(self.grid_id) or {"state": "running"})["state"])

    @property
    def scorers(self) -> list[str]:
        """The names of the score columns."""
        record = self._ledger.grid(self.grid_id)
        return list(record["plan"]["scorers"]) if record else []

    @property
    def maybe_paid_twice(self) -> list[str]:
        """Keys of calls that may have been paid for more than once, from every process that ever ran this grid's cells."""
        return self._ledger.doubted(self.grid_id)

    def start(self, sink: Callable[[Progress], None] | None = None) -> Grid:
        """Begin (or go on with) the cells that have no good reply yet; returns at once."""
        if self._live is None:
            raise BadInput(
                "this grid was loaded from the ledger and is read only. Call lab.grid(...) with the same arguments to go on with it."
            )
        with self._lock:
            self._run, self._future = self._live.start(sink)
            self._last = self._run
        return self

    def wait(self) -> Grid:
        """Wait for the end. An interrupt cancels the grid and keeps what is done. Raises StoreError when the ledger failed."""
        if self._future is None or self._run is None:
            return self
        run, future = self._run, self._future
        try:
            future.result()
        except KeyboardInterrupt:
            run.cancel()
            future.result()
        self._finish(run)
        return self

    def _finish(self, run: GridRun) -> None:
        with self._lock:
            if self._run is not run:
                return
            self._run = self._future = None
        self.calls, self.reused, self.spent = self.calls + run.calls, run.reused, self.spent + run.cost_usd
        if run.problem is not None:
            raise run.problem
        self._ledger.end(self.grid_id, run.state)
        if self._track:
            cells = self.records()
            summary = summarise(cells, self.scorers)
            self.run_id = track_grid(self._ledger, self._settings, self.grid_id, cells=cells, summary=summary, state=run.state)

    def cancel(self) -> None:
        """Stop sending; what is recorded stays."""
        if self._run is not None:
            self._run.cancel()

    def resume(self) -> Grid:
        """Ask again for every cell that has no good reply, and wait."""
        self.wait()
        return self.start().wait()

    def records(self) -> list[dict[str, Any]]:
        """One dict a cell, in plan order."""
        return list(cell_records(self._ledger, self.grid_id, self.state, self.scorers))

    def frame(self) -> Any:
        """A DataFrame with one line a cell."""
        import pandas

        columns = [name for scorer in self.scorers for name in (scorer, f"{scorer}_error")]
        return pandas.DataFrame(self.records(), columns=[*CELL_COLUMNS[:6], *columns, *CELL_COLUMNS[6:]])

    def summary(self) -> Any:
        """A DataFrame with one line a (prompt, model)."""
        import pandas

        return pandas.DataFrame(summarise(self.records(), self.scorers))

    def plot(self, scorer: str | None = None) -> Any:
        """A plotly figure: the mean of one scorer (the first, if none is named) with its interval, a bar for each prompt and model."""
        import plotly.graph_objects as figures

        if not self.scorers:
            raise BadInput("there is nothing to plot: this grid has no scorer.")
        name = scorer or self.scorers[0]
        if name not in self.scorers:
            raise UnknownName("score column", name, self.scorers)
        lines = [line for line in summarise(self.records(), self.scorers) if line[name] is not None]
        up = [line[f"{name}_high"] - line[name] for line in lines]
        down = [line[name] - line[f"{name}_low"] for line in lines]
        bar = figures.Bar(
            x=[f"{line['prompt']} / {line['model']}" for line in lines],
            y=[line[name] for line in lines],
            error_y={"type": "data", "symmetric": False, "array": up, "arrayminus": down},
        )
        return figures.Figure([bar], {"yaxis": {"title": {"text": f"{name}, 95 % interval"}}})

    def __repr__(self) -> str:
        lines = summarise(self.records(), self.scorers)
        shown = [_shown(line, self.scorers) for line in lines]
        head = list(shown[0]) if shown else []
        widths = [max(len(name), *(len(line[name]) for line in shown)) for name in head]
        table = [head, *([line[name] for name in head] for line in shown)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table)

    def _repr_html_(self) -> str:
        lines = [_shown(line, self.scorers) for line in summarise(self.records(), self.scorers)]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in (lines[0] if lines else {}))
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line.values()) + "</tr>" for line in lines)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>state: {html.escape(self.state)}</p>"


def _shown(line: dict[str, Any], scorers: list[str]) -> dict[str, str]:
    shown = {name: str(line[name]) for name in ("prompt", "model", "n", "n_ok", "n_failed")}
    for name in scorers:
        value = line[name]
        shown[name] = "-" if value is None else f"{value:.3f} [{line[f'{name}_low']:.3f}, {line[f'{name}_high']:.3f}]"
        if line[f"{name}_n"] < line["n"]:
            shown[name] += f" ({line[f'{name}_n']} scored)"
    shown["cost_usd"] = "-" if line["cost_usd"] is None else f"{line['cost_usd']:.4f}"
    shown["latency_p50"] = "-" if line["latency_p50"] is None else f"{line['latency_p50']:.3f}"
    return shown
