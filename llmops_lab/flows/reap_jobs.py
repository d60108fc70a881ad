"""Jobs whose process is gone are settled by whoever looks: their processes are ended, and how they ended is said everywhere."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from llmops_lab.errors import LabError
from llmops_lab.flows.end_job import end_queued
from llmops_lab.flows.settle_job import settle
from llmops_lab.jobs import notebook, outcome, process
from llmops_lab.jobs.record import RUN_FILE, JobRecord, epoch, read_record
from llmops_lab.settings import Settings
from llmops_lab.store import jobs
from llmops_lab.store._owner import is_here
from llmops_lab.store.jobs import JobRow
from llmops_lab.store.ledger import Ledger, open_ledger


def reap(settings: Settings, *, job: str = "") -> list[JobRecord]:
    """Settle each job (or this one) that is said to run and whose process is gone. Raises StoreError."""
    ledger = open_ledger(settings)
    row = jobs.get(ledger, job) if job else None
    found = ([row] if row else []) if job else jobs.listed(ledger, states=["running", "queued"], limit=10_000)
    for each in found:
        if each.is_abandoned:
            end_queued(ledger, each, "failed", "Killed", "the process that was to run the job ended before it began")
    return [_settled(ledger, settings, row) for row in found if row.is_orphaned and jobs.take_over(ledger, row.id, row.owner)]


def _settled(ledger: Ledger, settings: Settings, row: JobRow) -> JobRecord:
    folder, file = Path(row.folder), str(row.spec.get("file") or RUN_FILE)
    record = JobRecord.from_json(row.record)
    with suppress(LabError):
        if read_record(folder, file).id != row.id:  # a later job's, which has moved this one's files
            folder = folder / "previous" / row.id
        written = read_record(folder, file)
        record = written if written.id == row.id else record
    kernel = process.kernel_of_then(record.kernel_pid, epoch(record.heartbeat)) if is_here(row.owner) else None
    process.end(lambda: process.of_job(row.id, kernel))
    (Path(row.folder) / f".{row.id}.room").unlink(missing_ok=True)
    if not record.has_ended:  # else the end was written, and only the rest could not be told
        ended = outcome.failed("Killed", f"the process that ran the job {_fate(row, record)}", record.cell, code=137)
        record = record.but(state=ended.state, exit_code=ended.exit_code, error=ended.error)
        with suppress(LabError):  # the folder may be gone
            about = {"id": row.id, "template": record.template, "state": ended.state, "attempt": record.attempt, "digests": record.digests}
            about |= {"exit_code": ended.exit_code, "error": ended.error}
            notebook.close(folder / record.notebook, about, ended.error or {})
    return settle(ledger, settings, folder, record, file=file)


def _fate(row: JobRow, record: JobRecord) -> str:
    return "was killed" if is_here(row.owner) else f"on {row.owner.rsplit(':', 2)[0]} has not been heard of since {record.heartbeat}"


def after_death() -> None:
    """What a guard runs when its runner was killed; it says on standard input which job, and with what settings."""
    said = json.loads(sys.stdin.read())
    reap(Settings(**said["settings"]), job=said["job"])
    process.end(lambda: process.of_job(said["job"], None))  # those of one that had been settled elsewhere before
