"""A job from its folder to its end, in this process: the one story of a job, whoever calls it."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, LabError, StoreError
from llmops_lab.flows.settle_job import settle, side_folder
from llmops_lab.jobs import gpus, kernels, lean, notebook, outcome, parameters, process, watch
from llmops_lab.jobs.attempt import Plan, Progress, execute
from llmops_lab.jobs.outcome import Outcome
from llmops_lab.jobs.record import RUN_FILE, JobRecord, now, read_record, write_whole
from llmops_lab.jobs.teller import Heard, Pulse, Room, Teller
from llmops_lab.settings import Settings, home_dir
from llmops_lab.store import jobs
from llmops_lab.store.ledger import Ledger, open_ledger
from llmops_lab.track import environment

_THEN = [sys.executable, "-P", "-c", "from llmops_lab.flows.reap_jobs import after_death; after_death()"]


def run(
    folder: Path,
    *,
    settings: Settings,
    on_event: Heard | None = None,
    kernel: Any = None,
    file: str = RUN_FILE,
    nb: Any = None,
    alone: bool = False,
) -> JobRecord:
    """Run the queued job in ``folder`` to its end, and return its record. Raises only before it begins (BadInput, StoreError).

    ``kernel``: the class that starts the kernel, in place of the usual one. ``file``: the record's name. ``nb``: its notebook,
    parameters and all, where that is not read from the folder. ``on_event`` gets ``{"kind", "record"}`` and, of an output, ``text``.
    ``alone``: this process has nothing but this job and ends with it, so it may load less than others would want of it.
    """
    if alone:
        lean.load()
    else:
        lean.spare_grammar()
    folder = folder.absolute()
    record = read_record(folder, file)
    ledger = open_ledger(settings)
    stop = process.Stop()
    with ExitStack() as stack:
        stack.enter_context(process.signals(stop))
        say = {"job": record.id, "settings": dataclasses.asdict(settings)}
        stack.enter_context(watch.guarded(_THEN, say))
        record = record.but(state="running", started=now(), owner=ledger.owner)
        if not jobs.transition(ledger, record.id, "queued", "running", record=record.to_json()):
            raise BadInput(f"the job {record.id} is not queued any more: another process runs it, or it has ended.")
        teller = Teller(ledger, folder, file, record, on_event)
        ended = _begun(teller, settings, stop, kernel, nb)
        teller.record = teller.record.but(state=ended.state, exit_code=ended.exit_code, error=ended.error)
        teller.record = _settled(teller, ledger, settings, alone)
    teller.say("end")
    return teller.record


def _settled(teller: Teller, ledger: Ledger, settings: Settings, alone: bool) -> JobRecord:
    try:
        return settle(ledger, settings, teller.folder, teller.record, file=teller.file, alone=alone)
    except StoreError:  # run.json holds the end; whoever looks next tells the ledger, which says until then that this process ran it
        return read_record(teller.folder, teller.file)


def _begun(teller: Teller, settings: Settings, stop: process.Stop, kernel: Any, nb: Any) -> Outcome:
    room = Room(teller.folder, teller.record.id)
    pulse = Pulse(teller, stop)
    pulse.start()
    try:
        with gpus.lease(teller.record.gpus, settings, lambda: bool(stop.reason)) as held, process.adopting() as earlier:
            page = _page(teller, settings, nb, room)
            manager = (kernel, teller.record.kernel) if kernel else kernels.manager_for(teller.record.kernel, settings)
            plan = Plan(
                job=teller.record.id,
                page=page,
                kernel=teller.record.kernel,
                cwd=_cwd(teller),
                environment=_environment(settings, teller.record.id) | held.environment,
                timeout=teller.record.timeout,
                stop=stop,
                manager=manager,
                earlier=earlier,
            )
            return _attempts(plan, teller, room)
    except Exception as error:  # whatever it is, it is how the job ended
        ended = outcome.of_exception(error, teller.record.cell)
        if stop.reason:
            ended = outcome.failed("Cancelled", f"stopped by {stop.reason}", teller.record.cell, state="cancelled")
        _close(teller, ended)
        return ended
    finally:
        pulse.end()
        room.give_back()


def _attempts(plan: Plan, teller: Teller, room: Room) -> Outcome:
    while True:
        plan.page.begin(_about(teller.record))
        teller.change("attempt", cells_total=sum(map(notebook.runs, plan.page.nb.cells)), cells_done=0, cell=None, result=None)
        ended, progress = execute(plan, lambda kind, progress: _heard(teller, kind, progress))
        teller.record = teller.record.but(cells_done=progress.done, result=progress.result)
        ended = _closed(plan.page, teller, ended, room)
        if not ended.may_be_retried or teller.record.attempt > teller.record.retries or plan.stop.reason:
            return ended
        past: dict[str, Any] = {
            "attempt": teller.record.attempt,
            "started": teller.record.started,
            "ended": now(),
            "cells_done": progress.done,
        }
        past |= {"state": ended.state, "exit_code": ended.exit_code, "error": ended.error}
        teller.change("retry", attempt=teller.record.attempt + 1, attempts=[*teller.record.attempts, past])


def _heard(teller: Teller, kind: str, progress: Progress) -> None:
    if kind == "output":
        teller.say("output", text=progress.text)
        return
    teller.change(
        kind,
        cells_done=progress.done,
        cell=progress.cell,
        kernel=teller.record.kernel or progress.kernel,
        kernel_pid=progress.kernel_pid,
        result=progress.result,
    )


def _closed(page: notebook.Page, teller: Teller, ended: Outcome, room: Room) -> Outcome:
    """Write the notebook's last word. When it finds no room, the last good notebook gets it, and the job has failed."""
    try:
        page.end(_about(teller.record, ended), went_well=ended.error is None)
        return ended
    except StoreError as error:
        room.give_back()
        if ended.error is None:
            ended = outcome.of_exception(error, None)
        _close(teller, ended)
        return ended


