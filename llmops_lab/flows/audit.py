"""Who acts, and whether the audit log is whole: its own chain, and what MLflow has seen of it."""

from __future__ import annotations

import getpass

from llmops_lab.errors import Unreachable
from llmops_lab.settings import Settings
from llmops_lab.store import audit
from llmops_lab.store.audit import Verified
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track.registry import Registry


def person(settings: Settings) -> str:
    """Under whose name something is released: the setting ``reviewer``, else the system's user name. Nothing proves it."""
    if settings.reviewer.strip():
        return settings.reviewer.strip()
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


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
            f"MLflow has seen another log move aliases of {', '.join(others)}. If this is the only ledger that is used with this MLflow, "
            "the log was put away and begun anew."
        )
    else:
        note = "" if heads else "No release has left a mark in MLflow yet, so nobody could tell whether the end of the log was cut off."
    return audit.verify(ledger, heads), note
