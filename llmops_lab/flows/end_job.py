"""A job that never began is ended: in the ledger first, where of two who try one wins, then in its folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from llmops_lab.errors import ExitCode, LabError
from llmops_lab.jobs.record import RUN_FILE, JobRecord, now, read_record, write_record
from llmops_lab.store import jobs
from llmops_lab.store.jobs import JobRow
from llmops_lab.store.ledger import Ledger


def end_queued(ledger: Ledger, row: JobRow, state: str, type: str, message: str) -> bool:
    """End a queued job as ``cancelled`` or ``failed``; False when it is queued no longer."""
    code = ExitCode.CANCELLED if state == "cancelled" else ExitCode.FAILED
    error = {"type": type, "message": message, "cell": None}
    record = JobRecord.from_json(row.record).but(state=state, exit_code=int(code), error=error, ended=now())
    if not jobs.transition(ledger, row.id, "queued", state, record=record.to_json(), ended=True):
        return False
    folder, file = Path(row.folder), str(row.spec.get("file") or RUN_FILE)
    with suppress(LabError):  # the folder may be gone, or another job's by now; the ledger has the same
        if read_record(folder, file).id == row.id:
            write_record(folder, record, file)
    return True
