"""A job is submitted: all that is known to be wrong is said first; then it has a folder, a record and a line in the ledger."""

from __future__ import annotations

import fcntl
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows.check_job import check
from llmops_lab.flows.reap_jobs import reap
from llmops_lab.flows.settle_job import kept_by
from llmops_lab.jobs.record import NOTEBOOK, RUN_FILE, JobSpec, new_id, now, queued, read_record, write_record
from llmops_lab.settings import Settings
from llmops_lab.store import jobs
from llmops_lab.store.ledger import Ledger, open_ledger


def submit(
    template: str | Path,
    parameters: Mapping[str, Any],
    *,
    kernel: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    gpus: int = 0,
    after: Sequence[str] = (),
    out: str | Path | None = None,
    settings: Settings,
    queue: bool = False,
) -> JobSpec:
    """Record a job as queued. ``queue``: it waits for the project's service; else whoever calls runs it.

    Raises UnknownName, BadInput or MissingExtra for what is known to be wrong; then there is no trace of it.
    """
    checked = check(template, parameters, kernel=kernel, gpus=gpus, settings=settings, pending=bool(after))
    _check_numbers(timeout, retries)
    ledger = open_ledger(settings)
    _check_known(ledger, after)
    job = new_id()
    folder = _folder(out, job, settings)
    spec = JobSpec(
        id=job,
        template=checked.template,
        parameters=dict(checked.parameters),
        folder=folder,
        kernel=checked.kernel,
        timeout=timeout,
        retries=retries,
        gpus=gpus,
        after=tuple(after),
        submitted=now(),
        submitter=ledger.owner,
        cwd=str(Path.cwd()),
    )
    record = queued(spec)
    home = {"queue": str(_settings.home_dir(settings))} if queue else {}
    with alone_in(folder):
        put_away(folder, NOTEBOOK, RUN_FILE, settings)
        shutil.copyfile(checked.path, folder / NOTEBOOK)
        write_record(folder, record)
        jobs.put(ledger, spec.to_json() | home, record.to_json(), name=Path(checked.template).stem)
    return spec


def _check_numbers(timeout: Any, retries: Any) -> None:
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (number and 0 < timeout < math.inf):
        raise BadInput(f"timeout is a number of seconds above 0, or None, not {timeout!r}.")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise BadInput(f"retries is a whole number, 0 or more, not {retries!r}.")


def _check_known(ledger: Ledger, after: Sequence[str]) -> None:
    for job in after:
        if not isinstance(job, str):
            raise BadInput(f"after is a job, the id of one, or a list of these, not {job!r:.60}.")
        if jobs.get(ledger, job) is None:
            raise UnknownName("job", job, [row.id for row in jobs.listed(ledger, limit=10)])


def _folder(out: str | Path | None, job: str, settings: Settings) -> Path:
    """The job's folder, made."""
    if out is not None and not isinstance(out, str | os.PathLike):
        raise BadInput(f"out is a folder: a text or a Path, not {out!r:.60}.")
    folder = Path(out).expanduser().absolute() if out else _settings.home_dir(settings) / "jobs" / job
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be the folder of a job: {error.strerror}. Name another one (out=, --out).") from error
    return folder


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else submits a job into this folder meanwhile."""
    file = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def put_away(folder: Path, page: str, file: str, settings: Settings) -> None:
    """Move an earlier job's notebook, reports and record to ``previous/ID``. Raises BadInput while that job waits or runs."""
    if not ((folder / page).exists() or (folder / file).exists()):
        return
    try:
        earlier = read_record(folder, file).id
    except BadInput:
        earlier = f"unknown-{new_id()}"
    ledger = open_ledger(settings)
    row = jobs.get(ledger, earlier)
    if row is not None and (row.is_orphaned or row.is_abandoned):
        reap(settings, job=earlier)  # later, its end would be written where this job's stands
        row = jobs.get(ledger, earlier)
    if row is not None and row.ended is None:
        raise BadInput(f"{folder} is the folder of the job {earlier}, which is {row.state}. Name another one, or cancel that job first.")
    kept = folder / "previous" / earlier
    try:
        kept.mkdir(parents=True, exist_ok=True)
        for name in (page, *kept_by(settings, earlier), file):  # the record last: until then it says whose files these are
            if (folder / name).exists():
                os.replace(folder / name, kept / name)
    except OSError as error:
        raise BadInput(f"what the job before left in {folder} cannot be moved to {kept}: {error.strerror}.") from error
