"""The audit log: entries that are only ever added, each of which holds the hash of the one before.

A changed byte, a deleted or an added entry and two that were exchanged break the chain, and ``verify`` says where. Cutting off the
newest entries leaves a shorter chain that is whole: only somebody who has seen a later entry can tell. ``heads`` are such sightings;
``flows/audit.py`` takes them from MLflow, where each entry about a registered name leaves one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmops_lab.errors import StoreError
from llmops_lab.escapes import storable
from llmops_lab.records import canonical
from llmops_lab.redact import Redactor
from llmops_lab.store._owner import is_alive, is_here
from llmops_lab.store.ledger import Ledger

FIRST = "0" * 64
"""What the first entry names as the hash before it."""
_READ = "SELECT seq, at, kind, actor, body, prev, hash FROM audit"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``at`` is ISO 8601 in UTC; ``hash`` is the SHA-256 over all the other fields, ``prev`` that of the entry before."""

    seq: int
    at: str
    kind: str
    actor: str
    body: Mapping[str, Any]
    prev: str
    hash: str

    @property
    def name(self) -> str:
        """Of which registered name it speaks; empty where of none."""
        return str(self.body.get("name", ""))


@dataclass(frozen=True, slots=True)
class Verified:
    """What ``verify`` found. ``faults`` is empty where the chain is whole; ``head`` is the hash of its last entry."""

    entries: int
    head: str
    faults: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


class Chain:
    """The log while nobody else can add to it. Made by ``writing``."""

    def __init__(self, execute: Any) -> None:
        self._execute = execute

    def append(self, kind: str, actor: str, body: Mapping[str, Any]) -> Entry:
        """Add one entry. ``body`` is JSON; known secrets in it are masked; its ``name`` is what it can be found by."""
        last = self._execute(f"{_READ} ORDER BY seq DESC LIMIT 1")
        seq, prev = (int(last[0][0]) + 1, str(last[0][6])) if last else (1, FIRST)
        text = canonical(Redactor().tree(dict(body)))
        row = (seq, datetime.now(UTC).isoformat(timespec="microseconds"), storable(kind), storable(actor), text, prev)
        entry = Entry(*row[:4], json.loads(text), prev, _hash(*row))
        values = (*row, entry.hash, storable(entry.name))
        self._execute("INSERT INTO audit (seq, at, kind, actor, body, prev, hash, name) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        return entry

    def entries(self, name: str) -> list[Entry]:
        """All entries of this name, oldest first."""
        return [_entry(row) for row in self._execute(f"{_READ} WHERE name = ? ORDER BY seq", (storable(name),))]


@contextmanager
def writing(ledger: Ledger) -> Iterator[Chain]:
    """Hold the log: one process at a time, all or nothing. Raises StoreError where the ledger cannot be written."""
    with ledger.transaction() as execute:
        if ledger.dialect.name == "postgresql":  # there a transaction alone keeps nobody out; readers are let in
            execute("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE")
        yield Chain(execute)


def append(ledger: Ledger, kind: str, actor: str, body: Mapping[str, Any]) -> Entry:
    """Add one entry and return it, once it is on disk."""
    with writing(ledger) as chain:
        return chain.append(kind, actor, body)


def entries(ledger: Ledger, *, kind: str = "", name: str = "") -> list[Entry]:
    """The entries, oldest first; only those of a kind or of a name where these are given."""
    wanted = {column: storable(value) for column, value in (("kind", kind), ("name", name)) if value}
    where = f" WHERE {' AND '.join(f'{column} = ?' for column in wanted)}" if wanted else ""
    return [_entry(row) for row in ledger.select(f"{_READ}{where} ORDER BY seq", tuple(wanted.values()))]


def first(ledger: Ledger) -> str:
    """The hash of the first entry, which tells this log from others; empty where there is none."""
    rows = ledger.select("SELECT hash FROM audit WHERE seq = 1")
    return str(rows[0][0]) if rows else ""


def is_gone(owner: str) -> bool:
    """Whether the process of this ``Ledger.owner`` is known to have ended; of one on another host nobody knows."""
    return is_here(owner) and not is_alive(owner)


def verify(ledger: Ledger, heads: Iterable[tuple[int, str, str]] = ()) -> Verified:
    """Read the whole log and check each entry against the one before, then against ``heads``: (seq, hash, where it was seen)."""
    told = list(heads)
    wanted = {seq for seq, _, _ in told}
    faults: list[str] = []
    seen: dict[int, str] = {}
    rows, count, prev = 0, 0, FIRST
    for row in ledger.stream(f"{_READ.replace(' FROM', ', name FROM')} ORDER BY seq", ()):
        rows, count = rows + 1, count + 1
        faults += [f"entry {row[0]}: {fault}" for fault in _faults(row, count, prev)]
        count, prev = int(row[0]), str(row[6])  # what is missing in between was said once
        if count in wanted:
            seen[count] = prev
    for seq, hash_, where in told:
        if seq not in seen:
            faults.append(f"entry {seq} is gone, and {where} has seen it: the log was cut off after entry {count}.")
        elif seen[seq] != hash_:
            faults.append(f"entry {seq} is not the one that {where} has seen: the log was written anew.")
    return Verified(rows, prev, tuple(faults))


def _faults(row: Any, expected: int, prev: str) -> Iterator[str]:
    seq, *_, body, before, hash_, name = row
    if int(seq) != expected:
        yield f"it should have the number {expected}: entries were taken out or put in before it."
    elif before != prev:
        yield "it does not name the hash of the entry before: that one was changed, or the two were exchanged."
    if _hash(*row[:6]) != hash_:
        yield "its content no longer has the hash that was recorded: it was changed afterwards."
        return
    if storable(str(json.loads(body).get("name", ""))) != name:
        yield f"it is filed under the name {name!r}, which is not the one that it speaks of."


def _hash(seq: Any, at: Any, kind: Any, actor: Any, body: Any, prev: Any) -> str:
    return hashlib.sha256(canonical([seq, *map(str, (at, kind, actor, body, prev))]).encode("ascii")).hexdigest()


def _entry(row: Any) -> Entry:
    seq, at, kind, actor, body, prev, hash_ = row
    try:
        return Entry(int(seq), at, kind, actor, json.loads(body), prev, hash_)
    except ValueError as error:
        message = f"entry {seq} of the audit log cannot be read: it was changed. `llmops-lab audit verify` looks through all of it."
        raise StoreError(message, "audit") from error
