"""Jobs in the background: whoever submits one wakes the project's service, which starts what may start, each job in a process of its own.

``python -m llmops_lab.flows.job_service`` is that service; it is started by ``wake`` and ends when nothing was to be done for a while.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.errors import BadInput, StoreError
from llmops_lab.flows.end_job import end_queued
from llmops_lab.flows.reap_jobs import reap
from llmops_lab.jobs import gpus, kernels, service, warm
from llmops_lab.jobs.record import now, read_record
from llmops_lab.settings import Settings
from llmops_lab.store import jobs
from llmops_lab.store._owner import is_here
from llmops_lab.store.jobs import JobRow
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track.connect import set_defaults

_COMMAND = [sys.executable, "-P", "-m", "llmops_lab.flows.job_service"]
_NURSE = "--nursery"
_SECONDS_TO_START = 60.0
_OF_THE_QUEUE = ("jobs_at_once", "job_idle", "gpus")
_STARTS = 2
_NEEDED = (
    "llmops_lab.flows.run_job",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "sqlalchemy.dialects.sqlite",
)
"""What a runner would import, each anew, beside what every kernel needs."""
_SECONDS_TO_KNOCK = 10.0  # what who submits a job gets to bring its environment, before it starts with that of the service
# What belongs to the notebook's kernel that asks, or to the job in which it asks, and to nothing that it starts.
_NOT_HANDED_ON = ("LLMOPS_LAB_JOB", "JPY_PARENT_PID", "JPY_SESSION_NAME", "JPY_INTERRUPT_EVENT")


def wake(settings: Settings, job: str = "") -> None:
    """Tell the service that there is something to do, and start it where there is none. ``job``: gets this process's environment.

    The environment is kept in the service's memory alone: it may hold keys. Raises StoreError when no service can be started.
    """
    place, environment = _place(settings), _environment(settings)
    wishes = {name: getattr(settings, name) for name in _OF_THE_QUEUE}
    message = {"job": job, "environment": environment if job else {}, "settings": wishes}
    deadline, started = time.monotonic() + _SECONDS_TO_START, None
    while not service.knock(place, message):
        if time.monotonic() > deadline or (started is not None and started.poll() not in (None, 0)):
            raise StoreError(f"the service that runs jobs did not start. Its last words stand in {place.log}.", str(place.log))
        if (started is None or started.poll() is not None) and not service.is_there(place):
            started = service.spawn(place, _COMMAND, environment, settings.project or str(place.home.parent))
        time.sleep(0.05)


def is_awake(settings: Settings) -> bool:
    """Whether the project's service runs."""
    return service.is_there(_place(settings))


def serve() -> None:
    """Be the service; ends at once where another one is."""
    settings = _settings.load()
    with service.alone(_place(settings)) as door:
        if door is not None:
            queue = _Queue(settings)
            code = warm.files_of_imports()
            door.is_outdated = lambda: queue.is_idle and code != warm.files_of_imports(code)
            try:
                service.keep(door, queue.turn, lambda: queue.settings.job_idle)
            finally:
                queue.nursery.close()


