"""A job's MLflow run is known now: it is written where the job's record stands."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from llmops_lab.errors import LabError
from llmops_lab.jobs.record import RUN_FILE, JobRecord, read_record, write_record
from llmops_lab.store import jobs
from llmops_lab.store.ledger import Ledger


def link_job(ledger: Ledger, job: str, run_id: str) -> None:
    """Write the run's id into the ledger and into ``run.json``, also where a later job has moved that to ``previous/``."""
    row = jobs.get(ledger, job)
    if row is None:
        return
    record = JobRecord.from_json(row.record).but(mlflow_run_id=run_id)
    jobs.note(ledger, job, record.to_json())
    file, folder = row.spec.get("file") or RUN_FILE, Path(row.folder)
    for place in (folder, folder / "previous" / job):
        with suppress(LabError):
            if read_record(place, file).id == job:
                write_record(place, record, file)
