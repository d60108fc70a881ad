"""Where the view of a grid has its cells from: the ledger, read in parts and again as it grows, or a table that MLflow kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from llmops_lab.api.views._grid_cells import OK, Cells, from_records, from_states
from llmops_lab.store import pages
from llmops_lab.store.ledger import CellState, Ledger
from llmops_lab.store.rows import rows_of


class Source(Protocol):
    """What the view reads. ``size``: how many cells there are."""

    def size(self) -> int: ...
    def stretch(self, start: int, count: int) -> Cells:
        """Some cells, without reading the rest."""

    def build(self, told: Callable[[float], None]) -> Cells:
        """All cells; ``told`` hears the share that is read."""

    def refresh(self, cells: Cells) -> bool:
        """Take in what was recorded since the last look; whether there was anything."""

    def rows(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Rows by id, as far as they are at hand."""


class FromLedger:
    """A grid of this ledger."""

    def __init__(self, ledger: Ledger, grid: str, scorers: Sequence[str], dataset: Mapping[str, Any]) -> None:
        self._ledger, self._grid, self._scorers, self._dataset = ledger, grid, list(scorers), dataset
        self._mark = pages.Mark(0, 0)

    def size(self) -> int:
        """How many cells there are."""
        return pages.size(self._ledger, self._grid)

    def stretch(self, start: int, count: int) -> Cells:
        """Some cells, without reading the rest."""
        found = pages.cells_from(self._ledger, self._grid, start, count)
        if not found:
            return Cells(self._scorers)
        scores = pages.scores_of(self._ledger, self._grid, found[0].row.cell, found[-1].row.cell)
        return from_states(self._scorers, found, ((cell, name, score) for (cell, name), score in scores.items()))

    def build(self, told: Callable[[float], None]) -> Cells:
        """All cells; ``told`` hears the share that is read."""
        self._mark = pages.mark(self._ledger)  # before the reading: what comes meanwhile is read twice rather than not
        total = max(1, self.size())
        return from_states(self._scorers, self._told(total, told), self._ledger.grid_scores(self._grid))

    def _told(self, total: int, told: Callable[[float], None]) -> Iterator[CellState]:
        for number, found in enumerate(self._ledger.cells(self._grid)):
            if number % 1000 == 0:
                told(0.9 * number / total)
            yield found

    def refresh(self, cells: Cells) -> bool:
        """Take in what was recorded since the last look; whether there was anything."""
        changed, more = False, True
        while more:
            news = pages.news(self._ledger, self._grid, self._mark)
            for key, outcome in news.replies:
                at = cells.place_of(key)
                if at is not None and (outcome.status == "ok" or cells.status[at] != OK):  # a good reply stands
                    cells.set_outcome(at, outcome)
            for number, scorer, score in news.scores:
                at = cells.place(number)
                if at is not None:
                    cells.set_score(at, scorer, score)
            changed = changed or bool(news.replies or news.scores)
            self._mark, more = news.mark, news.more
        return changed

    def rows(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Rows by id, as far as they are at hand."""
        return _rows(self._ledger, self._dataset, ids)


class FromTable:
    """A grid that MLflow kept: one table, which does not change. Its rows may be in this ledger, if it had a grid of them too."""

    def __init__(
        self, records: Callable[[], Sequence[Mapping[str, Any]]], scorers: Sequence[str], ledger: Ledger, dataset: Mapping[str, Any]
    ) -> None:
        self._read, self._scorers, self._ledger, self._dataset = records, list(scorers), ledger, dataset
        self._records: Sequence[Mapping[str, Any]] | None = None

    @property
    def records(self) -> Sequence[Mapping[str, Any]]:
        """The table, read once."""
        if self._records is None:
            self._records = self._read()
        return self._records

    def size(self) -> int:
        """How many cells there are."""
        return len(self.records)

    def stretch(self, start: int, count: int) -> Cells:
        """Some cells, without reading the rest."""
        return from_records(self._scorers, self.records[start : start + count], start)

    def build(self, told: Callable[[float], None]) -> Cells:
        """All cells."""
        return from_records(self._scorers, self.records)

    def refresh(self, cells: Cells) -> bool:
        """Nothing changes here."""
        return False

    def rows(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Rows by id, as far as they are at hand."""
        return _rows(self._ledger, self._dataset, ids)


def _rows(ledger: Ledger, dataset: Mapping[str, Any], ids: Sequence[str] | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows with their columns in the order of the data that they came from."""
    order = list(dataset.get("columns", ()))
    for row_id, row in rows_of(ledger, str(dataset.get("digest") or ""), ids):
        yield row_id, {name: row[name] for name in order if name in row} | row
