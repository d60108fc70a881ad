"""The grid that a person holds: watch it, stop it, resume it, read its tables."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from llmops_lab.api.display import money
from llmops_lab.api.judge import bills
from llmops_lab.api.progress import View, view_for
from llmops_lab.api.tables import Tables
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.escapes import inert
from llmops_lab.flows.ask_again import ask_again
from llmops_lab.flows.estimate_grid import estimate_grid
from llmops_lab.flows.plan_grid import PlannedGrid
from llmops_lab.flows.rendered import rendered
from llmops_lab.flows.run_grid import run_grid
from llmops_lab.flows.tables import cell_table, keep_figures, some_cells, summary_table
from llmops_lab.grids.run import GridRun, Progress
from llmops_lab.records import Estimate, Message
from llmops_lab.scorers._run import has_summary
from llmops_lab.store import pages
from llmops_lab.store.ledger import Ledger
from llmops_lab.store.rows import kept_summary

if TYPE_CHECKING:
    from llmops_lab.api.views._grid_cells import Cells
    from llmops_lab.api.views._grid_detail import Opened
    from llmops_lab.api.views._grid_source import FromLedger

_OPEN = {
    "cancelled": "was cancelled",
    "budget": "stopped before the call that could have passed the budget",
    "unreachable": "got no answer from any call",
    "interrupted": "was interrupted: its process is gone",
}

AT_HAND = 10_000
"""Of a grid with more cells the figures are shown when they were kept, or in a view when it has read them all."""


class Grid(Tables):
    """A grid, running or ended. Its tables come from the ledger, so they show what is on disk and nothing else."""

    def __init__(self, ledger: Ledger, grid: str, planned: PlannedGrid | None = None, progress: Any = None) -> None:
        """``planned`` None: it is recorded, and can only be read."""
        self._ledger, self._planned, self._progress = ledger, planned, progress
        self._runs: list[GridRun] = []
        self._future: Future[str | None] | None = None
        self.grid_id = grid

    @property
    def state(self) -> str:
        """``planned``, ``running``, ``done``, ``cancelled``, ``budget``, ``unreachable``, ``decided``, ``failed`` or ``interrupted``."""
        if self._future is not None and not self._future.done():
            return "running"
        if self._runs and self._runs[-1].problem is not None:
            return self._runs[-1].state  # its end could not be written into the ledger
        return str((self._ledger.grid(self.grid_id) or {"state": "planned"})["state"])

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
        return estimate_grid(self._planned) if self._planned else None

    @property
    def judges(self) -> list[dict[str, Any]]:
        """Name, plugin, direction and bounds of each scorer."""
        record = self._ledger.grid(self.grid_id)
        return list(record["plan"]["judges"]) if record else []

    @property
    def dataset(self) -> dict[str, Any]:
        """What is kept of the rows: source, digest, number, columns; and digests of the ids and of the expected values."""
        record = self._ledger.grid(self.grid_id)
        return dict(record["plan"]["dataset"]) if record else {}

    @property
    def plan(self) -> dict[str, Any]:
        """How the grid was asked, as its record has it: prompts, models, dataset, params, scorers."""
        record = self._ledger.grid(self.grid_id)
        return dict(record["plan"]) if record else {}

    @property
    def maybe_paid_twice(self) -> list[str]:
        """Keys of calls that may have been paid for more than once, from every process that ever ran this grid's cells."""
        return self._ledger.doubted(self.grid_id)

    def start(self) -> Grid:
        """Begin (or go on with) the cells that have no good reply yet; returns at once. Nothing happens while it runs."""
        if self._future is not None and not self._future.done():
            return self
        if self._planned is None:
            raise BadInput(
                "this grid was loaded from the ledger and is read only. Call lab.grid(...) with the same arguments to go on with it."
            )
        self._begun(*run_grid(self._planned))
        return self

    def _begun(self, run: GridRun, future: Future[str | None]) -> None:
        self._runs.append(run)
        self._future = future
        future.add_done_callback(lambda _: self._stir())
        self._stir()

    def again(self, cells: Sequence[int]) -> Grid:
        """Ask these cells anew, by their numbers as ``selected()`` has them; returns at once. They are paid for, recorded and scored.

        A reply that a cell had stays in the ledger, and stands where the new call fails. Raises BadInput where that cannot be done.
        """
        if self._planned is None:
            raise BadInput(self._why_not_again)
        if self.state in ("running", "planned"):
            raise BadInput(f"the grid is still {self.state}. Wait for its end (g.wait()), then ask cells again.")
        wanted = list(dict.fromkeys(cells))
        if not wanted:
            raise BadInput("no cell is named. Say which: g.again(g.selected()['cell']).")
        there = {each["cell"] for each in some_cells(self._ledger, self.grid_id, self.state, wanted)}
        for cell in wanted:
            if cell not in there:
                raise UnknownName("cell", str(cell), [f"0 to {len(self._planned.plan) - 1}"])
        self._begun(*ask_again(self._planned, [int(cell) for cell in wanted], self.state))
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
        if self.state == "running":
            self.wait()
        return self.start().wait()  # whatever the last pass ended with: a full disk may have room by now

    def records(self) -> list[dict[str, Any]]:
        """One dict a cell, in plan order."""
        return cell_table(self._ledger, self.grid_id, self.state)

    def _figures(self) -> tuple[list[dict[str, Any]], list[str]]:
        kept = kept_summary(self._ledger, self.grid_id)
        return (kept["lines"], kept["left"]) if kept else super()._figures()

    def _figures_at_hand(self) -> tuple[list[dict[str, Any]], list[str]] | None:
        if kept_summary(self._ledger, self.grid_id) is None and pages.size(self._ledger, self.grid_id) > AT_HAND:
            return None
        return self._figures()

    def _lines(self, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return summary_table(self._ledger, self.grid_id, cells)

    def _first_failure(self) -> str:
        first = next(self._ledger.cells(self.grid_id, status="failed"), None)
        if first is None or first.outcome is None:
            return ""
        message = " ".join(first.outcome.message.split())
        return inert(f" (row {first.row.row_id}: {first.outcome.error}, {message[:160]}{'...' if len(message) > 160 else ''})")

    def _story(self, lines: list[dict[str, Any]], left: list[str]) -> str:
        state, doubted = self.state, self.maybe_paid_twice
        total, ok, failed = (sum(line[name] for line in lines) for name in ("n", "n_ok", "n_failed"))
        parts = [f"{state}: {ok:,} of {total:,} cells have a reply"]
        if state in _OPEN:
            parts[0] = f"{state}: the grid {_OPEN[state]}; {ok:,} of {total:,} cells have a reply"
        if failed:
            parts.append(f"{failed:,} failed{self._first_failure()}")
        parts += left
        if state == "decided":
            parts.append(f"{total - ok - failed:,} calls were not needed: the first scorer's comparison was decided before")
        if self._runs:
            parts.append(f"{self.calls:,} calls sent, {self.reused:,} cells from the ledger")
        parts.append(money(self.spent) if self._runs and None not in [line["cost_usd"] for line in lines if line["n_ok"]] else "")
        parts += bills(lines, self.scorers)
        if doubted:
            parts.append(f"{len(doubted):,} calls may have been paid twice")
        if ok < total and state == "budget":
            parts.append("the same call with a larger budget asks for the rest")
        elif ok < total and state not in ("decided", "running") and self._planned is not None:
            parts.append("resume() asks for the rest")
        return "; ".join(part for part in parts if part)

    @property
    def _title(self) -> str:
        return str((self._ledger.grid(self.grid_id) or {"name": "grid"})["name"])

    def _keep_figures(self, cells: Cells) -> None:
        from llmops_lab.api.views._grid_figures import lines_of

        plain = not any(has_summary(each["plugin"]) for each in self.judges)  # else a scorer says more than its columns hold
        if plain and self.state not in ("running", "planned") and kept_summary(self._ledger, self.grid_id) is None:
            keep_figures(self._ledger, self.grid_id, *lines_of(cells, self.state))

    @property
    def _why_not_again(self) -> str:
        return "" if self._planned is not None else super()._why_not_again

    def _source(self) -> FromLedger:
        from llmops_lab.api.views._grid_source import FromLedger

        return FromLedger(self._ledger, self.grid_id, self.scorers, self.dataset)

    def _opened(self, number: int) -> Opened:
        from llmops_lab.api.views._grid_detail import opened

        return opened(self._ledger, self.grid_id, number, self.state, self.scorers)

    def _sent(self, opened: Opened, row: Mapping[str, Any] | None) -> tuple[Sequence[Message] | None, str]:
        if self._planned is None:
            return rendered(self.plan["prompts"], opened.line["prompt"], row)
        messages = self._planned.plan.request(opened.number).messages
        return [Message(each.role, self._planned.redact.tree(each.content)) for each in messages], ""

    def _some(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        return some_cells(self._ledger, self.grid_id, self.state, numbers)


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
