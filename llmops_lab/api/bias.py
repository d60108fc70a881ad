"""``lab.judge_bias``: what moves a judge that should not."""

from __future__ import annotations

import html
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_lab.api.display import literal, table
from llmops_lab.api.judge import check_ended, rows_of, told_by
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.escapes import inert
from llmops_lab.grids.rows import read_rows
from llmops_lab.scorers._run import Scorer

if TYPE_CHECKING:
    from llmops_lab.flows.judge_bias import Check, Item

CHECKS = ("position", "length", "format", "injection", "self_preference")
_TEXT = ("reply", "text", "response", "output")
_STATES = {True: "biased", False: "held", None: "not known"}


def judge_bias(
    judge: Scorer,
    rows_or_grid: Any,
    *,
    checks: Sequence[str] = CHECKS,
    text: str | None = None,
    expected: str | None = None,
    prompt: str | None = None,
    own: str | None = None,
    reference: str | None = None,
    limit: int | None = 50,
    seed: int = 0,
    margin: float | None = None,
    alpha: float = 0.05,
    progress: Any = None,
) -> Bias:
    """Judge replies as they are and changed in one respect that no criterion names: a judge that moves is biased.

    ``rows_or_grid``: a grid (its recorded replies), or rows with a column of replies (``text=``). ``checks``: position (pairwise judges),
    length, format, injection, self_preference. The last needs a grid with replies of the judge's own model (``own``: its label) and of
    others, and a ``reference`` scorer of that grid, or better replies look like preference. ``limit``: a sample of so many rows, drawn
    with ``seed``; None takes all. A shift within ``margin`` (by default a tenth of the scale) does not matter. The judge is asked about 9
    times a row for all checks, and never twice about the same text.

    ``report.biased`` names the checks that the judge failed, so that a test can say ``assert not report.biased``. Raises BadInput.
    """
    if not isinstance(judge, Scorer):
        raise BadInput(f"the judge is what lab.judge(...) or lab.scorer(...) gives, not {judge!r:.80}.")
    for name in [checks] if isinstance(checks, str) else checks:
        if name not in CHECKS:
            raise UnknownName("bias check", str(name), CHECKS)
    named = own if own is not None else judge.model
    items = _items(rows_or_grid, text, expected, prompt, reference)
    if not items:
        raise BadInput("there is no reply to judge.")
    if limit is not None and limit < len(items):
        chosen = set(random.Random(seed).sample(range(len(items)), limit))  # noqa: S311 - a sample, not a secret
        items = [item for place, item in enumerate(items) if place in chosen]
    wanted = [checks] if isinstance(checks, str) else list(checks)
    from llmops_lab.flows.judge_bias import check_bias  # brings numpy

    with told_by(progress) as told:
        return Bias(judge.name, check_bias(judge, items, wanted, own=named, margin=margin, alpha=alpha, told=told))


class Bias:
    """One line a check: shift, interval, rows, and what it says. ``report["length"]`` is one check."""

    def __init__(self, judge: str, checks: Sequence[Check]) -> None:
        self.judge, self.checks = judge, tuple(checks)

    @property
    def biased(self) -> list[str]:
        """The checks that the judge failed: a shift that is not chance."""
        return [each.name for each in self.checks if each.biased]

    @property
    def held(self) -> list[str]:
        """The checks that the judge passed: the shift was shown to be within the margin."""
        return [each.name for each in self.checks if each.biased is False]

    def __getitem__(self, name: str) -> Check:
        for each in self.checks:
            if each.name == name:
                return each
        raise UnknownName("bias check of this report", name, [each.name for each in self.checks])

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def frame(self) -> Any:
        """A DataFrame with one line a check: n, estimate, low, high, p_value, largest, unscored, biased, line."""
        import pandas

        return pandas.DataFrame([_line(each) for each in self.checks])

    def shifts(self) -> Any:
        """A DataFrame with one line a changed reply: check, row, how it was changed, scores before and after."""
        import pandas

        names = ("check", "row_id", "how", "before", "after", "shift", "problem")
        held = [(check, each) for check in self.checks for each in check.shifts]
        lines = [(check.name, each.row_id, each.how, each.before, each.after, each.size, each.problem) for check, each in held]
        return pandas.DataFrame(lines, columns=names)

    def _shown(self) -> tuple[str, str]:
        lines = [_line(each) for each in self.checks]
        return table(("check", "n", "shift", "says"), [[line["check"], line["n"], _interval(line), line["line"]] for line in lines])

    def __repr__(self) -> str:
        return f"bias of {inert(self.judge)}: {self._story}\n{self._shown()[0]}"

    def _repr_html_(self) -> str:
        return literal(f"<p>bias of {html.escape(inert(self.judge))}: {html.escape(self._story)}</p>{self._shown()[1]}")

    @property
    def _story(self) -> str:
        unknown = [each.name for each in self.checks if each.biased is None]
        parts = [f"{word} {', '.join(names)}" for word, names in (("biased by", self.biased), ("holds for", self.held)) if names]
        return "; ".join([*parts, f"not known: {', '.join(unknown)}"] if unknown else parts)


