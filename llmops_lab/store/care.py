"""Looking after the ledger: check, backup, prune, and forgetting a row."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, StoreError, UnknownName
from llmops_lab.escapes import storable
from llmops_lab.records import canonical
from llmops_lab.store import reviews
from llmops_lab.store._dialect import filesystem_of
from llmops_lab.store._owner import is_alive
from llmops_lab.store.ledger import Ledger

_DAY = 86400.0
_SERVED = ("served", "served_replies", "served_feedback")


@dataclass(frozen=True)
class Health:
    """What ``doctor`` says of the ledger. ``journal`` is "wal" or "delete" (network filesystem); ``sound`` is SQLite's integrity check.

    ``waiting`` entries are not in MLflow yet; ``doubts`` calls may have been paid for twice. Where the ledger is not sound,
    ``problem`` says what SQLite found, and the counts are 0 when they cannot be read any more.
    """

    place: str
    kind: str
    filesystem: str
    journal: str
    sound: bool
    calls: int
    waiting: int
    doubts: int
    problem: str = ""


@dataclass(frozen=True)
class RowCalls:
    """All calls about one row: their ``keys``, the ``cells`` (grid, cell, row id) on them, and the ``grids`` (grid, name, run_id)."""

    keys: frozenset[str]
    cells: tuple[tuple[str, int, str], ...]
    grids: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Forgotten:
    """What ``forget_row`` removed: how many ``cells``, ``replies`` and ``ratings``. ``grids`` (grid, name, run_id) held the row.

    ``other_rows`` are ids of rows that were asked the very same and therefore had the same replies: these cells are gone too.
    ``runs`` and ``traces`` are ids of what was delivered to MLflow before and still holds the row there, ``datasets`` names.
    """

    row_id: str
    grids: tuple[dict[str, Any], ...]
    cells: int
    replies: int
    other_rows: tuple[str, ...]
    runs: tuple[str, ...]
    traces: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    ratings: int = 0


def check(ledger: Ledger) -> Health:
    """Look at the ledger without changing it. Raises StoreError when it cannot be opened at all."""
    filesystem = journal = problem = ""
    if ledger.dialect.name == "sqlite":
        filesystem, journal, problem = filesystem_of(ledger.place), *_integrity(ledger)
    counts = [
        "SELECT COUNT(*) FROM replies",
        "SELECT COUNT(*) FROM outbox WHERE done_at IS NULL",
        "SELECT COUNT(DISTINCT key) FROM doubts",
    ]
    try:
        calls, waiting, doubts = (int(ledger.select(sql)[0][0]) for sql in counts)
    except StoreError as error:
        if not problem:
            raise
        calls = waiting = doubts = 0
        problem = f"{problem}; {error.__cause__}"
    return Health(ledger.place, ledger.dialect.name, filesystem, journal, not problem, calls, waiting, doubts, problem)


def _integrity(ledger: Ledger) -> tuple[str, str]:
    try:
        (journal,) = ledger.select("PRAGMA journal_mode")[0]
        found = [line for (line,) in ledger.select("PRAGMA integrity_check(3)") if line != "ok"]
        return journal, "; ".join(found)
    except StoreError as error:
        return "", str(error.__cause__)


def backup(ledger: Ledger, target: str) -> Path:
    """Copy a SQLite ledger while it is in use. Raises BadInput when the target exists or cannot be, or the ledger is PostgreSQL's."""
    path = Path(target).expanduser().absolute()
    if ledger.dialect.name != "sqlite":
        raise BadInput(f"the ledger is PostgreSQL's ({ledger.place}): use pg_dump to back it up.")
    if path.exists():
        raise BadInput(f"{path} exists already and is not overwritten. Name another file.")
    if not path.parent.is_dir():
        raise BadInput(f"the folder {path.parent} does not exist. Make it, or name another file.")
    half = path.with_name(f".{path.name}.half")
    half.unlink(missing_ok=True)  # of an attempt that was killed
    try:
        with closing(ledger.dialect.connect()) as source, closing(sqlite3.connect(half)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
        half.rename(path)
    except (sqlite3.Error, OSError) as error:
        raise BadInput(f"the backup {path} cannot be written: {error}. Is there room, and may you write there?") from error
    finally:
        half.unlink(missing_ok=True)
    return path


def prune(ledger: Ledger, *, days: float) -> int:
    """Delete grids that ended more than ``days`` ago and the calls of that age that no other grid uses; returns how many replies went.

    What was served before then goes too: rows of requests, replies kept for the same request, feedback.

    Kept whatever their age: a grid that runs or that MLflow has not got yet, every call of a grid that is kept, calls whose
    outcome is unknown, and the list of what may have been paid for twice.
    """
    if not days > 0:
        raise BadInput(f"prune needs a number of days above 0, not {days}.")
    before = time.time() - days * _DAY
    grids = [(grid,) for grid in _ended(ledger, before)]
    replies = "SELECT COUNT(*) FROM replies"
    (count,) = ledger.select(replies)[0]
    datasets = {name for (name,) in ledger.select("SELECT DISTINCT dataset FROM rows")}
    ledger.write(
        ("DELETE FROM scores WHERE grid = ?", grids),
        ("DELETE FROM cells WHERE grid = ?", grids),
        ("DELETE FROM summaries WHERE grid = ?", grids),
        ("DELETE FROM grids WHERE grid = ?", grids),
        # A grid that begins meanwhile is on record before its rows are, so rows that it found here are not taken from it.
        (
            "DELETE FROM rows WHERE dataset = ? AND NOT EXISTS (SELECT 1 FROM grids WHERE plan LIKE ?)",
            [(name, f"%{name}%") for name in datasets],
        ),
        (f"DELETE FROM claims WHERE {_old('claims')} AND {_SETTLED}", [(before,) * 3]),  # noqa: S608
        (f"DELETE FROM replies WHERE {_old('replies')} AND {_UNCLAIMED}", [(before,) * 3]),  # noqa: S608
        ("DELETE FROM outbox WHERE done_at < ?", [(before,)]),
        *((f"DELETE FROM {table} WHERE at < ?", [(before,)]) for table in _SERVED),  # noqa: S608
    )
    (left,) = ledger.select(replies)[0]
    _scrub(ledger)
    return int(count - left)


def _old(table: str) -> str:
    # A call is old when all that is known of it is: taking away a part would change what its doubts add up to.
    return (
        f"{table}.at < ? AND NOT EXISTS (SELECT 1 FROM cells c WHERE c.key = {table}.key) "  # noqa: S608
        f"AND NOT EXISTS (SELECT 1 FROM claims n WHERE n.key = {table}.key AND n.at >= ?) "
        f"AND NOT EXISTS (SELECT 1 FROM replies n WHERE n.key = {table}.key AND n.at >= ?)"
    )


_UNCLAIMED = "NOT EXISTS (SELECT 1 FROM claims k WHERE k.key = replies.key)"
_SETTLED = (
    "(SELECT SUM(CASE s.kind WHEN 'claim' THEN 1 ELSE -1 END) FROM claims s WHERE s.key = claims.key) "
    "<= (SELECT COUNT(*) FROM replies r WHERE r.key = claims.key) "
    "+ (SELECT COUNT(*) FROM doubts d WHERE d.key = claims.key AND d.kind = 'lost')"
)


def _ended(ledger: Ledger, before: float) -> list[str]:
    waiting = {payload.get("grid") for _, _, payload in ledger.outbox_pending()}
    found = ledger.select("SELECT grid, state, owner FROM grids WHERE COALESCE(ended, started) < ?", (before,))
    return [grid for grid, state, owner in found if grid not in waiting and not (state == "running" and is_alive(owner))]


def row_calls(ledger: Ledger, row_id: str) -> RowCalls:
    """What the ledger knows of one row. Raises UnknownName, and BadInput while a grid with this row runs."""
    both = "SELECT key FROM cells WHERE row_id = ? UNION SELECT key FROM replies WHERE row_id = ?"
    keys = frozenset(key for (key,) in ledger.select(both, (storable(row_id),) * 2))
    kept = ledger.select("SELECT 1 FROM rows WHERE row_id = ? LIMIT 1", (storable(row_id),))
    if not keys and not kept and not reviews.holds_row(ledger, row_id):
        known = [name for (name,) in ledger.select("SELECT DISTINCT row_id FROM cells LIMIT 1000")]
        raise UnknownName("row", row_id, known[:50])
    cells = tuple(_cells_of(ledger, keys))
    grids = [record for record in map(ledger.grid, sorted({grid for grid, _, _ in cells})) if record is not None]
    for record in grids:
        if record["state"] == "running":
            raise BadInput(
                f"the grid {record['name']} ({record['grid']}) holds this row and still runs. Cancel it or let it end, then forget."
            )
    return RowCalls(keys, cells, tuple({name: record[name] for name in ("grid", "name", "run_id")} for record in grids))


def forget_row(ledger: Ledger, row_id: str) -> Forgotten:
    """Delete everything the ledger holds of one row, in every grid, and overwrite its bytes. Raises as ``row_calls`` does.

    What lies outside the ledger is the caller's story.
    """
    found = row_calls(ledger, row_id)
    entries, runs, traces = _entries_of(ledger, found)
    gone = {storable(row_id), *(other for _, _, other in found.cells)}
    kept, datasets = _additions_without(ledger, gone)
    reviewed = reviews.forgetting(ledger, gone)
    traces |= reviewed.traces
    runs |= {grid["run_id"] for grid in found.grids if grid["run_id"]}
    (before,) = ledger.select("SELECT COUNT(*) FROM replies")[0]
    values = [(key,) for key in sorted(found.keys)]
    ledger.write(
        *((f"DELETE FROM {table} WHERE key = ?", values) for table in ("scores", "replies", "claims", "doubts", "cells")),  # noqa: S608
        ("DELETE FROM outbox WHERE id = ?", [(number,) for number in entries]),
        ("UPDATE outbox SET payload = ? WHERE id = ?", kept),
        ("DELETE FROM rows WHERE row_id = ?", [(storable(row_id),)]),
        ("DELETE FROM rows WHERE dataset = ? AND row_id = ?", _bodies_of(ledger, found)),
        ("DELETE FROM summaries WHERE grid = ?", [(grid["grid"],) for grid in found.grids]),
        *reviewed.writes,
    )
    (after,) = ledger.select("SELECT COUNT(*) FROM replies")[0]
    _scrub(ledger)
    others = sorted({other for _, _, other in found.cells} - {storable(row_id)})
    there = tuple(sorted(runs)), tuple(sorted(traces)), tuple(sorted(datasets))
    return Forgotten(storable(row_id), found.grids, len(found.cells), before - after, tuple(others), *there, reviewed.ratings)


def _bodies_of(ledger: Ledger, found: RowCalls) -> list[tuple[str, str]]:
    """Dataset and id of every row that these cells were about."""
    plans = {grid: (ledger.grid(grid) or {}).get("plan", {}) for grid in {grid for grid, _, _ in found.cells}}
    return sorted({(plans[grid].get("dataset", {}).get("digest", ""), row_id) for grid, _, row_id in found.cells})


def _cells_of(ledger: Ledger, keys: Collection[str]) -> list[tuple[str, int, str]]:
    names, found = sorted(keys), []
    for start in range(0, len(names), 500):
        chunk = names[start : start + 500]
        found += ledger.select(f"SELECT grid, cell, row_id FROM cells WHERE key IN ({','.join('?' * len(chunk))})", chunk)  # noqa: S608
    return found


def _entries_of(ledger: Ledger, found: RowCalls) -> tuple[list[int], set[str], set[str]]:
    """Of the outbox: numbers of the traces of these calls, and the ids of the runs and traces that were delivered."""
    entries: list[int] = []
    runs: set[str] = set()
    traces: set[str] = set()
    grids, rows = {grid for grid, _, _ in found.cells}, {row_id for _, _, row_id in found.cells}
    cells = {(grid, str(cell)) for grid, cell, _ in found.cells}
    for number, kind, payload, remote in ledger.select("SELECT id, kind, payload, remote_id FROM outbox"):
        entry = json.loads(payload)
        if kind == "grid" and entry["grid"] in grids and remote:
            runs.add(remote)
        if kind == "trace" and (entry.get("grid"), (entry.get("tags") or {}).get("cell")) in cells:
            entries.append(number)
            traces |= {remote} if remote else set()
        if kind == "ask" and entry.get("row_id") in rows:  # what is remote here is the run that all questions share
            entries.append(number)
            traces |= {entry["trace_id"]} if remote else set()
    return entries, runs, traces


def _additions_without(ledger: Ledger, rows: set[str]) -> tuple[list[tuple[str, int]], set[str]]:
    """Of the outbox: (payload without these rows, number) of what is added to datasets, and the datasets that have the rows already."""
    kept: list[tuple[str, int]] = []
    datasets: set[str] = set()
    for number, payload, remote in ledger.select("SELECT id, payload, remote_id FROM outbox WHERE kind = 'dataset'"):
        entry = json.loads(payload)
        others = [record for record in entry["records"] if record["tags"].get("row_id") not in rows]
        if len(others) < len(entry["records"]):
            kept.append((canonical({**entry, "records": others}), number))
            datasets |= {entry["dataset"]} if remote else set()
    return kept, datasets


def _scrub(ledger: Ledger) -> None:
    # Deleted rows would otherwise live on in free pages and in the write-ahead log.
    try:
        with closing(ledger.dialect.connect()) as connection:
            if ledger.dialect.name != "sqlite":
                tables = ("scores", "replies", "claims", "doubts", "cells", "grids", "outbox", "rows", "summaries")
                connection.execute(f"VACUUM (FULL) {', '.join((*tables, *reviews.TABLES))}")
                return
            connection.execute("VACUUM")
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except ledger.dialect.errors as error:
        raise _left_behind(ledger, str(error)) from error
    if busy:
        raise _left_behind(ledger, "another process is reading it")


def _left_behind(ledger: Ledger, reason: str) -> StoreError:
    message = (
        f"the rows are deleted from the ledger {ledger.place}, but their bytes are not overwritten yet: {reason}. The next prune does it."
    )
    return StoreError(message, ledger.place)
