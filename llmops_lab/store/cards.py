"""Judges' cards in the ledger: one line a calibration, never changed; and the scores of a grid with the version that gave them."""

from __future__ import annotations

import json
import time
from typing import Any

from llmops_lab.escapes import storable
from llmops_lab.records import Score, canonical
from llmops_lab.store._bodies import score_from
from llmops_lab.store.ledger import Ledger


def keep_card(ledger: Ledger, judge: str, fingerprint: str | None, body: dict[str, Any]) -> float:
    """Record a card; returns when, in epoch seconds. ``fingerprint`` None: nobody knows the judge's version. Raises StoreError."""
    now = time.time()
    sql = "INSERT INTO cards (judge, fingerprint, body, created) VALUES (?, ?, ?, ?)"
    ledger.write((sql, [(storable(judge), fingerprint or "", canonical(body), now)]))
    return now


def newest_card(ledger: Ledger, judge: str, fingerprint: str | None) -> tuple[str | None, dict[str, Any], float] | None:
    """``(fingerprint, body, created)`` of the newest card of this version of a judge, else of any version; None where it has none."""
    sql = (
        "SELECT fingerprint, body, created FROM cards WHERE judge = ? "
        "ORDER BY CASE WHEN fingerprint = ? THEN 0 ELSE 1 END, seq DESC LIMIT 1"
    )
    found = ledger.select(sql, (storable(judge), fingerprint or ""))
    return (found[0][0] or None, json.loads(found[0][1]), float(found[0][2])) if found else None


def carded(ledger: Ledger) -> list[str]:
    """The judges that have a card."""
    return [name for (name,) in ledger.select("SELECT DISTINCT judge FROM cards ORDER BY judge")]


def scores_of(ledger: Ledger, grid: str, judge: str) -> dict[int, tuple[str, Score]]:
    """Cell -> version and newest score of one score column; the version is empty where nobody knows it."""
    sql = "SELECT cell, fingerprint, body FROM scores WHERE grid = ? AND scorer = ? ORDER BY seq"
    rows = ledger.select(sql, (grid, storable(judge)))
    return {cell: ((mark or "").partition(":")[0], score_from(body)) for cell, mark, body in rows}
