"""Rating queues in the ledger: items, ratings that are only added, leases, and what was settled.

Everything that reads before it writes does so in one transaction that holds the queue's line, so raters in other processes wait
for each other; that no rating can be replaced twice, or stored twice, is the database's own rule (see ``_schema``).
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmops_lab.errors import BadInput, Conflict, UnknownName
from llmops_lab.escapes import storable
from llmops_lab.records import canonical
from llmops_lab.store._writer import Write
from llmops_lab.store.ledger import Ledger

TABLES = ("queues", "items", "ratings", "leases", "adjudications")
Execute = Callable[..., list[Any]]
_CURRENT = "NOT EXISTS (SELECT 1 FROM ratings n WHERE n.queue = r.queue AND n.item = r.item AND n.rater = r.rater AND n.supersedes = r.seq)"
_ITEM = "INSERT INTO items (queue, item, position, row_id, body) VALUES (?, ?, ?, ?, ?)"
_CLOSED = "this queue is closed: it takes nothing more. What was rated before is kept; lab.rate(..., name=...) makes a new one."
_RATING = "r.seq, r.id, r.item, r.rater, r.supersedes, r.kind, r.body, r.created"


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """One queue as it was made; ``closed`` is when, in epoch seconds, or None."""

    queue: str
    name: str
    spec: dict[str, Any]
    created: float
    closed: float | None


@dataclass(frozen=True, slots=True)
class RatingRow:
    """One rating, skip or undo. ``superseded_by`` is the number of the row that replaced it, None for the one that holds."""

    seq: int
    id: str
    item: str
    rater: str
    supersedes: int
    kind: str
    body: dict[str, Any]
    created: float
    superseded_by: int | None = None

    @property
    def saved_at(self) -> str:
        """When it was stored, as ISO 8601 in UTC."""
        return datetime.fromtimestamp(self.created, UTC).isoformat(timespec="milliseconds")

    def said(self) -> dict[str, Any]:
        """What the rater said, with the row's number and when it was stored."""
        fields = ("value", "comment", "flag", "skip", "correction")
        return {"row": self.seq, **{name: self.body.get(name) for name in fields}, "saved_at": self.saved_at}


def create(ledger: Ledger, name: str, spec: dict[str, Any], items: Iterable[tuple[str, str, dict[str, Any]]]) -> QueueRecord:
    """Make a queue with its ``(item, row_id, body)``, all or nothing; where one of this name is there already, that one is returned."""
    queue, now = uuid.uuid4().hex, time.time()
    with ledger.transaction() as execute:
        made = execute(
            "INSERT INTO queues (queue, name, spec, created) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING RETURNING queue",
            (queue, name, canonical(spec), now),
        )
        for position, (item, row_id, body) in enumerate(items if made else ()):
            values = (queue, item, position, storable(row_id), canonical(body))
            execute(_ITEM, values)
    found = find(ledger, name)
    if found is None:
        raise UnknownName("queue", name, names(ledger))
    return found


def extend(ledger: Ledger, queue: str, make: Callable[[list[dict[str, Any]]], Iterable[tuple[str, str, dict[str, Any]]]]) -> int:
    """Add the items that ``make`` says, given the bodies of those that are there; returns how many. Raises BadInput for a closed queue."""
    with _held(ledger, queue) as (execute, closed):
        if closed is not None:
            raise BadInput(_CLOSED)
        there = execute("SELECT body FROM items WHERE queue = ? ORDER BY position", (queue,))
        ((last,),) = execute("SELECT MAX(position) FROM items WHERE queue = ?", (queue,))
        added = 0
        for added, (item, row_id, body) in enumerate(make([json.loads(text) for (text,) in there]), 1):
            execute(_ITEM, (queue, item, (last or 0) + added, storable(row_id), canonical(body)))
        return added


def find(ledger: Ledger, name: str) -> QueueRecord | None:
    """The queue of this name, or None."""
    rows = ledger.select("SELECT queue, name, spec, created, closed FROM queues WHERE name = ?", (storable(name),))
    return QueueRecord(rows[0][0], rows[0][1], json.loads(rows[0][2]), *rows[0][3:]) if rows else None


def names(ledger: Ledger) -> list[str]:
    """The names of all queues, the newest first."""
    return [name for (name,) in ledger.select("SELECT name FROM queues ORDER BY created DESC")]


def grids_with(ledger: Ledger, keys: Collection[str]) -> list[str]:
    """The grids that have cells with all of these keys, the newest first."""
    sql = "SELECT c.grid FROM cells c JOIN grids g ON g.grid = c.grid WHERE c.key = ? ORDER BY g.started DESC"
    found = [grid for (grid,) in ledger.select(sql, (next(iter(keys), ""),))]
    held = {grid: {key for (key,) in ledger.select("SELECT key FROM cells WHERE grid = ?", (grid,))} for grid in found}
    return [grid for grid in found if held[grid] >= set(keys)]


