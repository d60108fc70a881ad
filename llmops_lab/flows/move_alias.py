"""An alias is moved: said in the audit log, done in MLflow, said to be done. One at a time, and a crash in between is settled.

The log and MLflow are two stores, so no transaction spans both. The move is written down before it is made (``promoting``) and after
(``promoted``). It is made while the log is held, and only if its first entry still stands open: whoever finds one that its process left
behind holds the log too, looks at where the alias is, and writes down which of the two it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmops_lab.errors import BadInput, Conflict, LabError
from llmops_lab.flows.audit import mark
from llmops_lab.governance.release import ABANDONED, DONE, moves, retired, under_way
from llmops_lab.store import audit
from llmops_lab.store.audit import Entry
from llmops_lab.store.ledger import Ledger
from llmops_lab.track.prompts import AliasMove
from llmops_lab.track.registry import Name, Registry

_PATIENCE = 60.0  # seconds after which a move is settled by others although its process may live: it then finds its entry closed


@dataclass(frozen=True)
class Planned:
    """A move as its promoter saw it. ``begin`` is promoting or rolling_back; ``after`` the number of the alias' last move in the log."""

    found: Name
    alias: str
    begin: str
    body: Mapping[str, Any]
    actor: str
    after: int


def last_move(entries: list[Entry], alias: str) -> int:
    """The number of the alias' last move in the log; 0 where there is none."""
    made = moves(entries, alias)
    return made[-1].seq if made else 0


def move(planned: Planned, registry: Registry, ledger: Ledger) -> Entry:
    """Make the move and return the entry that says so. Raises Conflict where the alias is not where the promoter saw it any more."""
    begun = _begin(planned, ledger)
    try:
        with audit.writing(ledger) as chain:
            entries = chain.entries(planned.found.name)
            if begun.seq not in {entry.seq for entry in under_way(entries)}:
                raise _lost(planned, entries)
            now = registry.find(planned.found.name).aliases.get(planned.alias)
            if now != planned.body["previous"]:
                raise _elsewhere(planned, now)
            registry.point(planned.found, _alias_move(planned))
            now = registry.find(planned.found.name).aliases.get(planned.alias)
            if now != planned.body["version"]:  # by somebody whom this ledger does not hold back
                raise _elsewhere(planned, now)
            done = chain.append(DONE[planned.begin], planned.actor, {**planned.body, "intent": begun.seq})
    except BaseException:
        with contextlib.suppress(LabError):  # what cannot be settled now, the next look settles
            _settle(begun, registry, ledger)
        raise
    mark(ledger, registry, done)
    return done


def settle(name: str, registry: Registry, ledger: Ledger) -> None:
    """Find out what came of moves whose process is gone, and write it down."""
    for entry in under_way(audit.entries(ledger, name=name)):
        if _left_behind(entry):
            _settle(entry, registry, ledger)


def _begin(planned: Planned, ledger: Ledger) -> Entry:
    with audit.writing(ledger) as chain:
        entries = chain.entries(planned.found.name)
        if last_move(entries, planned.alias) != planned.after:
            raise _lost(planned, entries)
        if planned.body["version"] in retired(entries):
            raise BadInput(f"{planned.found.name}/{planned.body['version']} was retired in between, so no alias can be moved to it.")
        rival = next((entry for entry in under_way(entries) if entry.body["alias"] == planned.alias), None)
        if rival is not None:
            raise Conflict(
                f"{rival.actor} is moving {planned.found.name}@{planned.alias} to {_place(rival.body['version'])} at this moment. "
                "Look at the history, then decide again.",
                {"version": rival.body["version"], "actor": rival.actor, "at": rival.at},
            )
        return chain.append(planned.begin, planned.actor, {**planned.body, "owner": ledger.owner})


def _settle(begun: Entry, registry: Registry, ledger: Ledger) -> None:
    body = {name: value for name, value in begun.body.items() if name != "owner"}
    with audit.writing(ledger) as chain:
        if begun.seq not in {entry.seq for entry in under_way(chain.entries(begun.name))}:
            return
        now = registry.find(begun.name).aliases.get(begun.body["alias"])
        if now == begun.body["version"]:
            chain.append(DONE[begun.kind], begun.actor, {**body, "intent": begun.seq, "settled": True})
        else:
            reason = "it was begun and not made" if now == begun.body["previous"] else f"the alias is {_at(now)}: somebody else moved it"
            chain.append(ABANDONED, begun.actor, {**body, "intent": begun.seq, "reason": reason})


def _left_behind(entry: Entry) -> bool:
    age = (datetime.now(UTC) - datetime.fromisoformat(entry.at)).total_seconds()
    return age > _PATIENCE or audit.is_gone(str(entry.body["owner"]))


def _lost(planned: Planned, entries: list[Entry]) -> Conflict:
    won = moves(entries, planned.alias)[-1:]
    if not won:
        return _elsewhere(planned, None)
    winner = won[0]
    return Conflict(
        f"{winner.actor} moved {planned.found.name}@{planned.alias} to {_place(winner.body['version'])} in between ({winner.at[:19]} UTC), "
        f"so it was not moved to {_place(planned.body['version'])}. Look at the history, then decide again.",
        {"version": winner.body["version"], "actor": winner.actor, "at": winner.at},
    )


def _elsewhere(planned: Planned, now: int | None) -> Conflict:
    message = (
        f"{planned.found.name}@{planned.alias} was moved in between, not through this project's audit log: it is {_at(now)} now. "
        "Decide again; promoters who share an MLflow should share a ledger."
    )
    return Conflict(message, {"version": now})


def _at(version: int | None) -> str:
    return "nowhere" if version is None else f"at version {version}"


def _place(version: int | None) -> str:
    return "nowhere" if version is None else f"version {version}"


def _alias_move(planned: Planned) -> AliasMove:
    body = planned.body
    back = planned.begin == "rolling_back"
    return AliasMove(planned.alias, body["version"], body["previous"], datetime.now(UTC), planned.actor, rollback=back)
