"""The grid without a kernel: the twin that is saved with a notebook, and all that a page of its own needs."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from llmops_lab.api.display import MUTED, literal, table
from llmops_lab.api.views._grid_cells import Cells, status_name
from llmops_lab.api.views._grid_figures import verdict
from llmops_lab.api.views._grid_page import PREVIEW, preview
from llmops_lab.api.views._grid_source import Source
from llmops_lab.escapes import inert

SHOWN = 20
SMALL = 5_000
"""Of a grid with more cells the verdict is left to the view: it would take a reading of all of them."""


def twin(handle: Any, source: Source, scorers: Sequence[str]) -> tuple[str, str]:
    """(text/plain, text/html): the figures of each prompt and model, how it ended, and the first cells."""
    at_hand = handle._figures_at_hand()
    total = source.size()
    if at_hand is None:
        story = f"{handle.state}: {total:,} cells. Their figures were not made when this was shown; show the grid again for them."
        plain, figures = inert(handle._title), f"<p>{html.escape(inert(handle._title))}</p>"
    else:
        (plain, figures), story = handle._laid_out(*at_hand)
        if 0 < total <= SMALL:
            said = verdict(source.build(lambda _: None), handle.judges, handle.state)
            story = f"{story}\nverdict: {said['text']}" if said["outcome"] else story
    told = "".join(f"<p>{html.escape(line)}</p>" for line in story.split("\n"))
    names, lines = _lines(source.stretch(0, SHOWN), handle.state, scorers)
    first = table(names, lines)[1] if total else ""
    more = f"The first {len(lines)} of {total:,} cells; the table of all of them needs the kernel." if total > len(lines) else ""
    note = f'<p style="{MUTED}">{html.escape(more)}</p>' if more else ""
    return f"{plain}\n{story}", literal(f"{figures}{told}{first}{note}")


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