def item_names(ledger: Ledger, queue: str) -> list[str]:
    """The items of a queue in the order in which they were made."""
    return [item for (item,) in ledger.select("SELECT item FROM items WHERE queue = ? ORDER BY position", (queue,))]


def items(ledger: Ledger, queue: str, only: str | None = None) -> list[dict[str, Any]]:
    """The bodies of the items, or of one; nothing for an item that is not there."""
    wanted, values = (" AND item = ?", (queue, storable(only))) if only is not None else ("", (queue,))
    return [json.loads(body) for (body,) in ledger.select(f"SELECT body FROM items WHERE queue = ?{wanted} ORDER BY position", values)]  # noqa: S608


def close(ledger: Ledger, queue: str) -> None:
    """Close a queue; closed again, it keeps its first time."""
    with ledger.transaction() as execute:
        execute("UPDATE queues SET closed = ? WHERE queue = ? AND closed IS NULL", (time.time(), queue))
        execute("DELETE FROM leases WHERE queue = ?", (queue,))


def marks(ledger: Ledger, queue: str) -> list[tuple[str, str, int, str]]:
    """``(item, rater, seq, kind)`` of what holds now."""
    return _marks(ledger.select, queue)


def leases(ledger: Ledger, queue: str) -> list[tuple[str, str, int]]:
    """``(item, rater, slot)`` of who looks at what now."""
    return _leases(ledger.select, queue)


def history(ledger: Ledger, queue: str, *, item: str | None = None, rater: str | None = None) -> list[RatingRow]:
    """All ratings, skips and undos that were ever stored, oldest first; those of an item or a rater where it is given."""
    where, values = "r.queue = ?", [queue]
    for column, value in (("item", item), ("rater", rater)):
        if value is not None:
            where, values = f"{where} AND r.{column} = ?", [*values, value]
    sql = (
        f"SELECT {_RATING}, n.seq FROM ratings r LEFT JOIN ratings n ON n.queue = r.queue AND n.item = r.item "  # noqa: S608
        f"AND n.rater = r.rater AND n.supersedes = r.seq WHERE {where} ORDER BY r.seq"
    )
    return [_row(found) for found in ledger.select(sql, values)]


def add(
    ledger: Ledger, queue: str, item: str, rater: str, *, ident: str, kind: str, body: dict[str, Any], expects: int | None
) -> RatingRow:  # fmt: skip
    """Store a rating, skip or undo, and return it once it is committed; the same ``ident`` again is the row that is there.

    ``expects``: the number of the row that the writer believes to hold, 0 for none; None replaces whatever holds. Raises Conflict when
    another one holds, BadInput for a closed queue, for an ident of another rating, for an item that was forgotten meanwhile, and for an
    undo of nothing.
    """
    ident = storable(ident)
    with _held(ledger, queue) as (execute, closed):
        known = execute(f"SELECT {_RATING}, NULL, r.queue FROM ratings r WHERE r.id = ?", (ident,))  # noqa: S608
        if known:
            return _same(known[0], (queue, item, rater, kind, body.get("value")))
        if closed is not None:
            raise BadInput(_CLOSED)
        _check_there(execute, queue, item)
        head = _head(execute, queue, item, rater)
        _check(head, kind, expects, item)
        row = (ident, queue, item, rater, head.seq if head else 0, kind, canonical(body), time.time())
        ((seq,),) = execute(
            "INSERT INTO ratings (id, queue, item, rater, supersedes, kind, body, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq",
            row,
        )
        execute("DELETE FROM leases WHERE queue = ? AND item = ? AND rater = ?", (queue, item, rater))
    return RatingRow(seq, row[0], item, rater, row[4], kind, body, row[7])


def take(
    ledger: Ledger, queue: str, rater: str, choose: Callable[[list[Any], list[Any]], tuple[str, int | None] | None], seconds: float
) -> str | None:
    """Let ``choose(marks, leases)`` name an item and its place, and keep it for the rater; a place None is kept for nobody."""
    with _held(ledger, queue) as (execute, closed):
        chosen = None if closed is not None else choose(_marks(execute, queue), _leases(execute, queue))
        if chosen is None:
            return None
        item, slot = chosen
        if slot is not None:
            execute(
                "INSERT INTO leases (queue, item, slot, rater, until) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (queue, item, slot) DO UPDATE SET rater = excluded.rater, until = excluded.until",
                (queue, item, slot, rater, time.time() + seconds),
            )
        return item


def settle(ledger: Ledger, queue: str, item: str, body: dict[str, Any]) -> int:
    """Store what was settled about an item; the newest holds. Returns its number. Raises BadInput for one that was forgotten meanwhile."""
    with _held(ledger, queue) as (execute, _):
        _check_there(execute, queue, item)
        sql = "INSERT INTO adjudications (queue, item, body, created) VALUES (?, ?, ?, ?) RETURNING seq"
        return int(execute(sql, (queue, item, canonical(body), time.time()))[0][0])


