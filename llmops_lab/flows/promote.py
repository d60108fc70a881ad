"""A version is promoted: it must be whole, past its gate and approved; then its alias is moved. Every try is in the audit log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput, Conflict, StoreError, Unreachable
from llmops_lab.flows.audit import log, mark, person
from llmops_lab.flows.move_alias import Planned, last_move, move, settle
from llmops_lab.flows.resolve import Resolved, resolve, retired_part
from llmops_lab.governance.approvals import Rules, check_approver
from llmops_lab.governance.gate import GateResult
from llmops_lab.governance.release import authors_of, retired, was_in
from llmops_lab.settings import Settings
from llmops_lab.store import audit
from llmops_lab.store.audit import Entry
from llmops_lab.store.ledger import Ledger, open_ledger
from llmops_lab.track.registry import Name, Registry


@dataclass(frozen=True, slots=True, repr=False)
class Released:
    """Where an alias is now. ``previous`` is where it was; ``moved`` is False when it was there already; ``entry`` is the log's number."""

    name: str
    kind: str
    version: int
    alias: str
    previous: int | None
    moved: bool
    entry: int
    digest: str

    def __repr__(self) -> str:
        where = f"{self.name}@{self.alias} is {self.kind} version {self.version}"
        if not self.moved:
            return f"{where}, as it was before"
        return f"{where} (before: {'none' if self.previous is None else self.previous}), audit entry {self.entry}"


@dataclass(frozen=True)
class Wish:
    """What a promoter asks for. ``expect``: the version at which he saw the alias, 0 for none; None when he did not look."""

    name: str
    version: int | str
    alias: str
    approver: str = ""
    gate: GateResult | None = None
    expect: int | None = None
    why: str = ""


def promote(wish: Wish, settings: Settings) -> Released:
    """Point the alias at the version. Raises GateFailed, BadInput (order, approver, retired), Conflict, Tampered..., Unreachable."""
    registry, ledger, actor = Registry(settings), open_ledger(settings), person(settings)
    asked = {"name": wish.name, "version": wish.version, "alias": wish.alias, "approver": wish.approver, "why": wish.why}
    with audited(ledger, registry, actor, asked):
        rules = Rules.of(settings.release)
        rules.checked(wish.alias)
        settle(wish.name, registry, ledger)
        entries = audit.entries(ledger, name=wish.name)
        found = registry.find(wish.name)
        version = resolve(wish.name, _number(wish.version), settings)
        now = found.aliases.get(wish.alias)
        check_expected(found, wish.alias, wish.expect, now)
        if version.retired or version.version in retired(entries):
            raise BadInput(f"{version.address} is retired, so no alias can be moved to it any more.")
        if version.kind == "bundle" and (part := retired_part(version.content, registry)):
            raise BadInput(f"{version.address} pins {part}, which is retired, so no alias can be moved to it any more.")
        authors = (version.author, *authors_of(entries, version.version))
        check_approver(rules, wish.alias, promoter=actor, authors=authors, approver=wish.approver)
        _check_order(rules, wish.alias, version, entries)
        evidence = _evidence(wish, rules, version, now, ledger, settings)
        body: dict[str, Any] = {**asked, "version": version.version, "kind": found.kind, "digest": version.digest, "author": version.author}
        body |= {"previous": now, "gate": evidence.seq if evidence else None}
        if now == version.version:
            kept = log(ledger, registry, "already_there", actor, body)
            return Released(found.name, found.kind, version.version, wish.alias, now, False, kept.seq, version.digest)
        done = move(Planned(found, wish.alias, "promoting", body, actor, last_move(entries, wish.alias)), registry, ledger)
        return Released(found.name, found.kind, version.version, wish.alias, now, True, done.seq, version.digest)


@contextlib.contextmanager
def audited(ledger: Ledger, registry: Registry, actor: str, asked: Mapping[str, Any]) -> Iterator[None]:
    """Put a try that fails into the log, with the reason."""
    try:
        yield
    except Exception as error:
        plain = {name: value if isinstance(value, int | None) else str(value)[:500] for name, value in asked.items()}
        with contextlib.suppress(StoreError):  # what was wrong first is what the promoter has to hear
            entry = audit.append(ledger, "refused", actor, {**plain, "reason": str(error), "error": type(error).__name__})
            if not isinstance(error, Unreachable):  # nobody waits for a server twice
                mark(ledger, registry, entry)
        raise


def _number(version: int | str) -> int:
    text = str(version)
    if isinstance(version, bool) or not text.isdecimal() or int(text) < 1:
        raise BadInput(f"a version is a number such as 3, not {version!r:.80}.")
    return int(text)


def check_expected(found: Name, alias: str, expect: int | None, now: int | None) -> None:
    """Raise Conflict where the alias is not where somebody saw it (0: nowhere; None: he did not look)."""
    if expect is not None and (expect or None) != now:
        seen = f"version {expect}" if expect else "nowhere"
        at = "nowhere" if now is None else f"at version {now}"
        raise Conflict(
            f"{found.name}@{alias} is {at} now, not {seen} as you saw it. Look at the history, then decide again.", {"version": now}
        )


def _check_order(rules: Rules, alias: str, version: Resolved, entries: Sequence[Entry]) -> None:
    before = rules.before(alias)
    if before and not was_in(entries, before, version.version):
        raise BadInput(
            f"{version.address} has not been in {before}, or was rolled back from there, and {alias} comes after it. Promote it to "
            f"{before} first; or, where releases need no order, set [tool.llmops_lab.release] in_order = false."
        )


def _evidence(wish: Wish, rules: Rules, version: Resolved, now: int | None, ledger: Ledger, settings: Settings) -> Entry | None:
    from llmops_lab.flows import evidence, gate  # they bring numpy

    if wish.gate is not None:
        gate.file(wish.gate, version.name, version.version, ledger=ledger, settings=settings)
    return evidence.evidence(version, wish.alias, now, ledger=ledger, settings=settings) if wish.alias in rules.gate else None
