"""Plain rows, with replies that somebody else made, become what can be rated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.escapes import storable
from llmops_lab.grids.rows import Rows
from llmops_lab.ratings.items import LETTERS, Found, Side
from llmops_lab.ratings.pictures import parted


@dataclass(frozen=True)
class Columns:
    """Which columns of the rows hold what. ``gold`` and ``suggestions``: see ``known``; None: there are none."""

    replies: tuple[str, ...]
    prompt: str | None
    sources: tuple[str, ...]
    gold: str | Mapping[Any, Any] | None = None
    suggestions: str | Mapping[Any, Any] | None = None
    hidden: tuple[str, ...] = ()
    """What raters must not see of a row: the expected answer."""


def reply_columns(mode: str, table: Rows, text: str | None, a: str | None, b: str | None, variants: Any) -> tuple[str, ...]:
    """The columns that hold replies: one for a single rating, two for a pair, two or more for a ranking. Raises BadInput, UnknownName."""
    if mode == "pairwise" and variants is None:
        named = [each for each in (a, b) if each is not None]
        if len(named) < 2:
            raise BadInput(f"a pair needs two columns of replies: a='...', b='...'. Known: {', '.join(table.columns)}.")
    elif variants is not None:
        named = [variants] if isinstance(variants, str) else list(variants)
    else:
        named = [text or "text"]
        if text is None and "text" not in table.columns:
            raise BadInput(f"say which column holds the reply: text='...'. Known: {', '.join(table.columns)}.")
    for name in named:
        table.require(name)
    return check_sides(mode, named)


def check_sides(mode: str, named: Sequence[str]) -> tuple[str, ...]:
    """The names of the sides. Raises BadInput where the mode needs more of them, or two are the same."""
    if len(set(named)) < len(named):
        raise BadInput(f"the sides of a comparison differ; {', '.join(map(repr, named))} do not.")
    if mode != "single" and len(named) < 2:
        raise BadInput(f"mode={mode!r} compares two replies or more, and there is only {', '.join(map(repr, named)) or 'none'}.")
    if len(named) > len(LETTERS):
        raise BadInput(f"at most {len(LETTERS)} replies are ranked at once, not {len(named)}.")
    return tuple(named)


def from_rows(table: Rows, columns: Columns) -> list[Found]:
    """Each row with its replies; a row without a text on a side has nothing there."""
    gold, hints = known(table, columns.gold, "gold"), known(table, columns.suggestions, "suggestions")
    found = []
    for number, row in enumerate(table.items):
        where = f"row {table.called(number)}"
        sides = {name: _sides(name, row.get(name), where) for name in columns.replies}
        prompt, images = parted(row.get(columns.prompt) if columns.prompt else "", where)
        ident = storable(table.ids[number])
        found.append(Found(ident, prompt, sides, shown(row, columns.sources), images, gold.get(ident, {}), hints.get(ident, {})))
    return found


def _sides(name: str, value: Any, where: str) -> list[Side]:
    text, images = parted(value, f"{where}, column {name!r}")
    return [Side("", name, text, images)] if text or images else []


def shown(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The sources of a row: name and text of these columns, those that hold something."""
    return tuple((name, str(row[name])) for name in columns if row.get(name) not in (None, ""))


def source_columns(table: Rows, source: Any) -> tuple[str, ...]:
    """The columns that ``source`` names. Raises UnknownName."""
    named = [source] if isinstance(source, str) else list(source or ())
    for name in named:
        table.require(name)
    return tuple(named)


def known(table: Rows, given: str | Mapping[Any, Any] | None, what: str) -> dict[str, dict[str, Any]]:
    """Row id -> values ("" or the name of a side -> value), from a column, or a mapping by row id or by (row id, side).

    Raises UnknownName for a row or column that is not there.
    """
    if given is None:
        return {}
    if isinstance(given, str):
        table.require(given)
        values: Mapping[Any, Any] = dict(zip(table.ids, (row.get(given) for row in table.items), strict=True))
    elif isinstance(given, Mapping):
        values = given
    else:
        raise BadInput(f"{what} is the name of a column, or values by row id, not {given!r:.60}.")
    found: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        row, side = (str(key[0]), str(key[1])) if isinstance(key, tuple) and len(key) == 2 else (str(key), "")
        if row not in table.ids:
            raise UnknownName(f"row in {what}", row, table.ids[:50])
        if value is not None and value != "":
            found.setdefault(storable(row), {})[side] = value
    return found
