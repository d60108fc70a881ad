"""How sums, times, texts and tables look, in a terminal and in a notebook; every text is inert."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence

from llmops_lab.escapes import inert

SHOWN_CHARACTERS = 50_000
MUTED = "color:var(--jp-ui-font-color2,#767676);font-size:85%"
WARNING = "color:var(--jp-error-color1,#cf222e);font-weight:600"
_PRE = "white-space:pre-wrap;overflow-wrap:anywhere;margin:0 0 .4em 0"


def money(usd: float | None) -> str:
    """USD for reading: an unknown sum is said to be unknown, and small ones keep two figures."""
    if usd is None:
        return "cost unknown"
    digits = 2 if usd >= 1 or usd <= 0 else 1 - math.floor(math.log10(usd))
    return f"${usd:,.{max(2, digits)}f}"


def duration(seconds: float) -> str:
    """Seconds for reading."""
    whole = round(seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h {whole % 3600 // 60} min"


def shortened(text: str) -> str:
    """The inert text, or its beginning with a line that says how much is left out."""
    if len(text) <= SHOWN_CHARACTERS:
        return inert(text)
    return f"{inert(text[:SHOWN_CHARACTERS])}\n… {len(text) - SHOWN_CHARACTERS:,} more characters: the whole stands in .text"


def pre(text: str) -> str:
    """An inert text as HTML."""
    return f'<pre style="{_PRE}">{html.escape(text)}</pre>'


def literal(page: str) -> str:
    """A piece of HTML in which JupyterLab typesets no formula: a sum is written with a dollar sign, and so is what a model makes up."""
    return f'<div class="mathjax_ignore">{page}</div>'


def note(parts: Sequence[str], warning: str = "") -> str:
    """The muted line under an answer as HTML, with a warning in front where there is one."""
    mark = [f'<span style="{WARNING}">{html.escape(warning)}</span>'] if warning else []
    return f'<div style="{MUTED}">{" · ".join([*mark, *(html.escape(inert(part)) for part in parts)])}</div>'


_TIME = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?")


def _style(cell: str) -> str:
    return f"text-align:left{';white-space:nowrap' if _TIME.fullmatch(cell) else ''}"  # a time breaks at each of its hyphens otherwise


def table(columns: Sequence[str], lines: Sequence[Sequence[object]]) -> tuple[str, str]:
    """A table as text and as HTML. None stays empty; a cell is one line."""
    head = [inert(name) for name in columns]
    cells = [["" if value is None else inert(str(value)[:SHOWN_CHARACTERS]).replace("\n", " ") for value in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    plain = "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in [head, *cells])
    titles = "".join(f'<th style="text-align:left">{html.escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f'<td style="{_style(cell)}">{html.escape(cell)}</td>' for cell in line) + "</tr>" for line in cells)
    return plain, f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
