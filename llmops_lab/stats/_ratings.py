"""A table of ratings, item x rater, as numbers to count with."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmops_lab.errors import BadInput

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rated:
    """The ``n`` items that two or more raters rated. Items rated alike are one pattern, and ``times`` says how many they are.

    ``codes``: pattern x rater, the place in ``values``, -1 = not rated. ``counts``: pattern x value, how many raters gave it.
    ``numbers`` are the values moved so that they lie about 0 (interval level only).
    """

    raters: tuple[str, ...]
    values: tuple[Any, ...]
    times: Floats
    codes: NDArray[np.intp]
    counts: Floats
    numbers: Floats

    @property
    def n(self) -> int:
        """The number of items."""
        return int(self.times.sum())


def read(table: Any, level: str, order: Sequence[Any] | None = None) -> Rated:
    """Read a DataFrame, item x rater. Raises BadInput for values that the level cannot order, or that ``order`` does not list."""
    if not hasattr(table, "columns") or not hasattr(table, "to_numpy"):
        raise BadInput(f"agreement is read from a DataFrame, one line an item and one column a rater, not {type(table).__name__}.")
    cells = [[_plain(each) for each in line] for line in table.to_numpy(dtype=object)]
    raters = tuple(str(name) for name in table.columns)
    if len(raters) < 2:
        raise BadInput(f"agreement needs two raters or more, and the table has {len(raters)}.")
    values = _values({each for line in cells for each in line if each is not None}, level, order)
    place = {value: number for number, value in enumerate(values)}
    codes = np.array([[-1 if each is None else place[each] for each in line] for line in cells], dtype=np.intp).reshape(-1, len(raters))
    codes, times = np.unique(codes[np.sum(codes >= 0, axis=1) >= 2], axis=0, return_counts=True)
    counts = np.zeros((len(codes), len(values)))
    lines, columns = np.nonzero(codes >= 0)
    np.add.at(counts, (lines, codes[lines, columns]), 1.0)
    return Rated(
        raters, values, times.astype(np.float64), codes, counts, _centred(values) if level == "interval" else np.zeros(len(values))
    )


def _plain(value: Any) -> Any:
    """The value as it compares: None for what is missing, a number of numpy's as Python's."""
    if value is None or value != value or str(value) == "<NA>":
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and math.isinf(value):
        raise BadInput("a rating cannot be infinite.")
    try:
        hash(value)
    except TypeError:
        raise BadInput(f"a rating is a number or a text, not {value!r:.80}.") from None
    return value


def _values(seen: set[Any], level: str, order: Sequence[Any] | None) -> tuple[Any, ...]:
    if level == "interval" or (order is None and level == "ordinal"):
        words = sorted(str(value) for value in seen if not isinstance(value, numbers.Real))
        if words:
            cure = "say order=[...], from least to most" if level == "ordinal" else "they need level='nominal' or level='ordinal'"
            raise BadInput(f"ratings such as {words[0]!r} are no numbers: {cure}.")
    if order is None or level == "interval":
        return tuple(sorted(seen)) if level != "nominal" else tuple(sorted(seen, key=str))
    listed = tuple(_plain(each) for each in order)
    unlisted = sorted(str(value) for value in seen.difference(listed))
    if unlisted or len(set(listed)) < len(listed):
        what = f"does not list {unlisted[0]!r}, which somebody gave" if unlisted else "lists a value twice"
        raise BadInput(f"order={list(order)!r:.200} {what}.")
    return listed


def _centred(values: Sequence[Any]) -> Floats:
    found = np.array([float(value) for value in values], dtype=np.float64)
    return found - found.mean() if len(found) else found
