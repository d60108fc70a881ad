"""The grid without a kernel: the twin that is saved with a notebook, and all that a page of its own needs."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from llmops_lab.api.display import MUTED, literal, table
from llmops_lab.api.views._grid_cells import Cells
from llmops_lab.api.views._grid_page import PREVIEW, preview
from llmops_lab.api.views._grid_query import status_name
from llmops_lab.api.views._grid_source import Source
from llmops_lab.escapes import inert

SHOWN = 20


def twin(handle: Any, source: Source, scorers: Sequence[str]) -> tuple[str, str]:
    """(text/plain, text/html): the figures of each prompt and model, how it ended, and the first cells."""
    (plain, figures), story = handle._shown()
    cells = source.stretch(0, SHOWN)
    total = source.size()
    if not total:
        return f"{plain}\n{story}", literal(f"{figures}<p>{html.escape(story)}</p>")
    names, lines = _lines(cells, handle.state, scorers)
    _, first = table(names, lines)
    more = f"The first {len(lines)} of {total:,} cells; the table of all of them needs the kernel." if total > len(lines) else ""
    note = f'<p style="{MUTED}">{html.escape(more)}</p>' if more else ""
    page = f"{figures}<p>{html.escape(story)}</p>{first}{note}"
    return f"{plain}\n{story}", literal(page)


def _lines(cells: Cells, state: str, scorers: Sequence[str]) -> tuple[list[str], list[list[object]]]:
    records = cells.records()
    prompts, models = ({variant[side] for variant in cells.variants} for side in (0, 1))
    repeated = any(cells.replicate)
    names = ["row_id", *(["replicate"] if repeated else []), *(["prompt"] if len(prompts) > 1 else [])]
    names += [*(["model"] if len(models) > 1 else []), "status", "reply", *scorers]
    lines: list[list[object]] = []
    for at, record in enumerate(records):
        text = cells.text[at]
        told = {**record, "status": status_name(cells.status[at], state)}
        told["reply"] = inert(cells.error[at]) if text is None else preview(text) + ("…" if len(text) > PREVIEW else "")
        lines.append([_short(told[name]) for name in names])
    return names, lines


def _short(value: Any) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
