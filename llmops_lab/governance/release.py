"""What the audit log says of a registered name: where its aliases were, what is under way, which gate speaks for a version. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.store.audit import Entry

DONE = {"promoting": "promoted", "rolling_back": "rolled_back"}
"""What is written before an alias is moved, and what is written once it was."""
ABANDONED = "abandoned"
_MOVED = frozenset(DONE.values())


@dataclass(frozen=True, slots=True)
class Move:
    """One line of an alias' history. ``what``: promoted, rolled_back, refused, abandoned, retired, gate, registered or elsewhere.

    ``elsewhere``: another tool moved the alias, so nobody knows who and when. ``at`` is ISO 8601 in UTC. ``gate`` is the number of the
    audit entry that holds the evidence, ``run_id`` a gate's run in MLflow.
    """

    seq: int | None
    at: str
    what: str
    alias: str
    version: int | None
    previous: int | None
    actor: str
    approver: str
    why: str
    gate: int | None
    run_id: str = ""


def moves(entries: Iterable[Entry], alias: str) -> list[Entry]:
    """The moves of an alias that were made, oldest first."""
    return [entry for entry in entries if entry.kind in _MOVED and entry.body.get("alias") == alias]


def under_way(entries: Sequence[Entry]) -> list[Entry]:
    """The moves that were begun and of which nothing says how they ended, oldest first."""
    settled = {entry.body.get("intent") for entry in entries if entry.kind in _MOVED or entry.kind == ABANDONED}
    return [entry for entry in entries if entry.kind in DONE and entry.seq not in settled]


def earlier(made: Sequence[Entry], current: int | None, barred: frozenset[int]) -> list[int]:
    """The versions that a rollback can go back to, the nearest last: none of ``barred``, none that was rolled back itself."""
    stack: list[int | None] = []
    for entry in made:
        version, previous = entry.body.get("version"), entry.body.get("previous")
        if previous != (stack[-1] if stack else None):  # another tool moved it in between
            stack.append(previous)
        if entry.kind == "rolled_back" and (version is None or version in stack):
            while stack and stack[-1] != version:
                stack.pop()
        else:
            stack.append(version)
    if not stack or stack[-1] != current:
        stack.append(current)
    return [version for version in stack[:-1] if version is not None and version != current and version not in barred]


def retired(entries: Iterable[Entry]) -> frozenset[int]:
    """The versions that were retired."""
    return frozenset(entry.body["version"] for entry in entries if entry.kind == "retired")


def authors_of(entries: Iterable[Entry], version: int) -> list[str]:
    """Under whose names this version was registered, as the log has it: a tag in MLflow can be changed."""
    made = [entry for entry in entries if entry.kind == "registered" and entry.body.get("version") == version]
    return [name for entry in made for name in (str(entry.body.get("author") or ""), entry.actor)]


def gates_of(entries: Sequence[Entry], digest: str) -> list[Entry]:
    """The gates of the content with this digest: the one that was held last comes first, whenever it was filed."""
    found = [entry for entry in entries if entry.kind == "gate" and entry.body.get("digest") == digest]
    return sorted(found, key=lambda entry: (entry.body["result"]["when"], entry.seq), reverse=True)


def was_in(entries: Iterable[Entry], alias: str, version: int) -> bool:
    """Whether the alias ever was at this version, and did not have to be rolled back from it since."""
    found = False
    for entry in moves(entries, alias):
        if entry.body.get("version") == version:
            found = True
        elif entry.kind == "rolled_back" and entry.body.get("previous") == version:
            found = False
    return found


def history(entries: Sequence[Entry], aliases: dict[str, int]) -> list[Move]:
    """All that happened to a name, oldest first; ``aliases`` is where they are now, so that a move by another tool shows."""
    found: list[Move] = []
    at: dict[str, int | None] = {}
    open_ = {entry.seq: entry.body.get("alias") for entry in under_way(entries)}
    for entry in entries:
        if entry.kind in DONE and entry.seq not in open_:
            continue  # what came of it follows
        alias = str(entry.body.get("alias") or "")
        if entry.kind in _MOVED:
            if entry.body.get("previous") != at.get(alias):
                found.append(_elsewhere(alias, entry.body.get("previous"), at.get(alias)))
            at[alias] = entry.body.get("version")
        found.append(_move(entry))
    for alias in sorted({*at, *aliases} - {*open_.values()}):  # of a move that is under way nobody knows yet
        if aliases.get(alias) != at.get(alias):
            found.append(_elsewhere(alias, aliases.get(alias), at.get(alias)))
    return found


def _move(entry: Entry) -> Move:
    body: dict[str, Any] = dict(entry.body)
    why = body.get("reason") or body.get("why") or ""
    if entry.kind == "gate":
        against = ((body.get("result") or {}).get("champion") or {}).get("name") or "no champion"
        why = f"{'passed' if body.get('passed') else 'failed'} against {against}{': ' if why else ''}{why}"
    return Move(
        seq=entry.seq,
        at=entry.at,
        what=entry.kind,
        alias=str(body.get("alias") or ""),
        version=body.get("version"),
        previous=body.get("previous"),
        actor=entry.actor,
        approver=str(body.get("approver") or ""),
        why=str(why),
        gate=body.get("gate"),
        run_id=str(body.get("run_id") or ""),
    )


def _elsewhere(alias: str, version: int | None, previous: int | None) -> Move:
    return Move(None, "", "elsewhere", alias, version, previous, "", "", "moved by another tool: who, when and why is not known", None)
