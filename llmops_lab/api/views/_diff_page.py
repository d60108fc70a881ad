"""The static twin of the side-by-side view: verdict, counts, and the rows that changed most, as text and as HTML without a script."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from typing import Any

from llmops_lab.api.display import MUTED, literal
from llmops_lab.escapes import inert
from llmops_lab.flows.diff import Compared, Pair
from llmops_lab.prompts.diff import word_diff
from llmops_lab.stats.verdict import sentence

NO_VALUES = (
    "the columns of the rows are not in this ledger (the grid ran on another machine, or before rows were kept, or they were forgotten)"
)
_ROWS, _TEXT, _PROMPT = 20, 300, 1500
_MARK = {
    "delete": ("del", "background:#fdd;color:#800"),  # colours of their own, to be read on a light and on a dark page
    "insert": ("ins", "background:#dfd;color:#060"),
}
_CELL = "text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere;max-width:40em"


def page(diff: Any) -> tuple[str, str]:
    """(text/plain, text/html)."""
    compared = diff.compared
    lines = [f"{' | '.join(inert(name) for name in diff.variants)}: {len(compared.rows):,} rows side by side"]
    for number, pair in enumerate(compared.pairs):
        lines += [f"verdict: {inert(sentence(compared.verdicts[number]))}"] if compared.verdicts else []
        lines.append(inert(counts(pair, compared)))
    lines += [inert(compared.note)] if compared.note else []
    shown = [(pair, row) for pair in compared.pairs for row in pair.order()[: max(3, _ROWS // len(compared.pairs))]]
    left = len(compared.rows) * len(compared.pairs) - len(shown)
    rest = f"{left:,} more; the live view, .frame() and .flips() have them all" if left else ""
    plain = [_plain(pair, row, compared) for pair, row in shown[:5]]
    return "\n".join([*lines, *plain]), literal(_html(diff, lines, shown, rest))


def counts(pair: Pair, compared: Compared) -> str:
    """How many rows got better and worse, and how many of those that flipped will stay so."""
    outcomes = [pair.outcome(row) for row in range(len(compared.rows))]
    texts = f"{sum(each == 'different' for each in pair.texts):,} of {len(pair.texts):,} rows have other texts"
    if compared.judge is None:
        return f"{pair.b_name} against {pair.a_name}: {texts}"
    words = (
        {"better": "better", "worse": "worse"} if compared.judge["higher_is_better"] is not None else {"better": "higher", "worse": "lower"}
    )
    story = ", ".join(f"{outcomes.count(name):,} {word}" for name, word in [*words.items(), ("equal", "equal")])
    if "missing" in outcomes:
        story += f", {outcomes.count('missing'):,} without a score on both sides"
    parts = [f"{pair.b_name} against {pair.a_name}: {story}"]
    flips = [each for each in pair.flips if each]
    if flips:
        kinds = ", ".join(f"{flips.count(kind):,} {word}" for kind, word in FLIPS.items() if kind in flips)
        parts.append(f"{len(flips):,} flips ({kinds})")
    return "; ".join([*parts, texts])


FLIPS = {"change": "repeat: change", "noise": "do not repeat: noise", "unknown: one replicate": "unknown: one replicate"}
"""What is said of the flips of a kind."""


def text(value: Any) -> str:
    """A value of a row as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _first(compared: Compared, side: int, row: int) -> str | None:
    return next((cell["text"] for cell in compared.sides[side].cells[compared.rows[row]] if cell["text"] is not None), None)


def _sides(pair: Pair, row: int, compared: Compared) -> tuple[str | None, str | None]:
    other = 1 + next(number for number, each in enumerate(compared.pairs) if each is pair)
    return _first(compared, 0, row), _first(compared, other, row)


def _score(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"


def _plain(pair: Pair, row: int, compared: Compared) -> str:
    a, b = ("no reply" if each is None else inert(" ".join(each.split())[:100]) for each in _sides(pair, row, compared))
    head = f"  row {inert(compared.rows[row])}: {pair.outcome(row)}{f', flip: {pair.flips[row]}' if pair.flips[row] else ''}"
    return f"{head}\n    {inert(pair.a_name)} ({_score(pair.a[row])}): {a}\n    {inert(pair.b_name)} ({_score(pair.b[row])}): {b}"


def _html(diff: Any, lines: Sequence[str], shown: Sequence[tuple[Pair, int]], rest: str) -> str:
    compared = diff.compared
    parts = [f"<p><b>{html.escape(lines[0])}</b></p>", *(f"<p>{html.escape(line)}</p>" for line in lines[1:])]
    parts += [_question(each) for each in diff.prompts if each.changed]
    titles = ["row", "outcome", "flip", "score", "replies: <del>only in the first</del>, <ins>only in the second</ins>"]
    head = "".join(f'<th style="text-align:left">{title}</th>' for title in titles)
    body = "".join(_row(pair, row, compared) for pair, row in shown)
    parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return "".join([*parts, f'<p style="{MUTED}">{html.escape(rest)}</p>' if rest else ""])


def _question(words: Any) -> str:
    parts = _cut(words.parts, _PROMPT)
    title = html.escape(inert(f"what changed in the question: {words.a} → {words.b}"))
    return f'<details><summary>{title}</summary><div style="{_CELL}">{_marked(parts)}</div></details>'


def _row(pair: Pair, row: int, compared: Compared) -> str:
    a, b = _sides(pair, row, compared)
    if a is None or b is None:
        lack = [f"no reply of {name}" for name, each in ((pair.a_name, a), (pair.b_name, b)) if each is None]
        replies = html.escape(inert("; ".join([*lack, *(f"{each[:_TEXT]}" for each in (a, b) if each is not None)])))
    else:
        replies = _marked(_cut(word_diff(a[: 4 * _TEXT], b[: 4 * _TEXT]), _TEXT))
    scores = f"{_score(pair.a[row])} → {_score(pair.b[row])}"
    name = compared.rows[row] + (f" ({pair.b_name})" if len(compared.pairs) > 1 else "")
    cells = [html.escape(inert(each)) for each in (name, pair.outcome(row), pair.flips[row] or "", scores)]
    return "<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in [*cells, replies]) + "</tr>"


def _cut(parts: Sequence[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    kept: list[tuple[str, str]] = []
    left = most
    for op, words in parts:
        if left <= 0:
            return [*kept, ("equal", " …")]
        if op == "equal" and len(words) > 80:  # what is the same on both sides is not what somebody came to see
            words = f"{words[:40]} … {words[-30:]}"
        kept.append((op, words[:left]))
        left -= len(words)
    return kept


def _marked(parts: Sequence[tuple[str, str]]) -> str:
    made = []
    for op, words in parts:
        body = html.escape(inert(words))
        tag, style = _MARK.get(op, ("", ""))
        made.append(f'<{tag} style="{style}">{body}</{tag}>' if tag else body)
    return "".join(made)
