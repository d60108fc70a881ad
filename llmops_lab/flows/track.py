"""A finished grid is told to MLflow: one run, through the outbox, tried once before the call returns."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.settings import Settings, home_dir
from llmops_lab.store.ledger import Ledger
from llmops_lab.track import environment, outbox


def track_grid(
    ledger: Ledger, settings: Settings, grid: str, *, cells: Sequence[Mapping[str, Any]], summary: Sequence[Mapping[str, Any]], state: str
) -> str | None:
    """Queue the grid's entry and deliver what waits. Returns the run's id, or None while MLflow is away."""
    import pandas

    record = ledger.grid(grid)
    if record is None:
        return None
    folder = home_dir(settings) / "outbox"
    folder.mkdir(exist_ok=True)
    path = folder / f"{grid}-{uuid.uuid4().hex[:8]}.parquet"
    pandas.DataFrame(list(cells)).to_parquet(path)
    plan = record["plan"]
    columns = [f"{name}{end}" for name in plan["scorers"] for end in ("", "_low", "_high")]
    lines = [(f"{column}/{line['prompt']}/{line['model']}", line[column]) for line in summary for column in columns]
    entry = {
        "grid": grid,
        "name": record["name"],
        "experiment": settings.experiment,
        "state": state,
        "started": record["started"],
        "ended": record["ended"] or record["started"],
        "params": {**plan["params"], "scorers": ", ".join(plan["scorers"])},
        "prompts": plan["prompts"],
        "models": plan["models"],
        "dataset": {**plan["dataset"], "name": plan["dataset"]["source"], "columns": []},
        "metrics": {name: value for name, value in lines if value is not None},
        "tags": {},
        "summary": list(summary),
        "cells_path": str(path),
        "environment": environment.describe(),
    }
    number = ledger.outbox_add("grid", entry)
    sent = {ident: remote for ident, remote, _ in outbox.deliver(ledger, settings)}
    run_id = sent.get(number)
    if run_id:
        ledger.linked(grid, run_id)
    return run_id
