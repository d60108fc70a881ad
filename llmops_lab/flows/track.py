"""A finished grid is told to MLflow: one run and the traces worth a look, through the outbox, tried once before the call returns."""

from __future__ import annotations

import itertools
import os
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from llmops_lab.errors import BadInput, StoreError
from llmops_lab.flows.deliver import deliver
from llmops_lab.flows.export import export
from llmops_lab.flows.tables import cell_table, keep_figures, summary_table, unscored
from llmops_lab.records import Request, digest
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings, home_dir
from llmops_lab.store.ledger import CellState, Ledger
from llmops_lab.track import environment
from llmops_lab.track.jobs import JOB_TAG, JOB_VARIABLE

MOST_FAILED_TRACES = 20


def track_grid(ledger: Ledger, settings: Settings, grid: str, request: Callable[[int], Request]) -> str | None:
    """Queue the grid's run and traces, and deliver what waits. Returns the run's id, or None while MLflow is away.

    ``request`` gives what was sent for a cell.
    """
    record = ledger.grid(grid)
    if record is None:
        return None
    ledger.outbox_add("grid", _entry(ledger, settings, record))
    redact = Redactor().tree
    for found in _worth_a_trace(ledger, settings, grid):
        ledger.outbox_add("trace", redact(cell_trace(found, request(found.row.cell), record, settings)))
    deliver(ledger, settings)
    run_id: str | None = (ledger.grid(grid) or record)["run_id"]
    return run_id


def _entry(ledger: Ledger, settings: Settings, record: dict[str, Any]) -> dict[str, Any]:
    grid, plan = record["grid"], record["plan"]
    cells = cell_table(ledger, grid, record["state"])
    summary = summary_table(ledger, grid, cells)
    keep_figures(ledger, grid, summary, unscored(cells, plan["scorers"]))
    folder = home_dir(settings) / "outbox"
    path = folder / f"{grid}-{uuid.uuid4().hex[:8]}.parquet"
    try:
        folder.mkdir(exist_ok=True)
        export(cells, path)
    except (BadInput, OSError) as error:
        message = f"the grid is in the ledger, but its table for MLflow is not written: {error} Run the same again: no call is repeated."
        raise StoreError(message, str(path)) from error
    return {
        "grid": grid,
        "name": record["name"],
        "experiment": settings.experiment,
        "state": record["state"],
        "started": record["started"],
        "ended": record["ended"] or record["started"],
        "params": {k: v for k, v in {**plan["how"], **plan["params"], "scorers": ", ".join(plan["scorers"])}.items() if v is not None},
        "prompts": plan["prompts"],
        "models": plan["models"],
        "judges": plan["judges"],
        "dataset": {**plan["dataset"], "name": plan["dataset"]["source"]},
        "metrics": dict(_metrics(summary, plan["scorers"])),
        "tags": {JOB_TAG: job} if (job := os.environ.get(JOB_VARIABLE)) else {},
        "summary": summary,
        "cells_path": str(path),
        "environment": environment.describe(),
    }


def _metrics(summary: list[dict[str, Any]], scorers: list[str]) -> Iterator[tuple[str, float]]:
    columns = [f"{name}{end}" for name in scorers for end in ("", "_low", "_high", "_n")]
    columns += ["n", "n_ok", "n_failed", "n_truncated", "cost_usd", "latency_p50", "latency_p95"]
    joined = Counter(f"{line['prompt']}/{line['model']}" for line in summary)
    for line in summary:
        variant = f"{line['prompt']}/{line['model']}"
        if joined[variant] > 1:  # "a/b" with "c", and "a" with "b/c": neither may take the other's place
            variant += f"-{digest([line['prompt'], line['model']])[:8]}"
        extra = [name for name, value in line.items() if name not in columns and name.startswith(tuple(f"{each}_" for each in scorers))]
        for column in (*columns, *extra):
            if isinstance(line[column], int | float):
                yield f"{column}/{variant}", line[column]


def _worth_a_trace(ledger: Ledger, settings: Settings, grid: str) -> Iterator[CellState]:
    """Failed cells, up to a limit, and a sample of the others that is the same every time."""
    yield from itertools.islice(ledger.cells(grid, status="failed"), MOST_FAILED_TRACES)
    if settings.trace_sample:
        for each in ledger.cells(grid, status="ok"):
            if random.Random(each.row.key).random() < settings.trace_sample:  # noqa: S311 - a sample, not a secret
                yield each


def cell_trace(found: CellState, request: Request, record: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What ``track.traces.log_trace`` takes for a cell; ``request`` is what was sent, ``record`` the grid's."""
    row, outcome = found.row, found.outcome
    reply = outcome.reply if outcome else None
    ended = found.at or record["started"]
    prompt: dict[str, Any] = next((each for each in record["plan"]["prompts"] if each["label"] == row.prompt), {})
    return {
        "id": f"{record['grid']}:{row.cell}:{ended}",
        "name": f"{record['name']}/{row.prompt}",
        "grid": record["grid"],
        "experiment": settings.experiment,
        "started": ended - (reply.latency_s if reply else 0.0),
        "ended": ended,
        "inputs": [{"role": message.role, "content": message.content} for message in request.messages],
        "params": dict(request.params),
        "output": reply.text if reply else None,
        "finish_reason": reply.finish_reason if reply else None,
        "model": row.model,
        "usage": {"input_tokens": reply.usage.input_tokens, "output_tokens": reply.usage.output_tokens} if reply else None,
        "cost_usd": reply.cost_usd if reply else None,
        "ttft_s": reply.ttft_s if reply else None,
        "status": outcome.status if outcome else "failed",
        "error": outcome.error if outcome else "",
        "message": outcome.message if outcome else "",
        "prompt": {name: prompt.get(name) for name in ("name", "version", "sha256")},
        "tags": {"row_id": row.row_id, "replicate": str(row.replicate), "cell": str(row.cell)},
    }
