"""What grids asked about and what they came to: rows, kept once for all grids of a dataset, and the summary of a grid that ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llmops_lab.escapes import storable
from llmops_lab.records import canonical
from llmops_lab.store.ledger import Ledger, chunks

_ROW = "INSERT INTO rows (dataset, row_id, body) VALUES (?, ?, ?) ON CONFLICT (dataset, row_id) DO NOTHING"
_SUMMARY = (
    "INSERT INTO summaries (grid, ended, body) VALUES (?, ?, ?) "
    "ON CONFLICT (grid) DO UPDATE SET ended = excluded.ended, body = excluded.body"
)


def keep_rows(ledger: Ledger, dataset: str, rows: Iterable[tuple[str, Mapping[str, Any]]], number: int) -> None:
    """Record the rows (id, masked values) of a dataset, unless all ``number`` of them are there. The grid must be on record already.

    So a prune that runs meanwhile sees that the dataset is in use.
    """
    (there,) = ledger.select("SELECT COUNT(*) FROM rows WHERE dataset = ?", (dataset,))[0]
    if there >= number:
        return
    for chunk in chunks(rows, 5000):
        ledger.write((_ROW, [(dataset, storable(row_id), canonical(row)) for row_id, row in chunk]))


def rows_of(ledger: Ledger, dataset: str, ids: Sequence[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """``(row id, values)`` of a dataset; of these rows alone where ``ids`` are given. Rows that were forgotten are not there."""
    if ids is None:
        for row_id, body in ledger.stream("SELECT row_id, body FROM rows WHERE dataset = ?", (dataset,)):
            yield row_id, json.loads(body)
        return
    for chunk in chunks(dict.fromkeys(map(storable, ids)), 500):
        sql = f"SELECT row_id, body FROM rows WHERE dataset = ? AND row_id IN ({','.join('?' * len(chunk))})"  # noqa: S608
        for row_id, body in ledger.select(sql, (dataset, *chunk)):
            yield row_id, json.loads(body)


def keep_summary(ledger: Ledger, grid: str, ended: float, summary: Mapping[str, Any]) -> None:
    """Record what a grid came to that ended at this time."""
    ledger.write((_SUMMARY, [(grid, ended, canonical(summary))]))


def kept_summary(ledger: Ledger, grid: str) -> dict[str, Any] | None:
    """What was recorded by ``keep_summary``; None where nothing was, or the grid went on since."""
    sql = "SELECT s.body FROM summaries s JOIN grids g ON g.grid = s.grid AND g.ended = s.ended WHERE s.grid = ?"
    found = ledger.select(sql, (grid,))
    return json.loads(found[0][0]) if found else None
