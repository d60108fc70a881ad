"""How a job stands, as it truly is: whoever looks settles a job whose process has gone, and wakes the service for one that waits."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.errors import BadInput, StoreError, UnknownName
from llmops_lab.flows import job_service
from llmops_lab.flows.end_job import end_queued
from llmops_lab.flows.reap_jobs import reap
from llmops_lab.jobs.record import RUN_FILE, JobRecord, read_record, write_record
from llmops_lab.settings import Settings
from llmops_lab.store import jobs
from llmops_lab.store._owner import is_here
from llmops_lab.store.jobs import JobRow
from llmops_lab.store.ledger import Ledger, open_ledger


@dataclass(frozen=True, slots=True)
class Seen:
    """A job as it stands. ``row`` is the ledger's, whose state holds; ``record`` is ``run.json``, which may be a moment younger."""

    row: JobRow
    record: JobRecord

    @property
    def folder(self) -> Path:
        """Where its files lie now: a later job that was given the same folder has moved them to ``previous/ID``."""
        folder = Path(self.row.folder)
        with suppress(BadInput):
            kept = folder / "previous" / self.row.id
            return kept if read_record(folder, _file(self.row)).id != self.row.id and kept.is_dir() else folder
        return folder

    @property
    def state(self) -> str:
        """Its state."""
        return self.row.state

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self.row.state not in ("queued", "running")


def look(job: str, settings: Settings) -> Seen:
    """One job. Raises UnknownName (close ids are listed)."""
    ledger = open_ledger(settings)
    row = _settled(ledger, _row(ledger, job), settings)
    return Seen(row, _record(row))


def look_at_all(settings: Settings, limit: int = 20) -> list[Seen]:
    """The newest jobs first."""
    reap(settings)
    ledger = open_ledger(settings)
    rows = [_settled(ledger, row, settings) for row in jobs.listed(ledger, limit=limit)]
    return [Seen(row, _record(row)) for row in rows]


def cancel(job: str, settings: Settings) -> bool:
    """Cancel a job that waits, or ask the process of one that runs to end it. False when it had ended already. Raises UnknownName."""
    ledger = open_ledger(settings)
    row = _row(ledger, job)
    if row.state == "queued" and end_queued(ledger, row, "cancelled", "Cancelled", "cancelled before it began"):
        return True
    return jobs.request_cancel(ledger, job)  # who runs it looks for that every second


def logs(seen: Seen, lines: int | None = None) -> str:
    """What the job has printed so far, errors included; the last lines where a number is given."""
    text = _logged(seen.folder / seen.record.notebook)
    return text if lines is None else "\n".join(deque(text.splitlines(), lines))


def why_waiting(seen: Seen, settings: Settings) -> str:
    """What a queued job waits for, for people; empty when it does not wait."""
    if seen.state != "queued":
        return ""
    ledger = open_ledger(settings)
    before = [job for job in seen.row.spec.get("after") or () if getattr(jobs.get(ledger, job), "state", "") != "succeeded"]
    if before:
        return f"waits for {', '.join(before)}"
    if not seen.row.spec.get("queue"):
        return "waits for the process that submitted it"
    if not _is_ours(seen.row, settings):
        return f"waits for the service of {seen.row.spec['queue']} on {str(seen.row.spec.get('submitter')).rsplit(':', 2)[0]}"
    if not job_service.is_awake(settings):
        return f"waits for the service, which does not start: see service.log in {_settings.home_dir(settings)}"
    running = jobs.listed(ledger, states=["running"], limit=1000)
    if len(running) >= settings.jobs_at_once:
        return f"waits for its turn: {len(running)} running, at most {settings.jobs_at_once} at once"
    gpus = seen.row.spec.get("gpus")
    return f"waits for {gpus} free GPU{'s' if gpus > 1 else ''}" if gpus else "is about to start"


def _row(ledger: Ledger, job: str) -> JobRow:
    row = jobs.get(ledger, job) if isinstance(job, str) else None
    if row is None:
        raise UnknownName("job", str(job), [each.id for each in jobs.listed(ledger, limit=20)])
    return row


def _settled(ledger: Ledger, row: JobRow, settings: Settings) -> JobRow:
    if row.is_orphaned or row.is_abandoned:
        reap(settings)
    elif row.state == "queued" and _is_ours(row, settings) and not job_service.is_awake(settings):
        with suppress(StoreError):  # the job waits on, and its card says for what
            job_service.wake(settings)
    else:
        return row
    return jobs.get(ledger, row.id) or row


def _is_ours(row: JobRow, settings: Settings) -> bool:
    return row.spec.get("queue") == str(_settings.home_dir(settings)) and is_here(str(row.spec.get("submitter")))


def _record(row: JobRow) -> JobRecord:
    """What ``run.json`` says; the ledger's record where that differs in the end, which then is put in its place."""
    record, folder = JobRecord.from_json(row.record), Path(row.folder)
    with suppress(BadInput, StoreError):  # there is none, or no room on the disk yet
        written = read_record(folder, _file(row))
        if written.id != row.id:
            return record
        if written.state == row.state or (row.ended is None and not written.has_ended):
            return written
        if row.ended is not None:
            write_record(folder, record, _file(row))
    return record


def _file(row: JobRow) -> str:
    return str(row.spec.get("file") or RUN_FILE)


def _logged(path: Path) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return "".join(_printed(json.loads(path.read_text("utf-8"))["cells"]))
    return ""


def _printed(cells: Sequence[dict[str, Any]]) -> list[str]:
    found = []
    for output in (output for cell in cells for output in cell.get("outputs", ())):
        if output["output_type"] == "stream":
            found.append(output["text"] if isinstance(output["text"], str) else "".join(output["text"]))
        elif output["output_type"] == "error":
            found.append(f"{output['ename']}: {output['evalue']}\n")
    return found
