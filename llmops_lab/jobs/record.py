"""What a job is asked to do (``JobSpec``) and what became of it (``JobRecord``, the file ``run.json``).

The record on disk is whole at every moment: it is written beside its place and moved there.
"""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, ExitCode, StoreError
from llmops_lab.redact import Redactor
from llmops_lab.store.whole import replacing

STATES = ("queued", "running", "succeeded", "failed", "dead_kernel", "out_of_memory", "timeout", "cancelled", "gate_failed")
ENDED = STATES[2:]
"""The states that last."""
RUN_FILE = "run.json"
NOTEBOOK = "notebook.ipynb"
CODES = {
    "succeeded": ExitCode.DONE,
    "failed": ExitCode.FAILED,
    "dead_kernel": ExitCode.DEAD_KERNEL,
    "out_of_memory": ExitCode.KILLED,
    "timeout": ExitCode.TIMEOUT,
    "cancelled": ExitCode.CANCELLED,
    "gate_failed": ExitCode.GATE_FAILED,
}
"""The exit code that belongs to an end; ``failed`` may have another one (2, 3, 4 or 137) that says more."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")  # a folder is called so, and leads nowhere else


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What was asked for. ``template`` is a name or a path; ``parameters`` are JSON; ``cwd`` is where the kernel starts."""

    id: str
    template: str
    parameters: dict[str, Any]
    folder: Path
    kernel: str | None = None
    timeout: float | None = None
    """Seconds that one attempt may take."""
    retries: int = 0
    gpus: int = 0
    after: tuple[str, ...] = ()
    submitted: str = ""
    submitter: str = ""
    cwd: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a JSON-able dict."""
        return {**dataclasses.asdict(self), "folder": str(self.folder), "after": list(self.after)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> JobSpec:
        """Back from ``to_json``; keys that are not known here are left out."""
        known = {name: body[name] for name in (spec.name for spec in dataclasses.fields(cls)) if name in body}
        return cls(**{**known, "folder": Path(body["folder"]), "after": tuple(body.get("after") or ())})


@dataclass(frozen=True, slots=True)
class JobRecord:
    """``run.json``. Times are ISO 8601 UTC; ``error`` is ``{"type", "message", "cell"}`` or None; cells counted are those that run."""

    id: str
    template: str
    state: str = "queued"
    exit_code: int | None = None
    error: dict[str, Any] | None = None
    started: str | None = None
    ended: str | None = None
    cells_done: int = 0
    cells_total: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    kernel: str | None = None
    mlflow_run_id: str | None = None
    result: Any = None
    submitted: str = ""
    submitter: str = ""
    cell: int | None = None
    """Position in the notebook of the cell that runs now."""
    attempt: int = 1
    attempts: list[dict[str, Any]] = field(default_factory=list)
    """Earlier attempts: attempt, state, exit_code, error, started, ended, cells_done."""
    heartbeat: str | None = None
    owner: str = ""
    notebook: str = NOTEBOOK
    timeout: float | None = None
    retries: int = 0
    gpus: int = 0
    after: list[str] = field(default_factory=list)
    cwd: str = ""
    digests: dict[str, Any] = field(default_factory=dict)
    """SHA-256 of the template, and of each file that a parameter names."""
    kernel_pid: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED

    def to_json(self) -> dict[str, Any]:
        """As a JSON-able dict, masked, the keys of the contract first."""
        masked: dict[str, Any] = Redactor().tree(dataclasses.asdict(self))
        return masked

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> JobRecord:
        """Back from ``to_json``; keys that are not known here are left out. Raises BadInput when it is no record of a job."""
        name = body.get("id") if isinstance(body, Mapping) else None
        if not isinstance(name, str) or not _ID.fullmatch(name) or body.get("state") not in STATES:
            raise BadInput("this is no record of a job: it has no id that a job can have, or a state that is not known.")
        names = {spec.name for spec in dataclasses.fields(cls)}
        return cls(**{"template": "", **{name: value for name, value in body.items() if name in names}})

    def but(self, **changes: Any) -> JobRecord:
        """The same with these changes."""
        return dataclasses.replace(self, **changes)


def queued(spec: JobSpec) -> JobRecord:
    """The record of a job that waits."""
    return JobRecord(
        id=spec.id,
        template=spec.template,
        parameters=spec.parameters,
        kernel=spec.kernel,
        submitted=spec.submitted,
        submitter=spec.submitter,
        timeout=spec.timeout,
        retries=spec.retries,
        gpus=spec.gpus,
        after=list(spec.after),
        cwd=spec.cwd,
    )


def new_id() -> str:
    """An id for a job: when it was made, and some chance."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def now() -> str:
    """The moment, as the record writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def epoch(when: str | None) -> float:
    """A moment of the record in seconds since 1970; None is now."""
    return datetime.fromisoformat(when or now()).timestamp()


def read_record(folder: Path, name: str = RUN_FILE) -> JobRecord:
    """The record in a job's folder. Raises BadInput when there is none, or none that can be read."""
    path = folder / name
    try:
        return JobRecord.from_json(json.loads(path.read_text("utf-8")))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Is {folder} the folder of a job?") from error
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}.") from error


def write_record(folder: Path, record: JobRecord, name: str = RUN_FILE) -> None:
    """Write ``run.json``, masked. Raises StoreError (the old one stays) when it cannot be written."""
    write_whole(folder / name, json.dumps(record.to_json(), indent=1, ensure_ascii=True, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Put a file in its place in one step: who reads meets the old one or the new one. Raises StoreError, and the old one stays."""
    try:
        with replacing(path) as draft:
            draft.write_text(text, "utf-8", "backslashreplace")
            draft.chmod(0o644)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}. What lay there before is unharmed.", str(path)) from error
