"""Who acts, and whether the audit log is whole: its own chain, and what MLflow has seen of it."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Mapping
from typing import Any

from llmops_lab.errors import LabError, Unreachable
from llmops_lab.governance.release import DONE
from llmops_lab.settings import Settings
from llmops_lab.store import audit
from llmops_lab.store.audit import Entry, Verified
from llmops_lab.store.ledger import Ledger, open_ledger
from llmops_lab.track.registry import Head, Registry

_OTHERS = "other.entries"  # of an alias' moves MLflow has a mark each; no alias has a dot


def person(settings: Settings) -> str:
    """Under whose name something is released: the setting ``reviewer``, else the system's user name. Nothing proves it."""
    if settings.reviewer.strip():
        return settings.reviewer.strip()
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def log(ledger: Ledger, registry: Registry, kind: str, actor: str, body: Mapping[str, Any]) -> Entry:
    """Add an entry about a registered name to the audit log, and leave its mark in MLflow."""
    entry = audit.append(ledger, kind, actor, body)
    mark(ledger, registry, entry)
    return entry


def mark(ledger: Ledger, registry: Registry, entry: Entry) -> None:
    """Tell MLflow of an entry, so that cutting it off is found. Where MLflow is away or has no such name, the next entry will do."""
    slot = str(entry.body["alias"]) if entry.kind in DONE.values() else _OTHERS
    with contextlib.suppress(LabError):
        registry.saw(entry.name, slot, Head(audit.first(ledger), entry.seq, entry.hash))


def verify(settings: Settings) -> tuple[Verified, str]:
    """What is wrong with the log, and a note where not all could be looked at. Raises StoreError where it cannot be read."""
    ledger = open_ledger(settings)
    try:
        seen = [(name.name, head) for name in Registry(settings).names() for head in name.heads]
    except Unreachable as error:
        return audit.verify(ledger), f"Only the chain itself was looked at, not whether its end was cut off: {error}"
    log = audit.first(ledger)
    heads = [(head.seq, head.hash, f"MLflow ({name})") for name, head in seen if head.log == log]
    others = sorted({name for name, head in seen if head.log != log})
    if others:
        note = (
            f"MLflow has seen another log speak of {', '.join(others)}. If this is the only ledger that is used with this MLflow, "
            "the log was put away and begun anew."
        )
    else:
        unseen = "Nothing registered has left a mark in MLflow yet, so nobody could tell whether the end of the log was cut off."
        note = "" if heads else unseen
    return audit.verify(ledger, heads), note
