"""A notebook that papermill has read and parameterised, as a job: its record lies beside its output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.errors import BadInput
from llmops_lab.flows import run_job
from llmops_lab.flows.check_job import looked_up
from llmops_lab.flows.settle_job import side_folder
from llmops_lab.flows.submit_job import alone_in, put_away
from llmops_lab.jobs import kernels, notebook, parameters
from llmops_lab.jobs.record import NOTEBOOK, RUN_FILE, JobRecord, JobSpec, new_id, now, queued, read_record, write_record
from llmops_lab.jobs.teller import Heard
from llmops_lab.redact import redact
from llmops_lab.store import jobs
from llmops_lab.store.ledger import open_ledger


def run_notebook(
    nb: Any, source: str, target: Path | None, *, kernel: str, timeout: float | None = None, on_event: Heard | None = None
) -> JobRecord:
    """Run it to its end in this process. ``target``: the output, or None when papermill itself brings that elsewhere.

    An earlier job's output with its record moves to ``previous/ID``. Raises BadInput, UnknownName or StoreError before it begins.
    """
    settings = _settings.load()
    kernels.check(kernel, settings)
    nb, values = _checked(notebook.plain(nb), settings)
    ledger = open_ledger(settings)
    job = new_id()
    target = target or side_folder(settings, job) / NOTEBOOK
    if not target.parent.is_dir():
        raise BadInput(f"the output folder {target.parent} does not exist. Make it first.")
    spec = JobSpec(
        id=job,
        template=str(Path(source).absolute()) if source and "://" not in source else redact(source),
        parameters=values,
        folder=target.parent,
        kernel=kernel,
        timeout=timeout,
        submitted=now(),
        submitter=ledger.owner,
        cwd=str(Path.cwd()),
    )
    record = queued(spec).but(notebook=target.name)
    with alone_in(target.parent):
        file = _record_file(target)
        _put_away(target, file, settings)
        write_record(target.parent, record, file)
        jobs.put(ledger, spec.to_json() | {"file": file}, record.to_json(), name=Path(spec.template).stem or "notebook")
    return run_job.run(target.parent, settings=settings, on_event=on_event, file=file, nb=nb)


def _checked(nb: Any, settings: _settings.Settings) -> tuple[Any, dict[str, Any]]:
    # Papermill takes any name and any value, and what it injects can be code: the cell is written anew, from what the declaration allows.
    given = _plain(nb.metadata.get("papermill", {}).get("parameters") or {})
    try:
        declared = parameters.declared(nb)
    except BadInput:
        if given:
            raise
        return nb, {}
    values = looked_up(declared, parameters.check(declared, given), settings)
    return (notebook.with_parameters(nb, parameters.inject(nb, values)) if values else nb), values


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _record_file(target: Path) -> str:
    """``run.json``, or ``NAME.run.json`` where that tells of another notebook in the same folder."""
    try:
        mine = read_record(target.parent).notebook == target.name
    except BadInput:
        mine = not (target.parent / RUN_FILE).exists()
    return RUN_FILE if mine else f"{target.stem}.{RUN_FILE}"


def _put_away(target: Path, file: str, settings: _settings.Settings) -> None:
    try:
        read_record(target.parent, file)
    except BadInput:
        return  # papermill's own output before, or none: it is replaced in one step
    put_away(target.parent, target.name, file, settings)
