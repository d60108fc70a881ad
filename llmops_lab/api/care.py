"""Looking after the ledger that the settings name: check, back up, prune, forget a row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmops_lab import settings as _settings
from llmops_lab.store.ledger import open_ledger

if TYPE_CHECKING:
    from llmops_lab.flows.forget import Report
    from llmops_lab.store.care import Health


def check() -> Health:
    """Whether the ledger is sound, and what waits in it. Raises StoreError when it cannot be opened at all."""
    from llmops_lab.store import care

    return care.check(open_ledger(_settings.load()))


def backup(target: str) -> Path:
    """Copy a SQLite ledger while it is in use; returns the copy's path. Raises BadInput: ``target`` exists or cannot be written."""
    from llmops_lab.store import care

    return care.backup(open_ledger(_settings.load()), target)


def prune(*, days: float) -> int:
    """Delete grids that ended more than ``days`` ago with the calls that no other grid uses; returns how many replies went."""
    from llmops_lab.store import care

    return care.prune(open_ledger(_settings.load()), days=days)


def forget_row(row_id: str) -> Report:
    """Delete one row from every grid. Printed, the report says what went and where the row still lies. Raises UnknownName or BadInput."""
    from llmops_lab.flows.forget import forget_row as forget

    return forget(_settings.load(), row_id)
