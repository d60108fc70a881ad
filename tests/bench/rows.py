"""One line of the table, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """``measured`` against its bound: ``at_most``, or ``at_least`` where more is better. ``measured`` None: could not be measured."""

    what: str
    measured: float | None
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not there"
        if self.at_least is not None:
            return "met" if self.measured >= self.at_least else "missed"
        return "met" if self.at_most is not None and self.measured <= self.at_most else "missed"

    @property
    def cells(self) -> tuple[str, ...]:
        bound = f"at least {self.at_least:g} {self.unit}" if self.at_least is not None else f"{self.at_most:g} {self.unit}"
        return self.what, "-" if self.measured is None else f"{self.measured:.3g} {self.unit}", bound, self.verdict, self.note


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = ("what", "measured", "at most", "verdict", "from")
    lines = [head, tuple("-" * len(name) for name in head), *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' own ratios: the two sides of a round ran one right after the other."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def middle(values: Sequence[float], unit: str) -> str:
    """The median with the range, as text."""
    return f"{median(values):.3g} {unit} [{min(values):.3g}, {max(values):.3g}]"
