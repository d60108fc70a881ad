"""Looking after the ledger: check, backup, prune, and forgetting a row."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.store._dialect import filesystem_of
from llmops_lab.store.ledger import Ledger


@dataclass(frozen=True)
class Health:
    """What ``doctor`` says of the ledger. ``journal`` is "wal" or "delete" (network filesystem); ``sound`` is SQLite's integrity check.

    ``waiting`` entries are not in MLflow yet; ``doubts`` calls may have been paid for twice.
    """

    place: str
    kind: str
    filesystem: str
    journal: str
    sound: bool
    calls: int
    waiting: int
    doubts: int


def check(ledger: Ledger) -> Health:
    """Look at the ledger without changing it."""
    with ledger._reading() as connection:
        (calls,) = connection.execute("SELECT COUNT(*) FROM replies").fetchone()
        (waiting,) = connection.execute("SELECT COUNT(*) FROM outbox WHERE done_at IS NULL").fetchone()
        (doubts,) = connection.execute("SELECT COUNT(DISTINCT key) FROM doubts").fetchone()
        if ledger.dialect.name != "sqlite":
            return Health(ledger.place, "postgresql", "", "", True, calls, waiting, doubts)
        journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
        sound = connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    return Health(ledger.place, "sqlite", filesystem_of(ledger.place), journal, sound, calls, waiting, doubts)


def backup(ledger: Ledger, target: str) -> Path:
    """Copy a SQLite ledger while it is in use. Raises BadInput when the target exists or the ledger is PostgreSQL's."""
    path = Path(target).absolute()
    if ledger.dialect.name != "sqlite":
        raise BadInput(f"the ledger is PostgreSQL's ({ledger.place}): use pg_dump to back it up.")
    if path.exists():
        raise BadInput(f"{path} exists already and is not overwritten. Name another file.")
    with ledger._reading() as connection, sqlite3.connect(path) as copy:
        connection.backup(copy)
    copy.close()
    return path


def prune(ledger: Ledger, *, days: float) -> int:
    """Delete replies, scores and claims older than ``days``, and grids without any cell left. Returns the number of replies deleted."""
    if days <= 0:
        raise BadInput(f"prune needs a number of days above 0, not {days}.")
    before = time.time() - days * 86400.0
    count = int(ledger._select("SELECT COUNT(*) FROM replies WHERE at < ?", (before,))[0][0])
    old = "SELECT grid FROM grids WHERE started < ? AND state <> 'running'"
    ledger.write(
        (f"DELETE FROM scores WHERE grid IN ({old})", [(before,)]),  # noqa: S608
        (f"DELETE FROM cells WHERE grid IN ({old})", [(before,)]),  # noqa: S608
        ("DELETE FROM replies WHERE at < ?", [(before,)]),
        ("DELETE FROM claims WHERE at < ?", [(before,)]),
        ("DELETE FROM doubts WHERE at < ?", [(before,)]),
        ("DELETE FROM grids WHERE started < ? AND state <> 'running'", [(before,)]),
        ("DELETE FROM outbox WHERE done_at < ?", [(before,)]),
    )
    _scrub(ledger)
    return count


def forget_row(ledger: Ledger, row_id: str) -> list[dict[str, Any]]:
    """Delete everything recorded of one row, in every grid, and overwrite its bytes. Returns the grids that held it.

    Their MLflow runs still hold the row in ``cells.parquet``: the caller tells the user which. Raises UnknownName.
    """
    rows = ledger._select(
        "SELECT DISTINCT g.grid, g.name, g.run_id FROM cells c JOIN grids g ON g.grid = c.grid WHERE c.row_id = ?", (row_id,)
    )
    if not rows:
        known = [row[0] for row in ledger._select("SELECT DISTINCT row_id FROM cells LIMIT 1000", ())]
        raise UnknownName("row", row_id, known[:50])
    keys = [row[0] for row in ledger._select("SELECT DISTINCT key FROM cells WHERE row_id = ?", (row_id,))]
    ledger.write(
        ("DELETE FROM scores WHERE key = ?", [(key,) for key in keys]),
        ("DELETE FROM replies WHERE key = ?", [(key,) for key in keys]),
        ("DELETE FROM claims WHERE key = ?", [(key,) for key in keys]),
        ("DELETE FROM doubts WHERE key = ?", [(key,) for key in keys]),
        ("DELETE FROM cells WHERE row_id = ?", [(row_id,)]),
    )
    _scrub(ledger)
    return [{"grid": grid, "name": name, "run_id": run_id} for grid, name, run_id in rows]


def _scrub(ledger: Ledger) -> None:
    # Deleted rows would otherwise live on in free pages and in the write-ahead log.
    if ledger.dialect.name == "sqlite":
        with ledger._reading() as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
