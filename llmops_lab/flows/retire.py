"""A version is retired: it stays where it is recorded, and no alias can be moved to it any more."""

from __future__ import annotations

from llmops_lab.errors import BadInput
from llmops_lab.flows.audit import mark, person
from llmops_lab.flows.move_alias import settle
from llmops_lab.flows.promote import audited
from llmops_lab.flows.resolve import pinned
from llmops_lab.governance.release import retired, under_way
from llmops_lab.settings import Settings
from llmops_lab.store import audit
from llmops_lab.store.audit import Entry
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track.registry import Registry


def retire(name: str, version: int, settings: Settings, *, why: str = "") -> Entry:
    """Retire it, and return the audit log's entry. Raises BadInput while an alias points at it, or at a bundle with it."""
    registry, ledger, actor = Registry(settings), open_ledger(settings), person(settings)
    with audited(ledger, registry, actor, {"name": name, "version": version, "why": why, "retire": True}):
        settle(name, registry, ledger)
        held = registry.get(name, version)
        if holder := _pinned_by(name, version, registry):
            raise BadInput(f"{holder} and pins {name}/{version}. Move that alias elsewhere first, then retire the version.")
        with audit.writing(ledger) as chain:  # nobody can move an alias here meanwhile
            entries = chain.entries(name)
            if version in retired(entries):
                raise BadInput(f"{name}/{version} is retired already.")
            used = [alias for alias, at in registry.find(name).aliases.items() if at == version]
            used += [str(entry.body["alias"]) for entry in under_way(entries) if entry.body.get("version") == version]
            if used:
                raise BadInput(f"{name}@{used[0]} is at version {version}. Move it elsewhere first, then retire the version.")
            entry = chain.append("retired", actor, {"name": name, "version": version, "digest": held.digest, "why": why})
            registry.retire(name, version, f"{entry.at} {actor}: {entry.body['why']}")  # as the log has it, without secrets
        mark(ledger, registry, entry)
        return entry


def _pinned_by(name: str, version: int, registry: Registry) -> str:
    for bundle in registry.names():
        for alias, at in bundle.aliases.items() if bundle.kind == "bundle" else ():
            if (name, version) in pinned(registry.get(bundle.name, at).body):
                return f"{bundle.name}@{alias} is bundle {bundle.name}/{at}"
    return ""