def _line(check: Check) -> dict[str, Any]:
    found, largest = check.verdict, check.largest
    return {
        "check": check.name,
        "n": found.n_pairs if found else 0,
        "estimate": found.delta if found else None,
        "low": found.ci_low if found else None,
        "high": found.ci_high if found else None,
        "p_value": found.p_value if found else None,
        "largest": largest.size if largest else None,
        "unscored": check.unscored,
        "biased": check.biased,
        "line": _sentence(check),
    }


def _sentence(check: Check) -> str:
    found, largest = check.verdict, check.largest
    if found is None:
        return f"not tested: {check.why}"
    told = {
        True: f"biased: {check.what} moves the score by {_signed(found.delta)}",
        False: f"held: {check.what} moves the score by less than {found.margin:g}",
        None: f"not known: with {found.n_pairs:,} rows a shift of {_signed(found.delta)} by {check.what} may be chance",
    }[check.biased]
    parts = [f"{told} ({found.test} p={found.p_value:.2g})"]
    if check.biased is None and found.needed_rows:
        parts.append(f"about {found.needed_rows:,} rows would settle it")
    if largest is not None:
        parts.append(f"largest {_signed(largest.size or 0.0)} (row {inert(largest.row_id)}, {inert(largest.how)})")
    if check.unscored:
        parts.append(f"{check.unscored:,} without a score ({inert(' '.join(check.problem.split()))[:120]})")
    return "; ".join([*parts, check.why] if check.why else parts)


def _interval(line: Mapping[str, Any]) -> str:
    if line["estimate"] is None:
        return "-"
    low, high = (_signed(line[name]) if math.isfinite(line[name]) else "?" for name in ("low", "high"))
    return f"{_signed(line['estimate'])} [{low}, {high}]"


def _signed(value: float) -> str:
    return f"{value:+.3g}" if value else "0"


def _items(given: Any, text: str | None, expected: str | None, prompt: str | None, reference: str | None) -> list[Item]:
    from llmops_lab.flows.judge_bias import Item

    if hasattr(given, "judges"):
        check_ended(given)
        return _of_grid(given, expected, prompt, reference)
    table_ = read_rows(given)
    column = text or next((each for each in _TEXT if each in table_.columns), None)
    if column is None:
        raise BadInput(f"say which column holds the reply: text='...'. Known: {', '.join(table_.columns)}.")
    for name in (column, *([expected] if expected else [])):
        table_.require(name)
    # With its id, under which the judge's calls are recorded: a row that is forgotten takes them along.
    return [
        Item(
            row_id,
            str(row[column]),
            {"id": row_id, **{k: v for k, v in row.items() if k != column}},
            row.get(expected) if expected else None,
        )
        for row_id, row in zip(table_.ids, table_.items, strict=True)
        if row.get(column) is not None
    ]


def _of_grid(grid: Any, expected: str | None, prompt: str | None, reference: str | None) -> list[Item]:
    cells = [cell for cell in grid.records() if cell["text"] and cell["replicate"] == 0]
    prompts, models = ([*dict.fromkeys(cell[name] for cell in cells)] for name in ("prompt", "model"))
    if prompt is not None and prompt not in prompts:
        raise UnknownName("prompt", prompt, prompts)
    if reference is not None and reference not in grid.scorers:
        raise UnknownName("score column", reference, grid.scorers)
    by = "model" if len(models) > 1 or len(prompts) < 2 or prompt is not None else "prompt"
    if by == "model":
        cells = [cell for cell in cells if cell["prompt"] == (prompt or prompts[0])]
    rows, column = rows_of(grid), expected or grid.dataset.get("expected")
    held: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        held.setdefault(cell["row_id"], []).append(cell)
    return [_item(row_id, row_cells, by, rows.get(row_id, {}), column, reference) for row_id, row_cells in held.items()]


def _item(
    row_id: str, cells: Sequence[Mapping[str, Any]], by: str, row: Mapping[str, Any], expected: str | None, reference: str | None
) -> Item:
    from llmops_lab.flows.judge_bias import Item

    variants = {cell[by]: cell["text"] for cell in cells}
    known = {cell[by]: float(cell[reference]) for cell in cells if cell[reference] is not None} if reference else {}
    return Item(row_id, cells[0]["text"], row, row.get(expected) if expected else None, variants, known)
