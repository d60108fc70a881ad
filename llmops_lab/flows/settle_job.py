"""How a job ended is said everywhere: ``run.json``, the ledger, the outbox in the same step, and MLflow as soon as it answers."""

from __future__ import annotations

import json
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from llmops_lab.errors import StoreError
from llmops_lab.flows.deliver import deliver
from llmops_lab.jobs.lean import loading
from llmops_lab.jobs.record import RUN_FILE, JobRecord, epoch, now, write_record
from llmops_lab.records import canonical
from llmops_lab.settings import Settings, home_dir
from llmops_lab.store import jobs
from llmops_lab.store.ledger import Ledger
from llmops_lab.track.connect import open_lean

KEPT = "kept.json"
"""In a job's side folder: what it has written beside its notebook."""


def settle(
    ledger: Ledger, settings: Settings, folder: Path, record: JobRecord, *, file: str = RUN_FILE, name: str = "", alone: bool = False
) -> JobRecord:
    """Record the end of a job of this process; whoever is second changes nothing. Returns how it ended in truth, with its MLflow run
    where that could be told. ``alone``: this process has nothing but its job.

    Raises StoreError when the ledger cannot be written; ``run.json`` then holds the truth, and whoever looks next settles it.
    """
    ended = record.but(ended=record.ended or now(), cell=None, kernel_pid=None, heartbeat=now())
    if _is_mine(ledger, ended.id):
        with suppress(StoreError):  # the folder may be gone; the ledger has the same
            write_record(folder, ended, file)
    if jobs.settle(ledger, ended.id, ended.state, ended.to_json(), _entry(settings, folder, ended, name)):
        tell_mlflow(ledger, settings, alone=alone)
    row = jobs.get(ledger, ended.id)
    return JobRecord.from_json(row.record) if row else ended


def _is_mine(ledger: Ledger, job: str) -> bool:
    try:
        return jobs.wish(ledger, job) != "lost"
    except StoreError:  # the ledger is away: as far as is known
        return True


def tell_mlflow(ledger: Ledger, settings: Settings, *, alone: bool = False) -> None:
    """Deliver what waits. Never raises for trouble with MLflow: it goes on waiting.

    ``alone``: this process ends with its job, so it loads no more of MLflow than that takes, with the collector at rest.
    """
    with suppress(StoreError), loading() if alone else nullcontext():
        if alone and all(kind == "job" for _, kind, _ in ledger.outbox_pending()):
            open_lean(settings)
        deliver(ledger, settings)


def side_folder(settings: Settings, job: str) -> Path:
    """Where what is kept about a job lies beside its output; made when it is missing."""
    folder = home_dir(settings) / "jobs" / job
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def kept_by(settings: Settings, job: str) -> list[str]:
    """The names of the files that a job has written beside its notebook."""
    with suppress(OSError, ValueError):
        names = json.loads((home_dir(settings) / "jobs" / job / KEPT).read_text("utf-8"))
        return [name for name in names if isinstance(name, str) and name == Path(name).name]
    return []


def _entry(settings: Settings, folder: Path, record: JobRecord, name: str) -> tuple[str, str]:
    environment: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        environment = json.loads((side_folder(settings, record.id) / "environment.json").read_text("utf-8"))
    notebook = folder / record.notebook
    return "job", canonical(
        {
            "job": record.id,
            "name": name or Path(record.template).stem,
            "record": record.to_json(),
            "started": epoch(record.started or record.submitted or record.ended),
            "ended": epoch(record.ended),
            "experiment": settings.experiment,
            "environment": environment,
            "notebook": [str(notebook), str(notebook.parent / "previous" / record.id / notebook.name)],
        }
    )