def settled(ledger: Ledger, queue: str) -> dict[str, dict[str, Any]]:
    """Item -> what was settled, with ``row`` and ``created``."""
    rows = ledger.select("SELECT item, body, seq, created FROM adjudications WHERE queue = ? ORDER BY seq", (queue,))
    return {item: {**json.loads(body), "row": seq, "created": created} for item, body, seq, created in rows}


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What has to go so that some rows are forgotten: ``writes``, how many ``ratings`` that are, and ``traces`` that MLflow has of them."""

    writes: tuple[Write, ...]
    ratings: int
    traces: frozenset[str]


def holds_row(ledger: Ledger, row_id: str) -> bool:
    """Whether any queue holds this row."""
    return bool(ledger.select("SELECT 1 FROM items WHERE row_id = ? LIMIT 1", (storable(row_id),)))


def forgetting(ledger: Ledger, rows: Collection[str]) -> Forgetting:
    """The items of these rows with all that was said of them: out of the queues, and out of what waits for MLflow."""
    places = [place for row in rows for place in ledger.select("SELECT queue, item FROM items WHERE row_id = ?", (row,))]
    count = sum(ledger.select("SELECT COUNT(*) FROM ratings WHERE queue = ? AND item = ?", place)[0][0] for place in places)
    entries, traces = [], set()
    for number, payload, remote in ledger.select("SELECT id, payload, remote_id FROM outbox WHERE kind = 'rating'"):
        if json.loads(payload)["row_id"] in rows:
            entries.append((number,))
            traces |= set(remote.split(",")) if remote else set()
    specs = []
    for queue in {queue for queue, _ in places}:
        gone = {item for at, item in places if at == queue}
        ((text,),) = ledger.select("SELECT spec FROM queues WHERE queue = ?", (queue,))
        spec = json.loads(text)
        hidden = {name: {key: value for key, value in spec[name].items() if key not in gone} for name in ("gold", "repeats")}
        specs.append((canonical({**spec, **hidden}), queue))
    tables = ("items", "ratings", "leases", "adjudications")
    # The queue's line first: whoever saves a rating holds it, so no rating comes in after its item has gone.
    writes: list[Write] = [("UPDATE queues SET spec = ? WHERE queue = ?", specs), ("DELETE FROM outbox WHERE id = ?", entries)]
    writes += [(f"DELETE FROM {table} WHERE queue = ? AND item = ?", places) for table in tables]  # noqa: S608
    return Forgetting(tuple(writes), count, frozenset(traces))


@contextmanager
def _held(ledger: Ledger, queue: str) -> Iterator[tuple[Execute, float | None]]:
    lock = "" if ledger.dialect.name == "sqlite" else " FOR UPDATE"
    with ledger.transaction() as execute:
        ((closed,),) = execute(f"SELECT closed FROM queues WHERE queue = ?{lock}", (queue,))  # noqa: S608
        yield execute, closed


def _marks(execute: Execute, queue: str) -> list[tuple[str, str, int, str]]:
    return execute(f"SELECT r.item, r.rater, r.seq, r.kind FROM ratings r WHERE r.queue = ? AND {_CURRENT}", (queue,))  # noqa: S608


def _leases(execute: Execute, queue: str) -> list[tuple[str, str, int]]:
    return execute("SELECT item, rater, slot FROM leases WHERE queue = ? AND until > ?", (queue, time.time()))


def _head(execute: Execute, queue: str, item: str, rater: str) -> RatingRow | None:
    sql = f"SELECT {_RATING}, NULL FROM ratings r WHERE r.queue = ? AND r.item = ? AND r.rater = ? AND {_CURRENT}"  # noqa: S608
    found = execute(sql, (queue, item, rater))
    return _row(found[0]) if found else None


def _row(found: Sequence[Any]) -> RatingRow:
    seq, ident, item, rater, supersedes, kind, body, created, by = found
    return RatingRow(seq, ident, item, rater, supersedes, kind, json.loads(body), created, by)


def _same(found: Sequence[Any], wanted: tuple[str, str, str, str, Any]) -> RatingRow:
    row = _row(found[:9])
    if (found[9], row.item, row.rater, row.kind, row.body.get("value")) != wanted:
        raise BadInput(f"the id {row.id!r:.60} belongs to another rating. Give each rating an id of its own; a uuid does it.")
    return row


def _check_there(execute: Execute, queue: str, item: str) -> None:
    if not execute("SELECT 1 FROM items WHERE queue = ? AND item = ?", (queue, item)):
        raise BadInput(f"item {item} is no longer in this queue: its row was forgotten. Go on with the next one.")


def _check(head: RatingRow | None, kind: str, expects: int | None, item: str) -> None:
    holds = head is not None and head.kind != "undo"
    number = head.seq if head else 0
    if expects is not None and expects != number and not (expects == 0 and not holds):
        said = f"row {number} holds" if holds else "nothing holds any more"
        message = f"item {item} was rated by you elsewhere in between: {said}, not row {expects}. Look at it, then rate again."
        raise Conflict(message, head.said() if head is not None else None)
    if kind == "undo" and not holds:
        raise BadInput(f"there is nothing to take back: you have no rating of item {item}.")
