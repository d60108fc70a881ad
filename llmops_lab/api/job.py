"""Jobs as a person holds them: started in the background, watched, cancelled, opened again. A job goes on when this kernel does not."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api import shown
from llmops_lab.api.display import literal, note, table
from llmops_lab.errors import BadInput, ExitCode, JobFailed
from llmops_lab.flows import job_service, look_at_job
from llmops_lab.flows.look_at_job import Seen
from llmops_lab.flows.submit_job import submit
from llmops_lab.jobs.record import JobRecord

_CARD = "llmops_lab.api.views.job"  # it holds a job, and so knows this module
_SECONDS_BETWEEN = 0.25


def run(
    template: str | Path,
    /,
    *,
    kernel: str | None = None,
    timeout: float | None = None,
    wait: bool = False,
    retries: int = 0,
    gpus: int = 0,
    after: Job | str | Sequence[Job | str] = (),
    out: str | Path | None = None,
    **parameters: Any,
) -> Job:
    """Start a job in the background: a shipped template by name, or a notebook by its path, with the parameters that it declares.

    ``kernel``: a kernel that is installed here, or ``gateway:NAME``. ``timeout``: seconds for one attempt. ``retries``: further attempts.
    ``gpus``: how many it leases. ``after``: jobs that must have succeeded before it starts. ``out``: its folder. ``wait``: till its end.

    Raises UnknownName or BadInput, before anything starts, for all that is known to be wrong.
    """
    settings = _settings.load()
    before = list(after) if isinstance(after, Sequence) and not isinstance(after, str) else [after]
    ids = [each.id if isinstance(each, Job) else each for each in before]
    spec = submit(
        template, parameters, kernel=kernel, timeout=timeout, retries=retries, gpus=gpus, after=ids, out=out, settings=settings, queue=True
    )
    job_service.wake(settings, spec.id)
    started = Job(spec.id)
    return started.wait() if wait else started


def job(id: str) -> Job:
    """Open a job again by its id. Raises UnknownName."""
    if not isinstance(id, str):
        raise BadInput(f"a job is named by its id, a text, not {id!r:.60}.")
    return Job(id)


def jobs(limit: int = 20) -> Jobs:
    """The newest jobs, as a table. Jobs whose process has gone are given their true end."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise BadInput(f"limit is a whole number above 0, not {limit!r}.")
    return Jobs([Job(seen.row.id, seen) for seen in look_at_job.look_at_all(_settings.load(), limit)])


