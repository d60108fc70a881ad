"""What the command and the magics say about a grid: the estimate before it, and after it verdicts, failures, places, and how to go on."""

from __future__ import annotations

from collections import Counter
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api import calls
from llmops_lab.api.display import duration, money
from llmops_lab.errors import BadInput, ExitCode, LabError, clipped
from llmops_lab.records import Estimate, Verdict
from llmops_lab.stats.verdict import sentence
from llmops_lab.store.ledger import open_ledger

_ENDS = {"budget": ExitCode.BUDGET, "unreachable": ExitCode.UNREACHABLE, "cancelled": ExitCode.CANCELLED, "failed": ExitCode.FAILED}


def estimate_lines(estimate: Estimate) -> list[str]:
    """An estimate for reading, a line for each thing; what is not known is said to be unknown."""
    reused = f" ({estimate.reused:,} cells are answered from the ledger)" if estimate.reused else ""
    return [
        f"cells: {estimate.cells:,}",
        f"calls: {estimate.calls:,}{reused}",
        f"tokens: about {estimate.input_tokens:,} in, at most {estimate.output_tokens:,} out",
        f"cost: {_cost(estimate)}",
        f"time: {_time(estimate)}",
    ]


def estimate_line(estimate: Estimate) -> str:
    """An estimate in one line."""
    reused = f", {estimate.reused:,} from the ledger" if estimate.reused else ""
    return f"{estimate.cells:,} cells: {estimate.calls:,} calls{reused}; cost {_cost(estimate)}; time {_time(estimate)}"


def _cost(estimate: Estimate) -> str:
    if estimate.cost_usd is None:
        return "unknown (no price is set for a model; see [tool.llmops_lab.prices])"
    return f"at most about {money(estimate.cost_usd)}" if estimate.cost_usd else "nothing"


def _time(estimate: Estimate) -> str:
    if not estimate.calls:
        return "moments"
    return "unknown (nothing is recorded of such calls yet)" if estimate.seconds is None else f"about {duration(estimate.seconds)}"


def verdicts(grid: Any) -> list[Verdict]:
    """Every other prompt against the first, on each scorer that has a better direction; models, where there is one prompt only."""
    cells = grid.records()
    by = "prompt" if len({cell["prompt"] for cell in cells}) > 1 else "model"
    names = list(dict.fromkeys(cell[by] for cell in cells))
    found: list[Verdict] = []
    for scorer in grid.scorers if len(names) > 1 else ():
        try:
            if len(names) == 2:
                found.append(calls.compare(grid, a=names[0], b=names[1], scorer=scorer, by=by))
            else:
                found += calls.compare_all(grid, baseline=names[0], scorer=scorer, by=by)
        except BadInput:  # no direction, or no row that has a score on both sides: there is no verdict to give
            continue
    return found


def verdict_lines(grid: Any) -> list[str]:
    """The verdicts as sentences; none while a grid was stopped half-way by a person, an outage or an error."""
    if grid.state in ("cancelled", "unreachable", "failed", "interrupted", "running"):
        return []
    found = verdicts(grid)
    models = {cell["model"] for cell in grid.records()} if found else set()
    prompts = {found[0].a, *(verdict.b for verdict in found)} if found else set()
    mean = f" (each row is the mean over {len(models)} models)" if len(models) > 1 and not prompts <= models else ""
    return [f"verdict: {sentence(verdict)}{mean}" for verdict in found]


def tally(grid: Any) -> Counter[str]:
    """Status -> number of cells. The functions below take it, so that a large grid is read once."""
    return Counter(cell["status"] for cell in grid.records())


def failure_lines(grid: Any, cells: Counter[str]) -> list[str]:
    """What failed: each kind with its count and the message of one of them."""
    if not cells["failed"]:
        return []
    messages: dict[str, str] = {}
    kinds: Counter[str] = Counter()
    for cell in open_ledger(_settings.load()).cells(grid.grid_id, status="failed"):
        if cell.outcome is not None:
            kinds[cell.outcome.error] += 1
            messages.setdefault(cell.outcome.error, f"row {cell.row.row_id}: {cell.outcome.message}")
    return [
        f"failed: {count:,} {kind} (for example {clipped(' '.join(messages[kind].split()), 200)})" for kind, count in kinds.most_common()
    ]


def where_lines(grid: Any, *, track: bool) -> list[str]:
    """How it ended and where it lies."""
    settings = _settings.load()
    done = f"state: {grid.state}; ledger: {open_ledger(settings).place}"
    if grid.run_id:
        return [done, f"MLflow run: {grid.run_id}  ({_place(settings)})"]
    if not track:
        return [done, "MLflow run: none (not tracked)"]
    return [done, f"MLflow run: none yet; it waits in the outbox until {_place(settings)} answers"]


def advice(grid: Any, cells: Counter[str], *, again: str) -> str:
    """How to go on with a grid that is not whole; "" when there is nothing to do. ``again`` says what a person types."""
    whole = sum(cells.values())
    done = f"{cells['ok']:,} of {whole:,} cells are answered and kept."
    if grid.state == "cancelled":
        return f"cancelled: {done} To go on: {again}."
    if grid.state == "unreachable":
        return f"no call got any answer: {done} Is the server running, and its address right? To go on: {again}."
    if grid.state == "budget":
        return f"stopped by the budget before the call that might have passed it: {done} To go on: a higher budget, and {again}."
    if cells["failed"]:
        return f"{cells['failed']:,} of {whole:,} cells failed. To ask those again: {again}."
    return ""


def exit_code(grid: Any, cells: Counter[str]) -> int:
    """The exit code of a grid: 1 for failed cells, 3 for the budget, 4 for no answer at all, 130 for cancelled."""
    if grid.state in _ENDS:
        return int(_ENDS[grid.state])
    return int(ExitCode.FAILED if cells["failed"] else ExitCode.DONE)


def _place(settings: _settings.Settings) -> str:
    from llmops_lab.track import connect

    try:
        return connect.shown(settings)
    except LabError:
        return "MLflow"
