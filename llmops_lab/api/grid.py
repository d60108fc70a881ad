"""The grid that a person holds: watch it, stop it, resume it, read its tables."""

from __future__ import annotations

import html
import warnings
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from llmops_lab.api import plots
from llmops_lab.api.progress import View, money, view_for
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows.export import export
from llmops_lab.flows.grid import LiveGrid
from llmops_lab.flows.tables import cell_table, summary_table
from llmops_lab.grids.frame import columns
from llmops_lab.grids.run import GridRun, Progress
from llmops_lab.records import Estimate
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import Ledger

_OPEN = {
    "cancelled": "was cancelled",
    "budget": "stopped before the call that could have passed the budget",
    "unreachable": "got no answer from any call",
    "interrupted": "was interrupted: its process is gone",
}


class Grid:
    """A grid, running or ended. Its tables come from the ledger, so they show what is on disk and nothing else."""

    def __init__(self, ledger: Ledger, grid: str, settings: Settings, live: LiveGrid | None = None, progress: Any = None) -> None:
        self._ledger, self._settings, self._live, self._progress = ledger, settings, live, progress
        self._runs: list[GridRun] = []
        self._future: Future[str | None] | None = None
        self.grid_id = grid

    def __len__(self) -> int:
        """The number of cells."""
        return sum(1 for _ in self._ledger.cells(self.grid_id))

    @property
    def state(self) -> str:
        """``running``, ``done``, ``cancelled``, ``budget``, ``unreachable``, ``decided``, ``failed`` or ``interrupted``."""
        if self._future is not None and not self._future.done():
            return "running"
        if self._runs and self._runs[-1].problem is not None:
            return self._runs[-1].state  # its end could not be written into the ledger
        return str((self._ledger.grid(self.grid_id) or {"state": "running"})["state"])

    @property
    def run_id(self) -> str | None:
        """The id of its MLflow run; None while MLflow has not got it."""
        found = (self._ledger.grid(self.grid_id) or {}).get("run_id")
        return str(found) if found else None

    @property
    def calls(self) -> int:
        """Requests that this object has sent, further tries included; it counts while the grid runs."""
        return sum(run.calls for run in self._runs)

    @property
    def reused(self) -> int:
        """Cells that were answered from the ledger when this object first began."""
        return self._runs[0].reused if self._runs else 0

    @property
    def spent(self) -> float:
        """USD known to be spent by this object; calls without a price are not in it (``summary`` shows them as unknown)."""
        return sum(run.cost_usd for run in self._runs)

    @property
    def estimate(self) -> Estimate | None:
        """Calls, tokens, cost and time as they were expected before the first call; None for a grid that was loaded."""
        return self._live.estimate() if self._live else None

    @property
    def scorers(self) -> list[str]:
        """The names of the score columns."""
        return [str(each["name"]) for each in self.judges]

    @property
    def judges(self) -> list[dict[str, Any]]:
        """Name, plugin, direction and bounds of each scorer."""
        record = self._ledger.grid(self.grid_id)
        return list(record["plan"]["judges"]) if record else []

    @property
    def maybe_paid_twice(self) -> list[str]:
        """Keys of calls that may have been paid for more than once, from every process that ever ran this grid's cells."""
        return self._ledger.doubted(self.grid_id)

    def start(self) -> Grid:
        """Begin (or go on with) the cells that have no good reply yet; returns at once."""
        if self._live is None:
            raise BadInput(
                "this grid was loaded from the ledger and is read only. Call lab.grid(...) with the same arguments to go on with it."
            )
        run, self._future = self._live.start()
        self._runs.append(run)
        return self

    def wait(self) -> Grid:
        """Wait for the end, with progress. An interrupt cancels and keeps what is done. Raises StoreError when the ledger failed."""
        if self._future is None:
            return self
        run, future, view = self._runs[-1], self._future, view_for(self._progress)
        try:
            _watch(run, future, view)
        except KeyboardInterrupt:
            run.cancel()
            _watch(run, future, view)
        if view is not None:
            view.close(run.progress())
        if run.problem is not None:
            raise run.problem
        return self

    def cancel(self) -> None:
        """Stop sending; what is recorded stays, and ``resume`` goes on."""
        if self._future is not None and not self._future.done():
            self._runs[-1].cancel()

    def resume(self) -> Grid:
        """Ask again for every cell that has no good reply, and wait."""
        self.wait()
        return self.start().wait()

    def records(self) -> list[dict[str, Any]]:
        """One dict a cell, in plan order."""
        return cell_table(self._ledger, self.grid_id, self.state)

    def frame(self) -> Any:
        """A DataFrame with one line a cell."""
        import pandas

        return pandas.DataFrame(self.records(), columns=columns(self.scorers))

    def summary(self) -> Any:
        """A DataFrame with one line a (prompt, model)."""
        import pandas

        return pandas.DataFrame(self._summary())

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
            return plots.frontier(self._summary(), name, higher_is_better=higher is not False)
        if kind != "scores":
            raise UnknownName("kind of plot", kind, ("scores", "cost", "latency"))
        return plots.scores(self._summary(), name)

    def _summary(self) -> list[dict[str, Any]]:
        return summary_table(self._ledger, self.grid_id, self.records())

    def _story(self) -> str:
        """How it ended, in a line: never a word more than the ledger knows."""
        lines, state = self._summary(), self.state
        total, ok, failed = (sum(line[name] for line in lines) for name in ("n", "n_ok", "n_failed"))
        parts = [f"{state}: {ok:,} of {total:,} cells have a reply"]
        if state in _OPEN:
            parts[0] = f"{state}: the grid {_OPEN[state]}; {ok:,} of {total:,} cells have a reply"
        if failed:
            parts.append(f"{failed:,} failed")
        if state == "decided":
            parts.append(f"{total - ok - failed:,} calls were not needed: the first scorer's comparison was decided before")
        if self._runs:
            parts.append(f"{self.calls:,} calls sent, {self.reused:,} cells from the ledger")
        parts.append(money(self.spent) if self._runs and None not in [line["cost_usd"] for line in lines if line["n_ok"]] else "")
        if self.maybe_paid_twice:
            parts.append(f"{len(self.maybe_paid_twice):,} calls may have been paid twice")
        if (ok < total and state not in ("decided", "running")) and self._live is not None:
            parts.append("resume() asks for the rest")
        return "; ".join(part for part in parts if part)

    def __repr__(self) -> str:
        shown = [_shown(line, self.scorers) for line in self._summary()]
        head = list(shown[0]) if shown else []
        widths = [max(len(name), *(len(line[name]) for line in shown)) for name in head]
        table = [head, *([line[name] for name in head] for line in shown)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
        return "\n".join([*lines, self._story()])

    def _repr_html_(self) -> str:
        lines = [_shown(line, self.scorers) for line in self._summary()]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in (lines[0] if lines else {}))
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line.values()) + "</tr>" for line in lines)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{html.escape(self._story())}</p>"