def _close(teller: Teller, ended: Outcome) -> None:
    with suppress(LabError):
        teller.confirm()
        notebook.close(teller.folder / teller.record.notebook, _about(teller.record, ended), ended.error or {})


def _about(record: JobRecord, ended: Outcome | None = None) -> dict[str, Any]:
    about = {"id": record.id, "template": record.template, "state": "running", "attempt": record.attempt, "digests": record.digests}
    return about | ({"state": ended.state, "exit_code": ended.exit_code, "error": ended.error} if ended else {})


def _page(teller: Teller, settings: Settings, nb: Any, room: Room) -> notebook.Page:
    record, path = teller.record, teller.folder / teller.record.notebook
    if nb is None:
        digests = {"template": notebook.digest_of(path), **record.digests}
        nb = notebook.read(path)
        nb = notebook.with_parameters(nb, parameters.inject(nb, record.parameters)) if record.parameters else nb
    else:
        digests = {"template": notebook.digest_of(Path(record.template)), **record.digests}
    named = {name: digest for name, digest in _data_digests(record.parameters, _cwd(teller)) if digest}
    teller.record = record.but(digests={**digests, **({"data": named} if named else {})})
    lock = environment.describe(_cwd(teller))
    write_whole(side_folder(settings, record.id) / "environment.json", json.dumps(lock, indent=1) + "\n")
    return notebook.Page(nb, path, room, teller.confirm)


def _data_digests(values: dict[str, Any], cwd: Path) -> Iterator[tuple[str, str | None]]:
    for name, value in values.items():
        if isinstance(value, str) and 0 < len(value) < 4096 and "\0" not in value:
            with suppress(OSError):
                if (cwd / value).is_file():
                    yield name, notebook.digest_of(cwd / value)


def _cwd(teller: Teller) -> Path:
    cwd = Path(teller.record.cwd or Path.cwd())
    return cwd if cwd.is_dir() else teller.folder


def _environment(settings: Settings, job: str) -> dict[str, str]:
    """What the kernel finds: this process's environment, the same ledger and MLflow, and whose job it is."""
    ours = {name: getattr(settings, name) for name in ("ledger", "tracking_uri", "experiment")}
    named = {f"LLMOPS_LAB_{name.upper()}": value for name, value in ours.items() if value}
    # ipykernel's own modules are frozen; its debugger would say so in every job's output.
    quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    return {**os.environ, **quiet, **named, "LLMOPS_LAB_HOME": str(home_dir(settings)), process.MARK: job}