class _Queue:
    """What the service knows beside the ledger: runners that it started, and the environments that it was told."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.nursery = warm.Nursery([*_COMMAND, _NURSE])
        self._home = str(_settings.home_dir(settings))
        self._runners: dict[str, int] = {}
        self._starts: dict[str, int] = {}
        self._environments: dict[str, dict[str, str]] = {}
        self._away = 0.0  # since when the ledger does not answer
        self.nursery.ready()

    @property
    def is_idle(self) -> bool:
        """Whether no environment of a job that waits is kept here; runners need no service."""
        return set(self._environments) <= set(self._runners)

    def turn(self, messages: Sequence[Mapping[str, Any]]) -> service.Busy | None:
        """Settle what has ended, cancel what can never start, start what may; None when nothing is left to be done."""
        for message in messages:
            self._heard(message)
        try:
            busy = self._turned()
        except StoreError as error:  # jobs that wait, and their environments, are kept until it is back
            return self._without_ledger(error)
        self._away = 0.0
        return busy

    def _without_ledger(self, error: StoreError) -> service.Busy | None:
        if not self._away:
            self._away = time.monotonic()
            print(f"{now()} {error}", file=sys.stderr, flush=True)
        return service.Busy() if time.monotonic() - self._away < self.settings.job_idle else None

    def _turned(self) -> service.Busy | None:
        reap(self.settings)
        ledger = open_ledger(self.settings)
        running = jobs.listed(ledger, states=["running"], limit=1000)
        waiting = [row for row in reversed(jobs.listed(ledger, states=["queued"], limit=1000)) if self._is_mine(row)]
        self._forget({row.id for row in waiting})
        busy = len({row.id for row in running if is_here(row.owner)} | set(self._runners))
        for row in waiting:
            if row.id not in self._runners and self._may_start(row) and busy < self.settings.jobs_at_once:
                busy += self._start(row)
        if self._runners or waiting or running:
            return service.Busy(list(self._runners.values()), self.nursery.files())
        return None

    def _heard(self, message: Mapping[str, Any]) -> None:
        if message.get("job"):
            self._environments[str(message["job"])] = dict(message.get("environment") or {})
        self.settings = _settings.Settings(**{**_as_dict(self.settings), **message.get("settings", {})})

    def _is_mine(self, row: JobRow) -> bool:
        return row.spec.get("queue") == self._home and is_here(str(row.spec.get("submitter")))

    def _forget(self, waiting: set[str]) -> None:
        self._runners = {job: pid for job, pid in self._runners.items() if _lives(pid)}
        for job in set(self._environments) - waiting - set(self._runners):
            del self._environments[job]

    def _may_start(self, row: JobRow) -> bool:
        """Whether all that it follows ended well; where one did not, it is cancelled, with the reason."""
        ledger = open_ledger(self.settings)
        states = {job: getattr(jobs.get(ledger, job), "state", "unknown") for job in row.spec.get("after") or ()}
        for job, state in states.items():
            if state not in ("succeeded", "running", "queued"):
                end_queued(ledger, row, "cancelled", "Cancelled", f"it was to follow the job {job}, which ended as {state}")
                return False
        return all(state == "succeeded" for state in states.values())

    def _start(self, row: JobRow) -> bool:
        environment = self._environments.get(row.id)
        if environment is None and time.time() - row.submitted < _SECONDS_TO_KNOCK:
            return False
        try:
            held = self._held(row) if self.nursery.ready() else None
        except OSError as error:
            self._fail(row, "StartFailed", error)
            return False
        if held is None:
            return False
        try:
            pid = self._forked(row, environment or _environment(self.settings), held)
        except OSError as error:
            self._fail(row, "StartFailed", error)
            return False
        finally:
            held.release()  # the runner has its own hold of them
        if pid is not None:
            self._runners[row.id] = pid
        return pid is not None

    def _forked(self, row: JobRow, environment: Mapping[str, str], held: gpus.Held) -> int | None:
        if self._starts.get(row.id, 0) >= _STARTS:
            raise OSError(f"its process ended before the job began, {_STARTS} times")
        pid = self.nursery.start(Path(row.folder), environment=environment, cwd=str(row.spec.get("cwd") or row.folder), held=held)
        self._starts[row.id] = self._starts.get(row.id, 0) + (pid is not None)
        return pid

    def _fail(self, row: JobRow, type: str, error: Exception) -> None:
        end_queued(open_ledger(self.settings), row, "failed", type, f"{error}. More may stand in {_place(self.settings).log}")

    def _held(self, row: JobRow) -> gpus.Held | None:
        try:
            return gpus.take(int(row.spec.get("gpus") or 0), self.settings)
        except BadInput as error:
            self._fail(row, "BadInput", error)
            return None


def _run(folder: Path, manager: Any) -> int:
    """A runner's life: the one story of a job. Whoever waits behind it is not left waiting for a service that was killed."""
    from llmops_lab.flows import run_job

    settings = _settings.load()
    try:
        is_remote = (read_record(folder).kernel or "").startswith(kernels.GATEWAY)
        return int(run_job.run(folder, settings=settings, kernel=None if is_remote else manager).exit_code or 0)
    finally:
        if not is_awake(settings) and jobs.listed(open_ledger(settings), states=["queued"], limit=1):
            wake(settings)


def _place(settings: Settings) -> service.Place:
    return service.Place(_settings.home_dir(settings), settings.ledger)


def _environment(settings: Settings) -> dict[str, str]:
    """The environment of this process, with what ``configure`` changed, and the place of the ledger."""
    changed = {name: getattr(settings, name) for name, source in _settings.origins().items() if source == "configure()"}
    changed["home"] = str(_settings.home_dir(settings))
    named = {f"LLMOPS_LAB_{name.upper()}": value if isinstance(value, str) else json.dumps(value) for name, value in changed.items()}
    return {name: value for name, value in os.environ.items() if name not in _NOT_HANDED_ON} | named


def _as_dict(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    if sys.argv[1:2] == [_NURSE]:
        set_defaults()
        warm.nurse(int(sys.argv[2]), _run, _NEEDED)
    else:
        serve()
