"""``lab.rate``: replies are put before people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api.calls import load
from llmops_lab.api.queue import Queue
from llmops_lab.api.rated import CELL, rated
from llmops_lab.errors import BadInput
from llmops_lab.flows.rate import make_queue
from llmops_lab.ratings.items import Spec
from llmops_lab.ratings.rubric import MODES, Rubric
from llmops_lab.store.ledger import Ledger, open_ledger
from llmops_lab.store.reviews import grids_with

_FILES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


def rate(
    grid_or_rows: Any,
    rubric: Rubric | str,
    *,
    mode: str = "single",
    a: str | None = None,
    b: str | None = None,
    variants: Sequence[str] | None = None,
    raters: int | Sequence[str] = 1,
    seed: int = 0,
    name: str | None = None,
    gold: str | Mapping[Any, Any] | None = None,
    repeats: int = 0,
    suggestions: str | Mapping[Any, Any] | None = None,
    limit: int | None = None,
    source: str | Sequence[str] | None = None,
    text: str | None = None,
    prompt: str | None = None,
) -> Queue:
    """Make a rating queue, show its panel and return it; the same call again opens the same queue.

    ``grid_or_rows``: a grid (or its name), or rows that hold replies: a file, a DataFrame, a list of dicts, whose columns ``text``,
    ``a`` and ``b``, or ``variants`` name; ``prompt`` and ``source`` are shown beside. ``mode``: "single" asks for a level of the rubric,
    "pairwise" which of ``a`` and ``b`` is better, "ranking" for an order of the ``variants``. ``raters``: how many each item gets, or
    the names of those who each rate all. ``seed`` draws who sees what in which order. ``gold`` are items with a known answer: a column,
    or values by row id, or by (row id, variant). ``repeats`` so many items are shown twice; raters are told of neither. ``limit``: a
    sample of so many items. ``suggestions``: as ``gold``, and shown to the rater; none unless asked for.

    Raises BadInput, also where another queue has the name, and UnknownName.
    """
    if mode not in MODES:
        raise BadInput(f"mode is {', '.join(map(repr, MODES[:-1]))} or {MODES[-1]!r}, not {mode!r:.60}.")
    held = Rubric(rubric) if isinstance(rubric, str) else rubric
    if not isinstance(held, Rubric):
        raise BadInput(f"the rubric is lab.Rubric('How polite is it?', levels={{...}}), not {rubric!r:.60}.")
    if mode == "single" and not held.levels:
        raise BadInput("single ratings need levels: lab.Rubric('...', levels={1: 'rude: ...', 2: '...', 3: '...'}).")
    ledger = open_ledger(_settings.load())
    sides: dict[str, Any] = {"a": a, "b": b, "variants": variants}
    columns: dict[str, Any] = {"gold": gold, "suggestions": suggestions, "source": source, "text": text, "prompt": prompt}
    source_of, keys = _opened(ledger, grid_or_rows)
    named, found, grid = rated(source_of, mode, sides, columns, keys)
    overlap, names = _raters(raters)
    spec = Spec(mode, held, named, overlap, names, _whole("seed", seed, None), suggestions=suggestions is not None, grid=grid)  # type: ignore[arg-type]
    amounts = {"limit": None if limit is None else _whole("limit", limit, 1), "repeats": _whole("repeats", repeats, 0)}
    queue = Queue(ledger, make_queue(ledger, _named(name), spec, found, **amounts))  # type: ignore[arg-type]
    queue.show()
    return queue


def _opened(ledger: Ledger, given: Any) -> tuple[Any, set[str] | None]:
    """The grid or the rows, and the keys of the cells that were picked of a grid (``g.selected()`` and parts of ``g.frame()``)."""
    if isinstance(given, str):  # the name of a grid, unless it names a file of rows
        return (given if Path(given).suffix.lower() in _FILES else load(given)), None
    if not hasattr(given, "columns") or not set(given.columns) >= CELL:
        return given, None
    keys = {str(key) for key in given["key"]}
    grid = next(iter(grids_with(ledger, keys)), None)
    return (given, None) if grid is None else (load(grid), keys)


def _raters(given: Any) -> tuple[int, tuple[str, ...] | None]:
    if isinstance(given, int) and not isinstance(given, bool):
        return _whole("raters", given, 1), None
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise BadInput(f"raters is how many each item gets, or a list of names, not {given!r:.60}.")
    names = tuple(name.strip() if isinstance(name, str) and name.isprintable() else "" for name in given)
    if not all(0 < len(name) <= 200 for name in names) or len(set(names)) < len(names):
        raise BadInput(f"raters are names of at most 200 characters that differ, not {given!r:.60}.")
    return len(names), names


def _whole(name: str, value: Any, least: int | None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise BadInput(f"{name} must be a whole number{'' if least is None else f', {least} or more'}, not {value!r:.60}.")
    return value


def _named(name: Any) -> str | None:
    if name is not None and (not isinstance(name, str) or not name.strip() or len(name) > 200 or not name.isprintable()):
        raise BadInput(f"a queue's name is a text of at most 200 characters, not {name!r:.60}.")
    return name
