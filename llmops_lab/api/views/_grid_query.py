"""What a person looks for in a grid: which cells, in which order, as lines of a table. Pure functions over the columns of its cells."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.api.views._grid_cells import FAILED, NUMBERS, OK, STATUSES, Cells
from llmops_lab.errors import BadInput, UnknownName

SECONDS = 4.0
"""So long a search may take: a pattern that somebody typed must not hold up the kernel."""
LONGEST_PATTERN = 500
LAYOUTS = ("cells", "rows")
SHOWN = ("all", "ok", "failed", "open", "unscored")
_TEXTS = ("row", "text", "variant", "status", "finish_reason", "error")


@dataclass(frozen=True)
class Query:
    """Which cells, and how they stand.

    ``layout``: a line a cell, or a line a row (and repeat) that holds its cell of every variant. ``sort`` names a column, "" for plan
    order; ``by`` the variant that rows are sorted by (-1: the mean of all, for texts the first). ``differs`` is the variant from which
    cells shall differ, in ``differs_in`` ("text" or a scorer). ``low`` and ``high`` bound the score ``scorer``. ``where`` is (column,
    group) of the rows or cells.
    """

    layout: str = "cells"
    sort: str = ""
    descending: bool = False
    by: int = -1
    shown: str = "all"
    variant: int = -1
    differs: int = -1
    differs_in: str = "text"
    scorer: str = ""
    low: float | None = None
    high: float | None = None
    search: str = ""
    regex: bool = False
    where: tuple[str, str] | None = None

    @property
    def is_plain(self) -> bool:
        """All cells in plan order."""
        return not self.sort and self.filters_nothing

    @property
    def filters_nothing(self) -> bool:
        """All cells, in some order."""
        bounds = (self.low, self.high) == (None, None)
        return self.shown == "all" and self.variant < 0 and self.differs < 0 and bounds and not self.search and self.where is None


def query_from(given: Any, scorers: Sequence[str], variants: int) -> Query:
    """The query that a browser sent, checked. Raises BadInput and UnknownName."""
    values = dict(given or {}) if isinstance(given, Mapping) or not given else {"": given}
    unknown = sorted(set(values) - set(Query.__dataclass_fields__))
    if unknown:
        raise UnknownName("part of a query", unknown[0], Query.__dataclass_fields__)
    if values.get("where") is not None:
        values["where"] = tuple(map(str, values["where"]))[:2]
    query = Query(**values)
    _known("layout", query.layout, LAYOUTS)
    _known("filter", query.shown, SHOWN)
    _known("column", query.sort, ("", *_TEXTS, *NUMBERS, *scorers))
    _known("scorer", query.scorer, ("", *scorers))
    _known("thing to differ in", query.differs_in, ("text", *scorers))
    for number in (query.by, query.variant, query.differs):
        if not isinstance(number, int) or not -1 <= number < max(1, variants):
            raise BadInput(f"a variant is a number from 0 to {variants - 1}, not {number!r}.")
    for bound in (query.low, query.high):
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float) or math.isnan(bound)):
            raise BadInput(f"a bound of a score is a number, not {bound!r}.")
    if len(query.search) > LONGEST_PATTERN:
        raise BadInput(f"what you search for has {len(query.search):,} characters; at most {LONGEST_PATTERN} are looked for.")
    return query


def _known(kind: str, name: Any, known: Sequence[str]) -> None:
    if name not in known:
        raise UnknownName(kind, str(name), [each for each in known if each])


def places(cells: Cells, query: Query, groups: Callable[[str], Sequence[str]], asked: Callable[[], Sequence[str]]) -> Any:
    """The places of the cells that the query lets through, in plan order. ``groups(column)`` names the group of each cell of a column.

    Raises BadInput for a pattern that is none, or that takes longer than ``SECONDS``.
    """
    import numpy

    if query.filters_nothing:
        return numpy.arange(len(cells))
    kept = _by_status(cells, query)
    if query.variant >= 0:
        kept &= numpy.frombuffer(cells.variant, dtype="i4") == query.variant
    if query.low is not None or query.high is not None:
        value = numpy.frombuffer(cells.scores[query.scorer or cells.scorers[0]], dtype="f8")
        kept &= (value >= (-math.inf if query.low is None else query.low)) & (value <= (math.inf if query.high is None else query.high))
    if query.differs >= 0:
        kept &= _differing(cells, query)
    if query.where is not None:
        kept &= numpy.asarray(groups(query.where[0]), dtype=object) == query.where[1]
    found = numpy.flatnonzero(kept)
    return found if not query.search else numpy.asarray(_matching(cells, query, found, asked()), dtype="i8")


def _by_status(cells: Cells, query: Query) -> Any:
    import numpy

    status = numpy.frombuffer(cells.status, dtype="i1")
    if query.shown == "all":
        return numpy.ones(len(cells), dtype=bool)
    if query.shown == "open":
        return (status != OK) & (status != FAILED)
    if query.shown == "unscored":
        missing = [numpy.isnan(numpy.frombuffer(cells.scores[name], dtype="f8")) for name in cells.scorers]
        return (status == OK) & (numpy.any(missing, axis=0) if missing else False)
    return status == (OK if query.shown == "ok" else FAILED)


def _differing(cells: Cells, query: Query) -> Any:
    """Cells whose text or score is another one than the baseline's in the same row and repeat; only where both have one."""
    import numpy

    lines, variant = cells.lines(), numpy.frombuffer(cells.variant, dtype="i4")
    base = numpy.full(int(lines[-1]) + 1 if len(lines) else 0, -1)
    mine = numpy.flatnonzero(variant == query.differs)
    base[lines[mine]] = mine
    against = base[lines]
    if query.differs_in != "text":
        value = numpy.frombuffer(cells.scores[query.differs_in], dtype="f8")
        there = (against >= 0) & ~numpy.isnan(value) & ~numpy.isnan(value[against])
        return there & (value != value[against])
    text = cells.text
    pairs = enumerate(against.tolist())
    return numpy.fromiter(
        (b >= 0 and text[a] is not None and text[b] is not None and text[a] != text[b] for a, b in pairs), dtype=bool, count=len(cells)
    )


