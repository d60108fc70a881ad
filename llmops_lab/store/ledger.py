"""The ledger's door: claim, record, look up, score, and read a grid back. See ``_schema`` for what lies where."""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.errors import StoreError
from llmops_lab.escapes import storable
from llmops_lab.records import Outcome, Score, Status, Usage, canonical
from llmops_lab.store._bodies import outcome_body, outcome_from, score_body, score_from
from llmops_lab.store._dialect import Dialect, dialect_for, trouble
from llmops_lab.store._owner import is_alive, is_here, this_process
from llmops_lab.store._writer import Done, Write, Writer

_CHUNK = 500
_CLAIM = "INSERT INTO claims (key, grid, kind, owner, at) VALUES (?, ?, ?, ?, ?)"
_REPLY = "INSERT INTO replies (key, grid, row_id, status, body, at) VALUES (?, ?, ?, ?, ?, ?)"
_DOUBT = "INSERT INTO doubts (key, grid, kind, reason, at) VALUES (?, ?, ?, ?, ?)"
_SCORE = "INSERT INTO scores (grid, cell, key, scorer, fingerprint, body, at) VALUES (?, ?, ?, ?, ?, ?, ?)"
_CELL = (
    "INSERT INTO cells (grid, cell, key, prompt, model, row_id, replicate, reused) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (grid, cell) DO NOTHING"
)

# A good reply stands, whatever asking again came to; else the newest outcome does.
_OWN = "SELECT MAX(o.seq) FROM replies o WHERE o.key = c.key AND o.grid = c.grid"
NEWEST = f"COALESCE(({_OWN} AND o.status = 'ok'), c.reused, ({_OWN}))"
"""SQL: the number of the reply that is shown for the cell ``c``."""
_STATE = "c.cell, c.key, c.prompt, c.model, c.row_id, c.replicate, c.reused, r.status, r.body, r.at"
CELLS = f"SELECT {_STATE} FROM cells c LEFT JOIN replies r ON r.seq = {NEWEST}"  # noqa: S608
"""SQL: cells with their outcomes, as ``CellState`` has them."""


@dataclass(frozen=True, slots=True)
class CellRow:
    """One cell of a grid as it was planned; ``reused`` is the number of an older reply that answers it."""

    cell: int
    key: str
    prompt: str
    model: str
    row_id: str
    replicate: int
    reused: int | None = None


@dataclass(frozen=True, slots=True)
class CellState:
    """One cell as the ledger knows it now; ``outcome`` None while nothing is recorded."""

    row: CellRow
    outcome: Outcome | None
    at: float | None = None
    """When the outcome was recorded, in epoch seconds."""


