"""An alias goes back to where it was before, in one step: no gate and no second person, for this is what one does in haste."""

from __future__ import annotations

from llmops_lab.errors import BadInput
from llmops_lab.flows.audit import person
from llmops_lab.flows.move_alias import Planned, last_move, move, settle
from llmops_lab.flows.promote import Released, audited, check_expected
from llmops_lab.flows.resolve import resolve, retired_part
from llmops_lab.governance.approvals import Rules
from llmops_lab.governance.release import earlier, moves, retired
from llmops_lab.settings import Settings
from llmops_lab.store import audit
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track.registry import Registry


def rollback(name: str, alias: str, settings: Settings, *, why: str = "", expect: int | None = None) -> Released:
    """Move the alias to the version that it had before; repeated, it goes back further. Retired versions are passed over.

    ``expect``: the version that is to be taken back; where the alias is at another one by now, Conflict.
    Raises BadInput where there is none, TamperedRelease or TamperedPrompt where that version is not what it was, Conflict.
    """
    registry, ledger, actor = Registry(settings), open_ledger(settings), person(settings)
    with audited(ledger, registry, actor, {"name": name, "alias": alias, "why": why, "rollback": True}):
        Rules.of(settings.release).checked(alias)
        settle(name, registry, ledger)
        found, entries = registry.find(name), audit.entries(ledger, name=name)
        now = found.aliases.get(alias)
        check_expected(found, alias, expect, now)
        there = {each.version: each for each in registry.versions(name) if not each.retired}  # one can be deleted in MLflow
        candidates = [each for each in earlier(moves(entries, alias), now, retired(entries)) if each in there]
        while candidates and found.kind == "bundle" and retired_part(there[candidates[-1]].body, registry):
            candidates.pop()
        if not candidates:
            raise BadInput(f"{name}@{alias} has no earlier version to go back to. Its history: llmops-lab history {name}.")
        target = resolve(name, candidates[-1], settings)
        body = {"name": name, "version": target.version, "previous": now, "alias": alias, "kind": found.kind, "digest": target.digest}
        planned = Planned(found, alias, "rolling_back", {**body, "author": target.author, "why": why}, actor, last_move(entries, alias))
        done = move(planned, registry, ledger)
        return Released(name, found.kind, target.version, alias, now, True, done.seq, target.digest)


def withdraw(released: Released, settings: Settings, *, why: str) -> None:
    """Take an alias off its first version again, so that it points nowhere, as before.

    Raises Conflict where somebody moved it meanwhile.
    """
    name, alias = released.name, released.alias
    registry, ledger, actor = Registry(settings), open_ledger(settings), person(settings)
    with audited(ledger, registry, actor, {"name": name, "version": None, "alias": alias, "why": why}):
        settle(name, registry, ledger)
        found, entries = registry.find(name), audit.entries(ledger, name=name)
        check_expected(found, alias, released.version, found.aliases.get(alias))
        body = {"name": name, "version": None, "previous": released.version, "alias": alias, "kind": found.kind, "digest": "", "why": why}
        move(Planned(found, alias, "rolling_back", body, actor, last_move(entries, alias)), registry, ledger)
