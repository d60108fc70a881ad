"""A grid's cells as columns, in plan order: what the view sorts, filters and pages. Numbers lie in arrays, NaN where there is none."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmops_lab.records import Outcome, Score
from llmops_lab.store.ledger import CellState

OPEN, OK, FAILED, CANCELLED, SKIPPED = range(5)
STATUSES = ("open", "ok", "failed", "cancelled", "skipped")
NUMBERS = ("input_tokens", "output_tokens", "cost_usd", "latency_s", "ttft_s")


class Cells:
    """Columns with one entry a cell. ``variants`` and ``row_ids`` are what ``variant`` and ``row`` count; ``mark`` is for who fills it."""

    def __init__(self, scorers: Sequence[str]) -> None:
        self.scorers = list(scorers)
        self.variants: list[tuple[str, str]] = []
        self.row_ids: list[str] = []
        self.cell, self.variant, self.row, self.replicate = array("q"), array("i"), array("i"), array("i")
        self.status = array("b")
        self.key: list[str] = []
        self.text: list[str | None] = []
        self.finish: list[str] = []
        self.error: list[str] = []
        self.numbers = {name: array("d") for name in NUMBERS}
        self.scores = {name: array("d") for name in scorers}
        self.unscored: dict[str, dict[int, str]] = {name: {} for name in scorers}
        """For each scorer, place of a cell -> why it has no score."""
        self.flags = dict.fromkeys(scorers, True)
        """Whether a scorer has said nothing but true and false."""
        self.asked: list[str] | None = None
        """What each row asked, in a line; None until somebody has read the rows."""
        self._variants: dict[tuple[str, str], int] = {}
        self._rows: dict[str, int] = {}
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.cell)

    def place(self, number: int) -> int | None:
        """Where the cell with this number stands; None where there is none."""
        from bisect import bisect_left

        at = bisect_left(self.cell, number)
        return at if at < len(self.cell) and self.cell[at] == number else None

    # -- filling -----------------------------------------------------------------------------------------------------------
    def add(self, number: int, prompt: str, model: str, row_id: str, replicate: int, key: str) -> int:
        """Append a cell that has no outcome yet; returns its place."""
        at = len(self.cell)
        variant = self._variants.setdefault((prompt, model), len(self._variants))
        if variant == len(self.variants):
            self.variants.append((prompt, model))
        row = self._rows.setdefault(row_id, len(self._rows))
        if row == len(self.row_ids):
            self.row_ids.append(row_id)
        for column, value in ((self.cell, number), (self.variant, variant), (self.row, row), (self.replicate, replicate)):
            column.append(value)
        self.status.append(OPEN)
        self.key.append(key)
        self.text.append(None)
        self.finish.append("")
        self.error.append("")
        for numbers in (*self.numbers.values(), *self.scores.values()):
            numbers.append(math.nan)
        self._places[key] = at
        return at

    def add_state(self, found: CellState) -> None:
        """Append a cell as the ledger has it."""
        row = found.row
        at = self.add(row.cell, row.prompt, row.model, row.row_id, row.replicate, row.key)
        if found.outcome is not None:
            self.set_outcome(at, found.outcome)

    def place_of(self, key: str) -> int | None:
        """Where the cell with this call key stands."""
        return self._places.get(key)

    def set_outcome(self, at: int, outcome: Outcome) -> None:
        """What a cell's call came to."""
        reply = outcome.reply
        usage = reply.usage if reply else outcome.usage
        self.status[at] = STATUSES.index(outcome.status)
        self.text[at] = reply.text if reply else None
        self.finish[at] = reply.finish_reason if reply else ""
        self.error[at] = "" if reply else outcome.error
        values = (usage.input_tokens, usage.output_tokens, outcome.total_usd, *((reply.latency_s, reply.ttft_s) if reply else (None, None)))
        for name, value in zip(NUMBERS, values, strict=True):
            self.numbers[name][at] = math.nan if value is None else value

    def set_score(self, at: int, scorer: str, score: Score) -> None:
        """What a scorer said of a cell; a later word replaces an earlier one."""
        if scorer not in self.scores:
            return
        if score.value is None:
            self.unscored[scorer][at] = score.error or score.reason
            self.scores[scorer][at] = math.nan
            return
        self.unscored[scorer].pop(at, None)
        self.scores[scorer][at] = float(score.value)
        self.flags[scorer] = self.flags[scorer] and isinstance(score.value, bool)

    # -- reading -----------------------------------------------------------------------------------------------------------
    def lines(self) -> Any:
        """For each cell the number of its line, where all cells of a row's repeat stand in one line; lines count in plan order."""
        import numpy

        row, replicate = numpy.frombuffer(self.row, dtype="i4"), numpy.frombuffer(self.replicate, dtype="i4")
        if not len(row):
            return numpy.zeros(0, dtype="i8")
        new = numpy.ones(len(row), dtype=bool)
        new[1:] = (row[1:] != row[:-1]) | (replicate[1:] != replicate[:-1])
        return numpy.cumsum(new) - 1

    def counts(self) -> dict[str, int]:
        """Status -> number of cells."""
        found = self.status.tobytes()
        return {name: found.count(bytes([code])) for code, name in enumerate(STATUSES)}

    def records(self, scorers: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """One dict a cell with what a comparison needs: its place in the plan, status and scores (of all scorers, if none are named)."""
        made = []
        for at in range(len(self.cell)):
            prompt, model = self.variants[self.variant[at]]
            record: dict[str, Any] = {"prompt": prompt, "model": model, "row_id": self.row_ids[self.row[at]]}
            record |= {"replicate": self.replicate[at], "status": STATUSES[self.status[at]]}
            for name in self.scorers if scorers is None else scorers:
                value = self.scores[name][at]
                record[name] = None if math.isnan(value) else bool(value) if self.flags[name] else value
            made.append(record)
        return made


def status_name(code: int, state: str) -> str:
    """What a cell's status is called while its grid is in this state."""
    if code != OPEN:
        return STATUSES[code]
    return {"cancelled": "cancelled", "interrupted": "cancelled", "running": "pending", "planned": "pending"}.get(state, "skipped")


def from_states(scorers: Sequence[str], found: Iterable[CellState], scores: Iterable[tuple[int, str, Score]]) -> Cells:
    """Columns of cells as the ledger has them, with ``(cell, scorer, score)``, oldest first."""
    cells = Cells(scorers)
    for each in found:
        cells.add_state(each)
    for number, scorer, score in scores:
        at = cells.place(number)
        if at is not None and cells.status[at] == OK:
            cells.set_score(at, scorer, score)
    return cells


def from_records(scorers: Sequence[str], records: Iterable[Mapping[str, Any]], first: int = 0) -> Cells:
    """Columns of cells that are dicts, as a grid's ``records()`` gives them; a cell's number is its place, counted from ``first``."""
    cells = Cells(scorers)
    for number, each in enumerate(records, first):
        at = cells.add(number, each["prompt"], each["model"], each["row_id"], int(each["replicate"]), each["key"])
        cells.status[at] = STATUSES.index(each["status"]) if each["status"] in STATUSES else OPEN
        cells.text[at] = each["text"]
        cells.finish[at], cells.error[at] = each["finish_reason"] or "", each["error"] or ""
        for name in NUMBERS:
            cells.numbers[name][at] = math.nan if each[name] is None else each[name]
        for name in scorers:
            if each[name] is not None:
                cells.set_score(at, name, Score(each[name]))
            elif each["status"] == "ok":
                cells.set_score(at, name, Score(None, error=each[f"{name}_error"] or ""))
    return cells