class Job:
    """A job. All of it lies in its folder and in the ledger, so that any number of kernels may hold the same one."""

    def __init__(self, id: str, seen: Seen | None = None) -> None:
        self.id = id
        self._seen = seen or look_at_job.look(id, _settings.load())

    # -- how it stands -----------------------------------------------------------------------------------------------------
    @property
    def seen(self) -> Seen:
        """How it stands now, as the flows take it."""
        if not (self._seen.has_ended and self._seen.record.mlflow_run_id):  # MLflow hears of the end after the ledger
            self._seen = look_at_job.look(self.id, _settings.load())
        return self._seen

    @property
    def state(self) -> str:
        """queued, running, succeeded, failed, dead_kernel, out_of_memory, timeout, cancelled or gate_failed."""
        return self.seen.state

    @property
    def template(self) -> str:
        """What it runs: the name of a shipped template, or a path."""
        return self._seen.row.template

    @property
    def parameters(self) -> dict[str, Any]:
        """What it was given, defaults included."""
        return dict(self._seen.row.spec["parameters"])

    @property
    def folder(self) -> Path:
        """Where its files lie; ``previous/ID`` of its folder once a later job was given the same one."""
        return self._seen.folder

    @property
    def notebook(self) -> Path:
        """The notebook with what is executed so far; it can be opened at every moment."""
        return self.folder / self._seen.record.notebook

    @property
    def result(self) -> Any:
        """What its template gave to ``lab.job_result``; None when it gave nothing."""
        return self.seen.record.result

    @property
    def run_id(self) -> str | None:
        """The id of its MLflow run; None while MLflow has not got it."""
        return self.seen.record.mlflow_run_id

    @property
    def error(self) -> dict[str, Any] | None:
        """What went wrong: type, message and number of the cell; None where nothing did."""
        return self.seen.record.error

    @property
    def exit_code(self) -> int | None:
        """The exit code of its end, as ``llmops-lab run`` gives it; None while it has not ended."""
        return self.seen.record.exit_code

    def logs(self, lines: int | None = None) -> str:
        """What it has printed so far, errors included; only the last ``lines`` where a number is given."""
        if lines is not None and (isinstance(lines, bool) or not isinstance(lines, int) or lines < 0):
            raise BadInput(f"lines is a whole number, 0 or more, or None, not {lines!r}.")
        return look_at_job.logs(self.seen, lines)

    # -- what can be done --------------------------------------------------------------------------------------------------
    def wait(self, timeout: float | None = None) -> Job:
        """Wait for its end, at most ``timeout`` seconds; returns the job, however it stands then. ``check`` raises where it failed."""
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0):
            raise BadInput(f"timeout is a number of seconds, 0 or more, or None, not {timeout!r}.")
        until = None if timeout is None else time.monotonic() + timeout
        try:
            while not self.seen.has_ended and (until is None or time.monotonic() < until):
                time.sleep(_SECONDS_BETWEEN)
        except KeyboardInterrupt:  # whoever interrupts may believe that this ends the job
            print(f"Nobody waits any more; the job goes on. To end it: lab.job({self.id!r}).cancel()", file=sys.stderr)
            raise
        return self

    def check(self) -> Job:
        """The job, when it has succeeded. Raises JobFailed, with state and exit code, when it ended otherwise; BadInput before its end."""
        seen = self.seen
        if not seen.has_ended:
            raise BadInput(f"the job {self.id} is {seen.state}. Wait for its end first: job.wait().check()")
        if seen.state != "succeeded":
            code = ExitCode(seen.record.exit_code) if seen.record.exit_code in list(ExitCode) else ExitCode.FAILED
            why = story(seen.record)
            raise JobFailed(
                f"the job {self.id} ({Path(self.template).stem}) ended as {seen.state}{why}. See {self.notebook}", seen.state, code
            )
        return self

    def cancel(self) -> Job:
        """End it: at once while it waits; when it runs, all its processes too. A job that has ended stays as it is."""
        look_at_job.cancel(self.id, _settings.load())
        return self

    # -- showing -----------------------------------------------------------------------------------------------------------
    def show(self) -> None:
        """Show the live card; outside of a notebook, a few lines."""
        shown.show(self._card, of=self)

    def page(self) -> tuple[str, str]:
        """The job as plain text and as HTML."""
        page: tuple[str, str] = self._card.page()
        return page

    def __repr__(self) -> str:
        return self.page()[0]

    def _repr_html_(self) -> str:
        return self.page()[1]

    def _ipython_display_(self) -> None:
        shown.display(self._card, of=self)

    @property
    def _card(self) -> Any:
        return importlib.import_module(_CARD).Card(self)


class Jobs(list[Job]):
    """Jobs, the newest first; shown as a table."""

    def page(self) -> tuple[str, str]:
        """The table as plain text and as HTML."""
        lines = [_line(each) for each in self]
        plain, page = table(("job", "template", "state", "cells", "submitted (UTC)", "error"), lines)
        if any(not each.seen.has_ended for each in self):  # the table stays as it is, and these go on
            when = f"As of {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
            plain, page = f"{plain}\n{when}", page + note([when])
        return (plain, literal(page)) if lines else ("no jobs yet: lab.run(...) starts one", literal("<p>No jobs yet.</p>"))

    def __repr__(self) -> str:
        return self.page()[0]

    def _repr_html_(self) -> str:
        return self.page()[1]


def story(record: JobRecord) -> str:
    """``: Type: message (cell 3)`` of a job's error, its first line; empty where there is none."""
    error = record.error
    if not error:
        return ""
    lines = str(error.get("message") or "").strip().splitlines()
    where = f" (cell {record.cells_done + 1})" if error.get("cell") is not None else ""
    return f": {error.get('type', 'error')}: {lines[0] if lines else ''}{where}"


def as_json(each: Job) -> str:
    """One job as a line of JSON: what ``run.json`` has, with the state as it is in truth, and its folder."""
    seen = each.seen
    body = seen.record.to_json() | {"state": seen.state, "folder": str(seen.folder)}
    return json.dumps(body, ensure_ascii=True, allow_nan=False)


def _line(each: Job) -> tuple[object, ...]:
    seen = each.seen
    record = seen.record
    cells = f"{record.cells_done}/{record.cells_total}" if record.cells_total else ""
    when = (record.submitted or "")[:19].replace("T", " ")
    return each.id, Path(seen.row.template).stem, seen.state, cells, when, story(record).removeprefix(": ")[:120]
