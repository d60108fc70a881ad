"""What happened to a registered name: every move of its aliases, who made it, on what evidence, and what was refused."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from llmops_lab.flows.move_alias import settle
from llmops_lab.governance.release import Move, history
from llmops_lab.settings import Settings
from llmops_lab.store import audit
from llmops_lab.store.audit import Entry
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track.prompts import AliasMove
from llmops_lab.track.prompts import Registry as Prompts
from llmops_lab.track.registry import Name, Registry, Version


@dataclass(frozen=True)
class Story:
    """A name as it is now, its versions (newest first), and what happened to it (oldest first)."""

    found: Name
    versions: tuple[Version, ...]
    moves: tuple[Move, ...]


def story(name: str, settings: Settings) -> Story:
    """Settle what a crash left open, then tell. Raises UnknownName, Unreachable."""
    registry, ledger = Registry(settings), open_ledger(settings)
    settle(name, registry, ledger)
    entries: list[Entry] = []
    found = registry.find(name)
    while entries != (entries := audit.entries(ledger, name=name)):  # until nobody moved an alias while it was looked at
        found = registry.find(name)
    here = audit.first(ledger)
    lines = [_by_another_log(line, found, here) for line in history(entries, dict(found.aliases))]
    if found.kind == "prompt":
        lines = [_by_library(line, Prompts(settings).moves(name, line.alias)) if line.what == "elsewhere" else line for line in lines]
    return Story(found, tuple(registry.versions(name)), tuple(lines))


def _by_another_log(line: Move, found: Name, here: str) -> Move:
    """The same with where to look, where a project with another ledger was the last that moved the alias."""
    seen = [head for head in found.heads if head.of == line.alias and head.log != here]
    if line.what != "elsewhere" or not seen or line.version != found.aliases.get(line.alias):
        return line
    why = f"moved through another ledger, it seems: who, when and why are in the audit log that begins with {seen[0].log[:12]}"
    return dataclasses.replace(line, why=f"{why}, entry {seen[0].seq}")


def _by_library(line: Move, moves: list[AliasMove]) -> Move:
    """The same with who and when, where the alias was moved through the prompt library, which asks for no gate."""
    made = [move for move in moves if (move.version, move.previous) == (line.version, line.previous)]
    if not made:
        return line
    return dataclasses.replace(
        line, at=made[-1].at.isoformat(), actor=made[-1].author, why="through the prompt library, which asks for no gate"
    )