def _matching(cells: Cells, query: Query, found: Any, asked: Sequence[str]) -> list[int]:
    matches = _pattern(query.search) if query.regex else _words(query.search)
    ends = time.monotonic() + SECONDS
    hits: list[int] = []
    of_row: dict[int, bool] = {}
    for at in found.tolist():
        left = ends - time.monotonic()
        if left <= 0:
            raise _too_slow(query)
        row = cells.row[at]
        if row not in of_row:
            of_row[row] = matches(f"{cells.row_ids[row]}\n{asked[row]}", left)
        if of_row[row] or matches(cells.text[at] or "", left) or (cells.error[at] and matches(cells.error[at], left)):
            hits.append(at)
    return hits


def _words(search: str) -> Callable[[str, float], bool]:
    wanted = search.casefold()
    return lambda text, _: wanted in text.casefold()


def _pattern(search: str) -> Callable[[str, float], bool]:
    import regex  # type: ignore[import-untyped]  # ships no types

    try:
        compiled = regex.compile(search, regex.IGNORECASE | regex.MULTILINE)
    except (regex.error, RecursionError, OverflowError) as error:
        raise BadInput(f"{search!r} is no regular expression: {error}. Search for it as plain text, or mend it.") from error

    def matches(text: str, seconds: float) -> bool:
        try:
            return compiled.search(text, timeout=seconds, concurrent=True) is not None
        except TimeoutError:
            raise _too_slow(Query(search=search)) from None

    return matches


def _too_slow(query: Query) -> BadInput:
    return BadInput(
        f"looking for {query.search!r} took longer than {SECONDS:g} s and was stopped; nothing is filtered by it. "
        "Take a simpler pattern, or plain text."
    )


def ordered(cells: Cells, query: Query, found: Any) -> tuple[Any, Any]:
    """Lines in the order asked for, as ``(cells, starts)``: line i holds ``cells[starts[i]:starts[i + 1]]``; what is missing comes last.

    In the layout ``rows`` a line holds all cells of its row and repeat, also those that the filter leaves out.
    """
    import numpy

    if query.layout == "cells":
        order = found if not query.sort else found[_rank(_column(cells, query.sort, found), query.descending)]
        return order, numpy.arange(len(order) + 1)
    lines = cells.lines()
    wanted = numpy.unique(lines[found])
    starts = numpy.searchsorted(lines, wanted)
    ends = numpy.searchsorted(lines, wanted, side="right")
    if query.sort:
        order = _rank(_of_lines(cells, query, starts, ends), query.descending)
        starts, ends = starts[order], ends[order]
    sizes = ends - starts
    borders = numpy.concatenate([[0], numpy.cumsum(sizes)])
    flat = numpy.repeat(starts - borders[:-1], sizes) + numpy.arange(int(borders[-1])) if len(starts) else numpy.zeros(0, dtype="i8")
    return flat, borders


def _column(cells: Cells, name: str, found: Any) -> Any:
    import numpy

    if name in cells.scores or name in NUMBERS:
        return numpy.frombuffer(cells.scores[name] if name in cells.scores else cells.numbers[name], dtype="f8")[found]
    texts: Sequence[Any]
    if name == "row":
        return numpy.frombuffer(cells.row, dtype="i4")[found].astype("f8")
    if name == "variant":
        return numpy.frombuffer(cells.variant, dtype="i4")[found].astype("f8")
    if name == "status":
        texts = [STATUSES[cells.status[at]] for at in found.tolist()]
    else:
        columns: dict[str, Sequence[str | None]] = {"text": cells.text, "finish_reason": cells.finish, "error": cells.error}
        column = columns[name]
        texts = [column[at] or None for at in found.tolist()]
    rank = {text: number for number, text in enumerate(sorted({text for text in texts if text is not None}))}
    return numpy.asarray([math.nan if text is None else rank[text] for text in texts], dtype="f8")


def _of_lines(cells: Cells, query: Query, starts: Any, ends: Any) -> Any:
    """What each line is sorted by: the value of one variant, or the mean of all (of texts and the like: of the first)."""
    import numpy

    whole = _column(cells, query.sort, numpy.arange(len(cells)))
    variant = numpy.frombuffer(cells.variant, dtype="i4")
    numeric = query.sort in cells.scores or query.sort in NUMBERS
    values = numpy.full(len(starts), math.nan)
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        mine = whole[start:end]
        if query.by >= 0:
            mine = mine[variant[start:end] == query.by]
        mine = mine[~numpy.isnan(mine)]
        if len(mine):
            values[number] = mine.mean() if numeric else mine[0]
    return values


def _rank(values: Any, descending: bool) -> Any:
    import numpy

    return numpy.argsort(-values if descending else values, kind="stable")  # NaN sorts last either way
