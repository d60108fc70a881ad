"""The replies of a grid become what can be rated."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows.rate_rows import Columns, check_sides, known, shown
from llmops_lab.grids.rows import Rows
from llmops_lab.ratings.items import Found, Side
from llmops_lab.ratings.pictures import parted
from llmops_lab.records import Message, Request

Cells = Sequence[Mapping[str, Any]]


def variants_of(cells: Cells) -> dict[str, tuple[str, str]]:
    """Name of each variant -> its prompt and model: the prompt where there is one model, the model where there is one prompt, else both."""
    pairs = list(dict.fromkeys((cell["prompt"], cell["model"]) for cell in cells))
    prompts, models = {prompt for prompt, _ in pairs}, {model for _, model in pairs}
    if len(models) == 1:
        return {prompt: (prompt, model) for prompt, model in pairs}
    if len(prompts) == 1:
        return {model: (prompt, model) for prompt, model in pairs}
    return {f"{prompt}/{model}": (prompt, model) for prompt, model in pairs}


def chosen(mode: str, cells: Cells, a: str | None, b: str | None, variants: Any) -> tuple[str, ...]:
    """The variants that are rated. Raises UnknownName, or BadInput where a pair could be any of many."""
    names = variants_of(cells)
    wanted = [a, b] if a is not None and b is not None else None
    if variants is not None:
        wanted = [variants] if isinstance(variants, str) else list(variants)
    elif wanted is None and (a is not None or b is not None):
        raise BadInput(f"a pair has two sides: say a=... and b=.... Known: {', '.join(names)}.")
    if wanted is None and mode == "pairwise" and len(names) > 2:
        raise BadInput(f"say which two are compared: a=..., b=...; or variants=[...] for every pair of them. Known: {', '.join(names)}.")
    for name in wanted or ():
        if name not in names:
            raise UnknownName("variant of this grid", str(name), names)
    return check_sides(mode, wanted or list(names))


def from_grid(
    cells: Cells,
    names: Sequence[str],
    columns: Columns,
    table: Rows | None,
    request: Callable[[Any], Request | None],
    *,
    grid: str | None = None,
    only: Container[int] | None = None,
) -> list[Found]:
    """Each row of a grid with the replies of these variants; of the cells in ``only``, where it is given.

    ``request`` gives what was sent for a cell, ``table`` the rows, where they are known.
    """
    wanted = {pair: name for name, pair in variants_of(cells).items() if name in names}
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        if (cell["prompt"], cell["model"]) in wanted and (only is None or cell["cell"] in only):
            rows.setdefault(cell["row_id"], []).append(cell)
    table = table or Rows([{}] * len(rows), list(rows), "the grid", "")
    items = dict(zip(table.ids, table.items, strict=True))
    gold, hints = known(table, columns.gold, "gold"), known(table, columns.suggestions, "suggestions")
    found = []
    for row_id, held in rows.items():
        sent = [request(cell) for cell in held]
        sides: dict[str, list[Side]] = {name: [] for name in names}
        for cell, each in zip(held, sent, strict=True):
            if cell["text"]:
                name = wanted[cell["prompt"], cell["model"]]
                sides[name].append(_side(name, cell, each.messages if each else (), grid))
        row = items.get(row_id, {})
        prompt, images = _asked([each.messages for each in sent if each]) or (_fields(row, columns), ())
        found.append(Found(row_id, prompt, sides, shown(row, columns.sources), images, gold.get(row_id, {}), hints.get(row_id, {})))
    return found


def _side(name: str, cell: Mapping[str, Any], messages: Sequence[Message], grid: str | None) -> Side:
    made = {part: cell[part] for part in ("prompt", "model", "replicate", "cell", "key")}
    return Side("", name, cell["text"], asked=tuple({"role": each.role, "content": each.content} for each in messages), grid=grid, **made)


def _asked(asked: Sequence[Sequence[Message]]) -> tuple[str, tuple[str, ...]] | None:
    # Only what all variants were asked alike: a prompt of its own would tell who wrote the reply.
    alike = next(
        (asked[0][start:] for start in (0, -1) if asked and asked[0] and all(each[start:] == asked[0][start:] for each in asked)), ()
    )
    parts = [parted(list(each.content) if isinstance(each.content, tuple) else each.content, "prompt") for each in alike]
    return ("\n\n".join(text for text, _ in parts if text), tuple(image for _, images in parts for image in images)) if parts else None


def _fields(row: Mapping[str, Any], columns: Columns) -> str:
    hidden = {"id", *columns.hidden, *columns.sources}
    fields = {name: value for name, value in row.items() if name not in hidden and value not in (None, "")}
    return "\n".join(f"{name}: {value}" if len(fields) > 1 else str(value) for name, value in fields.items())
