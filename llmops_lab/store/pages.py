"""A grid read in parts: a stretch of its cells, what is new since the last look, one cell with all that ever happened to it."""

from __future__ import annotations

from dataclasses import dataclass

from llmops_lab.records import Outcome, Score
from llmops_lab.store._bodies import outcome_from, score_from
from llmops_lab.store.ledger import CELLS, CellRow, CellState, Ledger

_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Mark:
    """How far somebody has read: the numbers of the last reply and the last score that they saw."""

    reply: int
    score: int


@dataclass(frozen=True, slots=True)
class News:
    """What was recorded of a grid since a mark: ``(key, outcome)`` and ``(cell, scorer, score)``, oldest first; read on from ``mark``."""

    replies: tuple[tuple[str, Outcome], ...]
    scores: tuple[tuple[int, str, Score], ...]
    mark: Mark
    more: bool


@dataclass(frozen=True, slots=True)
class Event:
    """One outcome of a call: when it was recorded, in which grid, and what it was."""

    at: float
    grid: str
    outcome: Outcome


def mark(ledger: Ledger) -> Mark:
    """How far the ledger goes now."""
    ((reply,),) = ledger.select("SELECT COALESCE(MAX(seq), 0) FROM replies")
    ((score,),) = ledger.select("SELECT COALESCE(MAX(seq), 0) FROM scores")
    return Mark(int(reply), int(score))


def size(ledger: Ledger, grid: str) -> int:
    """The number of a grid's cells."""
    return int(ledger.select("SELECT COUNT(*) FROM cells WHERE grid = ?", (grid,))[0][0])


def cells_from(ledger: Ledger, grid: str, start: int, count: int) -> list[CellState]:
    """``count`` cells in plan order, from the ``start``-th that is there, with outcomes. A forgotten row leaves a gap in the numbers."""
    among = "c.cell IN (SELECT cell FROM cells WHERE grid = ? ORDER BY cell LIMIT ? OFFSET ?)"
    rows = ledger.select(f"{CELLS} WHERE c.grid = ? AND {among} ORDER BY c.cell", (grid, grid, count, start))
    return [CellState(CellRow(*row[:7]), None if row[7] is None else outcome_from(row[7], row[8]), row[9]) for row in rows]


def cell(ledger: Ledger, grid: str, number: int) -> CellState | None:
    """One cell with its outcome; None where it is not there (any more)."""
    found = ledger.select(f"{CELLS} WHERE c.grid = ? AND c.cell = ?", (grid, number))
    row = found[0] if found else None
    return row and CellState(CellRow(*row[:7]), None if row[7] is None else outcome_from(row[7], row[8]), row[9])


def scores_of(ledger: Ledger, grid: str, first: int, last: int) -> dict[tuple[int, str], Score]:
    """``(cell, scorer)`` -> newest score, of the cells with these numbers, both included."""
    sql = "SELECT cell, scorer, body FROM scores WHERE grid = ? AND cell >= ? AND cell <= ? ORDER BY seq"
    return {(number, scorer): score_from(body) for number, scorer, body in ledger.select(sql, (grid, first, last))}


def history(ledger: Ledger, key: str) -> list[Event]:
    """Every outcome that is recorded of a call, oldest first."""
    rows = ledger.select("SELECT at, grid, status, body FROM replies WHERE key = ? ORDER BY seq", (key,))
    return [Event(at, grid, outcome_from(status, body)) for at, grid, status, body in rows]


def news(ledger: Ledger, grid: str, since: Mark) -> News:
    """What was recorded of a grid since then; ``more`` when there is more than one look takes."""
    replies = ledger.select(
        "SELECT seq, key, status, body FROM replies WHERE seq > ? AND grid = ? ORDER BY seq LIMIT ?", (since.reply, grid, _AT_ONCE)
    )
    scores = ledger.select(
        "SELECT seq, cell, scorer, body FROM scores WHERE seq > ? AND grid || '' = ? ORDER BY seq LIMIT ?",  # by seq: only what is new
        (since.score, grid, _AT_ONCE),
    )
    read = Mark(replies[-1][0] if replies else since.reply, scores[-1][0] if scores else since.score)
    return News(
        tuple((key, outcome_from(status, body)) for _, key, status, body in replies),
        tuple((number, scorer, score_from(body)) for _, number, scorer, body in scores),
        read,
        _AT_ONCE in (len(replies), len(scores)),
    )
