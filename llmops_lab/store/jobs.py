"""Jobs in the ledger: one line a job. Its state changes only from a state that the writer names, so of two writers one wins."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.escapes import storable
from llmops_lab.records import canonical
from llmops_lab.store._owner import is_alive, is_here
from llmops_lab.store.ledger import Ledger

_COLUMNS = "id, name, template, state, folder, owner, spec, record, submitted, heartbeat, ended, cancel_requested"

_SILENT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as the ledger has it. ``record`` is what ``run.json`` said at the last change of state; times are epoch seconds."""

    id: str
    name: str
    template: str
    state: str
    folder: str
    owner: str
    spec: dict[str, Any]
    record: dict[str, Any]
    submitted: float
    heartbeat: float | None
    ended: float | None
    cancel_requested: float | None

    @property
    def is_orphaned(self) -> bool:
        """It is said to run, and the process that ran it is gone, or, on another machine, was not heard of for an hour."""
        if self.state != "running" or is_here(self.owner):
            return self.state == "running" and not is_alive(self.owner)
        return (self.heartbeat or self.submitted) < time.time() - _SILENT_SECONDS

    @property
    def is_abandoned(self) -> bool:
        """It was to be run by the process that submitted it, which is known to be gone without having begun."""
        submitter = str(self.spec.get("submitter") or "")
        waits = self.state == "queued" and not self.spec.get("queue") and submitter.count(":") >= 2
        return waits and is_here(submitter) and not is_alive(submitter)


def put(ledger: Ledger, spec: Mapping[str, Any], record: Mapping[str, Any], *, name: str = "") -> None:
    """Record a new job as ``queued``. Raises StoreError."""
    sql = f"INSERT INTO jobs ({_COLUMNS}) VALUES (?, ?, ?, 'queued', ?, '', ?, ?, ?, NULL, NULL, NULL)"  # noqa: S608
    values = (spec["id"], storable(name or spec["template"]), storable(spec["template"]), storable(str(spec["folder"])))
    ledger.write((sql, [(*values, canonical(spec), canonical(record), time.time())]))


def get(ledger: Ledger, job: str) -> JobRow | None:
    """The job with this id, or None."""
    rows = ledger.select(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (storable(job),))  # noqa: S608
    return _row(rows[0]) if rows else None


def listed(ledger: Ledger, *, states: Iterable[str] = (), limit: int = 50) -> list[JobRow]:
    """The newest jobs first; only those in one of ``states`` where any is given."""
    wanted = list(states)
    where = f"WHERE state IN ({','.join('?' * len(wanted))}) " if wanted else ""
    sql = f"SELECT {_COLUMNS} FROM jobs {where}ORDER BY submitted DESC, id DESC LIMIT ?"  # noqa: S608
    return [_row(row) for row in ledger.select(sql, (*wanted, limit))]


def transition(
    ledger: Ledger, job: str, expected: str | Sequence[str], new: str, *, record: Mapping[str, Any] | None = None, ended: bool = False
) -> bool:
    """Change the state if it is (one of) ``expected``, in one step; who starts it owns it. False: another was faster."""
    wanted = (expected,) if isinstance(expected, str) else tuple(expected)
    changes, values = ["state = ?", "heartbeat = ?"], [new, time.time()]
    if record is not None:
        changes.append("record = ?")
        values.append(canonical(record))
    if ended:
        changes.append("ended = ?")
        values.append(time.time())
    elif new == "running":
        changes.append("owner = ?")
        values.append(ledger.owner)
    sql = f"UPDATE jobs SET {', '.join(changes)} WHERE id = ? AND state IN ({','.join('?' * len(wanted))}) RETURNING id"  # noqa: S608
    with ledger.transaction() as execute:
        return bool(execute(sql, (*values, storable(job), *wanted)))


def take_over(ledger: Ledger, job: str, owner: str) -> bool:
    """Become the owner of a running job whose own is gone, to settle it. False: another was faster."""
    sql = "UPDATE jobs SET owner = ?, heartbeat = ? WHERE id = ? AND state = 'running' AND owner = ? RETURNING id"
    with ledger.transaction() as execute:
        return bool(execute(sql, (ledger.owner, time.time(), storable(job), owner)))


def settle(ledger: Ledger, job: str, state: str, record: Mapping[str, Any], entry: tuple[str, str]) -> bool:
    """Record the end of a running job of this process and queue the outbox entry ``(kind, payload)`` in one step.

    False: it had ended already, or another process has taken it over.
    """
    now = time.time()
    mine = "id = ? AND state = 'running' AND owner = ?"
    change = f"UPDATE jobs SET state = ?, record = ?, heartbeat = ?, ended = ? WHERE {mine} RETURNING id"  # noqa: S608
    with ledger.transaction() as execute:
        ended = bool(execute(change, (state, canonical(record), now, now, storable(job), ledger.owner)))
        if ended:
            execute("INSERT INTO outbox (kind, payload, created) VALUES (?, ?, ?)", (*entry, now))
    return ended


def beat(ledger: Ledger, job: str, record: Mapping[str, Any]) -> None:
    """Say that this process, which runs the job, lives, and how far the job is."""
    sql = "UPDATE jobs SET heartbeat = ?, record = ? WHERE id = ? AND state = 'running' AND owner = ?"
    ledger.write((sql, [(time.time(), canonical(record), storable(job), ledger.owner)]))


def note(ledger: Ledger, job: str, record: Mapping[str, Any]) -> None:
    """Replace the record of a job without a change of state."""
    ledger.write(("UPDATE jobs SET record = ? WHERE id = ?", [(canonical(record), storable(job))]))


def request_cancel(ledger: Ledger, job: str) -> bool:
    """Ask the job's owner to cancel it. False when there is no such job, or it has ended."""
    sql = "UPDATE jobs SET cancel_requested = COALESCE(cancel_requested, ?) WHERE id = ? AND ended IS NULL RETURNING id"
    with ledger.transaction() as execute:
        return bool(execute(sql, (time.time(), storable(job))))


def wish(ledger: Ledger, job: str) -> str:
    """What the process that runs a job must know: ``cancel``: somebody asks for its end; ``lost``: it is not this process's any more."""
    sql = "SELECT cancel_requested FROM jobs WHERE id = ? AND state = 'running' AND owner = ?"
    rows = ledger.select(sql, (storable(job), ledger.owner))
    if not rows:
        return "lost"
    return "" if rows[0][0] is None else "cancel"


def _row(values: Sequence[Any]) -> JobRow:
    job, name, template, state, folder, owner, spec, record, submitted, heartbeat, ended, cancel = values
    return JobRow(job, name, template, state, folder, owner, json.loads(spec), json.loads(record), submitted, heartbeat, ended, cancel)
