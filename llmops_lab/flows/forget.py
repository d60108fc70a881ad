"""Somebody asks to be forgotten: their row leaves the ledger and what waits for MLflow, and what cannot be reached is named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmops_lab.errors import StoreError
from llmops_lab.escapes import storable
from llmops_lab.records import canonical
from llmops_lab.settings import Settings, home_dir
from llmops_lab.store import audit, care
from llmops_lab.store.ledger import Ledger, open_ledger
from llmops_lab.track import outbox


@dataclass(frozen=True)
class Report:
    """What was removed, and where the row still lies: ids of MLflow ``runs`` and ``traces``, and ``files`` of other machines."""

    forgotten: care.Forgotten
    cleaned: tuple[Path, ...]
    files: tuple[str, ...]
    place: str
    kind: str
    audit: tuple[int, ...] = ()

    @property
    def runs(self) -> tuple[str, ...]:
        """MLflow runs whose ``cells.parquet`` still holds the row."""
        return self.forgotten.runs

    @property
    def traces(self) -> tuple[str, ...]:
        """MLflow traces that still hold the row."""
        return self.forgotten.traces

    def __str__(self) -> str:
        """All of it in sentences, one a line."""
        return "\n".join(self._sentences())

    def _sentences(self) -> Iterator[str]:
        gone = self.forgotten
        names = ", ".join(f"{grid['name']} ({grid['grid'][:8]})" for grid in gone.grids)
        yield f"Row {gone.row_id}: {gone.cells} cells and {gone.replies} replies are gone from {self.place}; grids: {names or 'none'}."
        if gone.ratings:
            yield f"{gone.ratings} ratings of it are gone from its queues."
        if gone.other_rows:
            yield f"Cells of other rows that were asked the very same went with it: {', '.join(gone.other_rows)}."
        if self.cleaned:
            yield f"Taken out of {len(self.cleaned)} tables that wait for MLflow."
        if gone.runs:
            yield f"Still in cells.parquet of these MLflow runs, delete them or their artifacts there: {', '.join(gone.runs)}."
        if gone.traces:
            yield f"Still in these MLflow traces, delete them there: {', '.join(gone.traces)}."
        if gone.datasets:
            yield f"Still in these MLflow datasets, delete the row there: {', '.join(gone.datasets)}."
        if self.files:
            yield f"Still in files that lie elsewhere or cannot be read: {', '.join(self.files)}."
        if self.audit:
            yield f"Still named in the audit log, which takes no change: entries {', '.join(map(str, self.audit))}."
        if self.kind == "postgresql":
            yield "PostgreSQL's own log, its replicas and its backups keep the row until they expire."
        yield "Your data files, and the backups and exports that you made, are yours to look after."


def forget_row(settings: Settings, row_id: str) -> Report:
    """Delete one row, by its id, from every grid: ledger, traces and tables that wait for MLflow.

    The tables come first: if this is killed in between, the ledger still knows the row, and the same again finishes it.
    Raises UnknownName for a row that no grid had, BadInput while a grid with it runs, LabError while entries are being delivered.
    """
    ledger = open_ledger(settings)
    with outbox.paused(settings):
        calls = care.row_calls(ledger, row_id)
        cleaned, unreadable = _clean_tables(home_dir(settings) / "outbox", storable(row_id), calls.keys)
        elsewhere = _elsewhere(ledger, {grid["grid"] for grid in calls.grids})
        forgotten = care.forget_row(ledger, row_id)
        named = tuple(entry.seq for entry in audit.entries(ledger) if canonical(row_id) in canonical(entry.body))
    return Report(forgotten, tuple(cleaned), (*unreadable, *elsewhere), ledger.place, ledger.dialect.name, named)


def _clean_tables(folder: Path, row_id: str, keys: frozenset[str]) -> tuple[list[Path], list[str]]:
    import pyarrow

    cleaned, unreadable = [], []
    for path in sorted(folder.glob("*.parquet")):
        try:
            if _clean(path, row_id, keys):
                cleaned.append(path)
        except pyarrow.ArrowException:
            unreadable.append(str(path))
        except OSError as error:
            raise StoreError(f"{path} cannot be rewritten: {error}. Make room there, then forget the row again.", str(path)) from error
    return cleaned, unreadable


def _clean(path: Path, row_id: str, keys: frozenset[str]) -> bool:
    import pyarrow
    from pyarrow import compute, parquet

    table = parquet.read_table(path)
    if "row_id" not in table.column_names:
        return False
    text = pyarrow.string()
    gone = compute.equal(compute.cast(table["row_id"], text), row_id)
    if "key" in table.column_names:
        gone = compute.or_(gone, compute.is_in(compute.cast(table["key"], text), value_set=pyarrow.array(sorted(keys), text)))
    kept = table.filter(compute.invert(gone))
    if kept.num_rows == table.num_rows:
        return False
    half = path.with_name(f".{path.name}.half")
    try:
        parquet.write_table(kept, half)
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)
    return True


def _elsewhere(ledger: Ledger, grids: set[str]) -> list[str]:
    paths = [payload["cells_path"] for _, kind, payload in ledger.outbox_pending() if kind == "grid" and payload["grid"] in grids]
    return [path for path in paths if not Path(path).exists()]