def _watch(run: GridRun, future: Future[str | None], view: View | None) -> None:
    if view is None:
        future.result()
        return
    while not future.done():
        _show(view, run.progress())
        try:
            future.result(timeout=0.1)
        except TimeoutError:
            continue
    future.result()


def _show(view: View, progress: Progress) -> None:
    try:
        view.show(progress)
    except Exception as error:  # a view that breaks must not take the grid with it
        warnings.warn(f"the progress of the grid cannot be shown: {type(error).__name__}: {error}", stacklevel=2)


def _shown(line: dict[str, Any], scorers: list[str]) -> dict[str, str]:
    shown = {name: _plain(line[name]) for name in ("prompt", "model", "n", "n_ok", "n_failed")}
    shown |= {name: str(line[name]) for name in ("n_cancelled", "n_skipped", "n_truncated") if line[name]}
    for name in scorers:
        value = line[name]
        shown[name] = "-" if value is None else f"{value:.3f} [{line[f'{name}_low']:.3f}, {line[f'{name}_high']:.3f}]"
        if line[f"{name}_n"] < line["n"]:
            shown[name] += f" ({line[f'{name}_n']} scored)"
    shown["cost_usd"] = "-" if line["cost_usd"] is None else money(line["cost_usd"]).lstrip("$")
    shown["latency_p50"] = "-" if line["latency_p50"] is None else f"{line['latency_p50']:.3f}"
    return shown


def _plain(value: Any) -> str:
    # A label can come out of a file: control characters would reach the terminal.
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))