class Ledger:
    """Open it with ``open_ledger``. Reads are safe from any thread; writes go through one writer thread."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.owner = this_process()
        self._local = threading.local()
        with self._reading("opened"):
            self._identity = dialect.identity()
        self._writer = Writer(dialect)

    @property
    def place(self) -> str:
        """Where it lies: an absolute path, or host/name of the PostgreSQL database."""
        return self.dialect.place

    @property
    def is_in_place(self) -> bool:
        """False when its file was deleted, or another one lies there now."""
        return self.dialect.identity() == self._identity

    def close(self) -> None:
        """Finish queued writes."""
        self._writer.close()
        connection, self._local.connection = getattr(self._local, "connection", None), None
        if connection is not None:
            connection.close()

    # -- writing, hot path -------------------------------------------------------------------------------------------------
    def put(self, writes: Sequence[Write], done: Done) -> None:
        """Queue rows made by the functions below; ``done(error | None)`` is called after their commit, in the writer's thread."""
        self._writer.put(writes, done)

    def write(self, *writes: Write) -> None:
        """Commit rows and wait. Raises StoreError."""
        self._writer.write(writes)

    def claims(self, grid: str, keys: Iterable[str], kind: str = "claim") -> Write:
        """Rows saying that these calls are about to be sent (``claim``), or were not sent after all (``release``)."""
        now = time.time()
        return _CLAIM, [(key, grid, kind, self.owner, now) for key in keys]

    def reply(self, grid: str, key: str, row_id: str, outcome: Outcome) -> Write:
        """The row of one outcome."""
        return _REPLY, [(key, grid, storable(row_id), outcome.status, outcome_body(outcome), time.time())]

    def doubts(self, grid: str, keys: Iterable[str], kind: str, reason: str) -> Write:
        """Rows saying that these calls may have been paid for: ``lost`` (no outcome on record) or ``retried`` (one follows)."""
        now = time.time()
        return _DOUBT, [(key, grid, kind, reason, now) for key in keys]

    def scores(self, grid: str, items: Iterable[tuple[int, str, str, str | None, Score]]) -> Write:
        """Rows of ``(cell, key, scorer, fingerprint, score)``."""
        now = time.time()
        return _SCORE, [(grid, cell, key, storable(scorer), mark, score_body(score), now) for cell, key, scorer, mark, score in items]

    # -- grids -------------------------------------------------------------------------------------------------------------
    def begin(self, grid: str, name: str, plan: dict[str, Any], cells: Iterable[CellRow]) -> None:
        """Record a grid and its planned cells; the same grid again (a resume) only takes it over."""
        self.write(
            (
                "INSERT INTO grids (grid, name, plan, state, owner, started) VALUES (?, ?, ?, 'running', ?, ?) "
                "ON CONFLICT (grid) DO UPDATE SET state = 'running', owner = excluded.owner, ended = NULL",
                [(grid, storable(name), canonical(plan), self.owner, time.time())],
            )
        )
        for chunk in chunks(cells, 5000):
            rows = [(grid, c.cell, c.key, storable(c.prompt), storable(c.model), storable(c.row_id), c.replicate, c.reused) for c in chunk]
            self.write((_CELL, rows))

    def end(self, grid: str, state: str) -> None:
        """Record how a grid ended."""
        self.write(("UPDATE grids SET state = ?, ended = ? WHERE grid = ?", [(state, time.time(), grid)]))

    def linked(self, grid: str, run_id: str) -> None:
        """Record the MLflow run of a grid."""
        self.write(("UPDATE grids SET run_id = ? WHERE grid = ?", [(run_id, grid)]))

    def grid(self, grid_or_run: str) -> dict[str, Any] | None:
        """The record of a grid, by its own id, its MLflow run id or its name (the newest), or None."""
        sql = (
            "SELECT grid, name, plan, state, owner, started, ended, run_id FROM grids "
            "WHERE grid = ? OR run_id = ? OR name = ? ORDER BY started DESC LIMIT 1"
        )
        rows = self.select(sql, (storable(grid_or_run),) * 3)
        return self._grid_record(rows[0]) if rows else None

    def grids(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest grids first. A grid whose process is gone while ``running`` is shown as ``interrupted``."""
        sql = "SELECT grid, name, plan, state, owner, started, ended, run_id FROM grids ORDER BY started DESC LIMIT ?"
        return [self._grid_record(row) for row in self.select(sql, (limit,))]

    def _grid_record(self, row: Sequence[Any]) -> dict[str, Any]:
        grid, name, plan, state, owner, started, ended, run_id = row
        if state == "running" and not is_alive(owner):
            state = "interrupted"
        record = {"grid": grid, "name": name, "plan": json.loads(plan), "state": state, "started": started, "ended": ended}
        return {**record, "run_id": run_id}

    # -- looking up --------------------------------------------------------------------------------------------------------
    def answered(self, keys: Iterable[str], *, grid: str | None = None) -> dict[str, int]:
        """Key -> number of its newest good reply, for the keys that have one; only those of ``grid`` where it is given."""
        found: dict[str, int] = {}
        only = " AND grid = ?" if grid else ""
        for chunk in chunks(keys, _CHUNK):
            marks = ",".join("?" * len(chunk))
            sql = f"SELECT key, MAX(seq) FROM replies WHERE status = 'ok' AND key IN ({marks}){only} GROUP BY key"  # noqa: S608
            found.update(self.select(sql, (*chunk, grid) if grid else chunk))
        return found

    def outcomes(self, numbers: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
        """``(number, outcome)`` of recorded replies, a chunk at a time."""
        for chunk in chunks(numbers, _CHUNK):
            sql = f"SELECT seq, status, body FROM replies WHERE seq IN ({','.join('?' * len(chunk))})"  # noqa: S608
            for seq, status, body in self.select(sql, chunk):
                yield seq, outcome_from(status, body)

    def settle_doubts(self, grid: str, keys: Iterable[str]) -> list[str]:
        """Find calls that a dead process claimed and never answered; record and return them."""
        found: dict[str, int] = {}
        for chunk in chunks(keys, _CHUNK):
            found |= self._unsettled(chunk)
        if found:
            lost = [key for key, claims in found.items() for _ in range(claims)]
            self.write(self.doubts(grid, lost, "lost", "the process that sent it ended before a reply was recorded"))
        return list(found)

    def _unsettled(self, keys: Sequence[str]) -> dict[str, int]:
        marks = ",".join("?" * len(keys))
        sql = f"SELECT key, kind, owner FROM claims WHERE key IN ({marks})"  # noqa: S608
        open_claims: dict[str, int] = {}
        live: set[str] = set()
        claims = self.select(sql, keys)
        # Of a process on another host nobody knows whether it lives. To be asked again may be to be paid twice, so it is named.
        running = {owner for owner in {row[2] for row in claims} if owner != self.owner and is_here(owner) and is_alive(owner)}
        for key, kind, owner in claims:
            open_claims[key] = open_claims.get(key, 0) + (1 if kind == "claim" else -1)
            if kind == "claim" and owner in running:
                live.add(key)
        if not open_claims:
            return {}
        marks = ",".join("?" * len(open_claims))
        for source in ("replies WHERE", "doubts WHERE kind = 'lost' AND"):
            sql = f"SELECT key, COUNT(*) FROM {source} key IN ({marks}) GROUP BY key"  # noqa: S608
            for key, count in self.select(sql, tuple(open_claims)):
                open_claims[key] -= count
        return {key: count for key, count in open_claims.items() if count > 0 and key not in live}

    def doubted(self, grid: str) -> list[str]:
        """All keys of a grid's cells that may have been paid for twice, from every process that ever ran them."""
        sql = "SELECT DISTINCT c.key FROM cells c JOIN doubts d ON d.key = c.key WHERE c.grid = ? ORDER BY c.key"
        return [row[0] for row in self.select(sql, (grid,))]

    def stored_scores(self, marks: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Score]:
        """``(key, fingerprint)`` -> the newest good score, for those that have one."""
        found: dict[tuple[str, str], Score] = {}
        for chunk in chunks(marks, _CHUNK // 2):
            where = " OR ".join("(key = ? AND fingerprint = ?)" for _ in chunk)
            sql = f"SELECT key, fingerprint, body FROM scores WHERE {where} ORDER BY seq"  # noqa: S608
            for key, mark, body in self.select(sql, tuple(part for pair in chunk for part in pair)):
                score = score_from(body)
                if score.value is not None:
                    found[key, mark] = score
        return found

    def cells(self, grid: str, *, status: Status | None = None) -> Iterator[CellState]:
        """Every cell of a grid in plan order, with its newest outcome, streamed; only those with this status where it is given."""
        sql = f"{CELLS} WHERE c.grid = ? AND (? = '' OR r.status = ?) ORDER BY c.cell"
        for row in self.stream(sql, (grid, status or "", status or "")):
            yield CellState(CellRow(*row[:7]), None if row[7] is None else outcome_from(row[7], row[8]), row[9])

    def grid_scores(self, grid: str) -> Iterator[tuple[int, str, Score]]:
        """``(cell, scorer, score)`` of a grid, oldest first: a later one replaces an earlier one."""
        for cell, scorer, body in self.stream("SELECT cell, scorer, body FROM scores WHERE grid = ? ORDER BY seq", (grid,)):
            yield cell, scorer, score_from(body)

    def spend(self) -> list[tuple[str, str, int, float | None, int]]:
        """``(grid, model, calls, known cost in USD, calls without a price)`` of every grid and model that was asked, newest first."""
        totals: dict[tuple[str, str], list[Any]] = {}
        sql = (
            "SELECT g.grid, c.model, r.status, r.body FROM replies r JOIN grids g ON g.grid = r.grid "
            "JOIN cells c ON c.key = r.key AND c.grid || '' = r.grid ORDER BY g.started DESC"  # by key: a grid has as many cells
        )
        for grid, model, status, body in self.stream(sql, ()):
            outcome = outcome_from(status, body)
            costs = [outcome.cost_usd] if outcome.usage != Usage() else []
            costs += [outcome.reply.cost_usd] if outcome.reply else []
            entry = totals.setdefault((grid, model), [0, None, 0])
            entry[0] += bool(costs)
            entry[1] = sum((cost for cost in costs if cost is not None), entry[1] or 0.0) if set(costs) - {None} else entry[1]
            entry[2] += None in costs
        return [(*names, *entry) for names, entry in totals.items()]

    def sizes(self, grids: Sequence[str]) -> dict[str, int]:
        """Grid -> number of its cells."""
        found: dict[str, int] = {}
        for chunk in chunks(grids, _CHUNK):
            sql = f"SELECT grid, COUNT(*) FROM cells WHERE grid IN ({','.join('?' * len(chunk))}) GROUP BY grid"  # noqa: S608
            found.update(self.select(sql, chunk))
        return found

    def usual_latency(self, model: str) -> float | None:
        """Median seconds of up to 50 recorded calls to the models of this label; None where there are none."""
        sql = (
            "SELECT r.body FROM cells c JOIN replies r ON r.key = c.key AND r.grid = c.grid WHERE c.model = ? AND r.status = 'ok' LIMIT 50"
        )
        times = sorted(json.loads(body)["latency_s"] for (body,) in self.select(sql, (model,)))
        return times[len(times) // 2] if times else None

    # -- outbox ------------------------------------------------------------------------------------------------------------
    def outbox_add(self, kind: str, payload: dict[str, Any]) -> int:
        """Queue an entry for MLflow; returns its number."""
        with self._reading("written") as connection:
            sql = self.dialect.sql("INSERT INTO outbox (kind, payload, created) VALUES (?, ?, ?) RETURNING id")
            # All rows: SQLite commits when there is nothing left to fetch, and only then can say that the disk is full.
            return int(connection.execute(sql, (kind, canonical(payload), time.time())).fetchall()[0][0])

    def outbox_pending(self) -> list[tuple[int, str, dict[str, Any]]]:
        """``(id, kind, payload)`` of everything not yet delivered, oldest first."""
        rows = self.select("SELECT id, kind, payload FROM outbox WHERE done_at IS NULL ORDER BY id", ())
        return [(number, kind, json.loads(payload)) for number, kind, payload in rows]

    def outbox_done(self, number: int, remote_id: str) -> None:
        """Mark one entry as delivered."""
        self.write(("UPDATE outbox SET done_at = ?, remote_id = ?, tries = tries + 1 WHERE id = ?", [(time.time(), remote_id, number)]))

    def outbox_failed(self, number: int, error: str) -> None:
        """Note a failed try; the entry stays."""
        self.write(("UPDATE outbox SET tries = tries + 1, last_error = ? WHERE id = ?", [(storable(error)[:2000], number)]))

    # -- connections -------------------------------------------------------------------------------------------------------
    def select(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query with ``?`` marks. Raises StoreError."""
        with self._reading() as connection:
            return list(connection.execute(self.dialect.sql(sql), tuple(values)).fetchall())

    @contextmanager
    def transaction(self) -> Iterator[Callable[..., list[Any]]]:
        """Several statements in this thread, all or none: gives a function ``(sql, values) -> rows``. Raises StoreError.

        SQLite lets one process in at a time. PostgreSQL does not: whoever reads before it writes locks a row first (``FOR UPDATE``).
        """
        with self._reading("written") as connection:

            def execute(sql: str, values: Sequence[Any] = ()) -> list[Any]:
                cursor = connection.execute(self.dialect.sql(sql), tuple(values))
                return list(cursor.fetchall()) if cursor.description else []

            try:
                connection.execute("BEGIN IMMEDIATE" if self.dialect.name == "sqlite" else "BEGIN")
                yield execute
                connection.execute("COMMIT")
            except BaseException:
                with suppress(*self.dialect.errors):  # an interrupt may come before the beginning, or after the end
                    connection.execute("ROLLBACK")
                raise

    def stream(self, sql: str, values: Sequence[Any]) -> Iterator[Any]:
        """The rows of a query with ``?`` marks, not held in memory all at once. Raises StoreError."""
        # On a connection of its own: until its last row is read, it sees the ledger as it was, and could not write.
        try:
            with closing(self.dialect.connect()) as connection:
                cursor = self.dialect.cursor(connection)
                cursor.execute(self.dialect.sql(sql), tuple(values))
                while rows := cursor.fetchmany(_CHUNK):
                    yield from rows
        except self.dialect.errors as error:
            raise trouble(self.place, "read", error) from error

    @contextmanager
    def _reading(self, what: str = "read") -> Iterator[Any]:
        connection = getattr(self._local, "connection", None)
        self._local.connection = None  # until it has proved good
        connection = self.dialect.connect() if connection is None else self.dialect.renew(connection)
        self._local.connection = connection
        try:
            yield connection
        except self.dialect.errors as error:
            self._local.connection = None
            raise trouble(self.place, what, error) from error


_open: dict[tuple[str, int], Ledger] = {}
_opening = threading.Lock()


def open_ledger(settings: _settings.Settings) -> Ledger:
    """The ledger that the settings name; one object a place and process. Raises StoreError or BadInput."""
    place = settings.ledger or ledger_path(settings)
    with _opening:
        key = (place, os.getpid())  # after a fork the parent's connections must not be used
        if key in _open and not _open[key].is_in_place:
            _open.pop(key).close()  # begin with what lies there now
        if key not in _open:
            _open[key] = Ledger(dialect_for(place))
        return _open[key]


def ledger_path(settings: _settings.Settings) -> str:
    """Where the SQLite ledger lies. Raises StoreError when its folder cannot be made."""
    try:
        return str(_settings.home_dir(settings) / "lab.db")
    except OSError as error:
        wanted = settings.home or str(Path(settings.project or ".") / ".llmops_lab")
        message = f"the ledger's folder {wanted} cannot be made: {error.strerror}. Set LLMOPS_LAB_HOME to one that can."
        raise StoreError(message, wanted) from error


@atexit.register
def _close_all() -> None:
    for (_, pid), ledger in _open.items():
        if pid == os.getpid():
            ledger.close()


def chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The items in lists of this size; the last one may be shorter."""
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
