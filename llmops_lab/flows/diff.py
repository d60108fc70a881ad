"""Variants of the same rows side by side: what each answered, how it scored, what changed from the first, and the verdict."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput, DoesNotPair
from llmops_lab.records import Verdict, canonical
from llmops_lab.stats._check import check_alpha
from llmops_lab.stats.flips import Flip, flip_kind

Record = Mapping[str, Any]
_WITHIN_A_ROW = ("prompt", "model")
_STRENGTH: tuple[Flip, ...] = ("change", "unknown: one replicate", "noise")
_FENCED = re.compile(r"```[\w-]*\n(.*)\n```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Side:
    """One variant: its name, and its cells by row, rows in plan order."""

    name: str
    cells: Mapping[str, Sequence[Record]]


@dataclass(frozen=True, slots=True)
class Pair:
    """The first variant (a) and another one (b), a list of one entry a row each.

    ``a`` and ``b``: mean scores over the cells that have one on both sides, NaN where there is none. ``gains``: how much better b is
    (b - a, turned round where less is better). ``flips``: None where the row passes equally often. ``passed``: passes and
    replies of a and of b. ``texts``: ``same``, ``same JSON``, ``different``, or ``missing`` where a side has no reply.
    """

    a_name: str
    b_name: str
    a: list[float]
    b: list[float]
    gains: list[float]
    flips: list[Flip | None]
    passed: list[tuple[int, int, int, int] | None]
    texts: list[str]
    binary: bool

    def outcome(self, row: int) -> str:
        """``better``, ``worse`` or ``equal`` of b in this row; ``missing`` where the row has no score on both sides."""
        gain = self.gains[row]
        return "missing" if math.isnan(gain) else "better" if gain > 0 else "worse" if gain < 0 else "equal"

    def order(self) -> list[int]:
        """Numbers of the rows: regressions first, the largest on top; then what is missing, improvements, other texts, and the rest."""
        return sorted(range(len(self.gains)), key=self._rank)

    def _rank(self, row: int) -> tuple[int, float, int]:
        outcome = self.outcome(row)
        if outcome == "equal":
            return (3 if self.texts[row] == "different" else 4, 0.0, row)
        place = {"worse": 0, "missing": 1, "better": 2}[outcome]
        return (place, 0.0 if outcome == "missing" else -abs(self.gains[row]), row)


@dataclass(frozen=True, slots=True)
class Compared:
    """All of it. ``judge`` None: no scorer, so only texts are compared. ``note`` says why there is no verdict, else ""."""

    sides: list[Side]
    rows: list[str]
    judge: Mapping[str, Any] | None
    pairs: list[Pair]
    verdicts: list[Verdict]
    note: str
    passes: float | None


def diff(
    sides: Sequence[tuple[str, Sequence[Record]]],
    judge: Mapping[str, Any] | None,
    *,
    by: str,
    passes: float | None,
    alpha: float,
    watched: int | None,
) -> Compared:
    """Align variants on their rows and judge each against the first. ``watched`` as ``flows.compare`` has it. Raises DoesNotPair."""
    by_row = [Side(name, _by_row(records)) for name, records in sides]
    first, *others = by_row
    for other in others:
        _check_rows(first, other)
    pairs = [_pair(sides[0], side, first, other, judge, passes) for side, other in zip(sides[1:], others, strict=True)]
    made, note = _verdicts(sides, judge, by, alpha, watched)
    return Compared(by_row, list(first.cells), judge, pairs, made, note, passes)


def _verdicts(
    sides: Sequence[tuple[str, Sequence[Record]]], judge: Mapping[str, Any] | None, by: str, alpha: float, watched: int | None
) -> tuple[list[Verdict], str]:
    from llmops_lab.flows import compare as comparing  # it brings numpy, which looking up lab.diff does not need

    if judge is None:
        return [], "no verdict: the grid has no scorer, so only the texts are compared."
    (name, records), *others = sides
    try:
        if len(others) > 1 and watched is None:
            every = [record for _, side in sides for record in side]
            return comparing.compare_all(every, judge=judge, baseline=name, by=by, alpha=alpha, state=""), ""
        how: dict[str, Any] = {"judge": judge, "alpha": alpha, "margin": None, "watched": watched}
        return [comparing.compare(records, each, names=(name, other), **how) for other, each in others], ""
    except BadInput as error:  # nothing is scored on both sides, or no direction is better: the texts can still be read
        check_alpha(alpha)
        return [], f"no verdict: {error}"


def mean(cells: Sequence[Record], scorer: str | None) -> float | None:
    """The mean of the scores that are there; None where there is none."""
    values = [float(cell[scorer]) for cell in cells if cell[scorer] is not None] if scorer else []
    return sum(values) / len(values) if values else None


def _by_row(records: Sequence[Record]) -> dict[str, list[Record]]:
    rows: dict[str, list[Record]] = {}
    for record in records:
        rows.setdefault(record["row_id"], []).append(record)
    return rows


def _check_rows(a: Side, b: Side) -> None:
    only = sorted(a.cells.keys() ^ b.cells.keys())
    if only:
        raise DoesNotPair(
            f"{a.name} and {b.name} were not asked about the same rows: {len(only)} rows are on one side only (for example {only[0]}). "
            "Run both on the same rows."
        )


def _pair(
    a: tuple[str, Sequence[Record]], b: tuple[str, Sequence[Record]], left: Side, right: Side, judge: Mapping[str, Any] | None,
    passes: float | None,
) -> Pair:  # fmt: skip
    from llmops_lab.flows import compare as comparing  # it brings numpy, which looking up lab.diff does not need

    texts = [_texts(left.cells[row], right.cells[row]) for row in left.cells]
    if judge is None:
        nothing = [math.nan] * len(texts)
        return Pair(a[0], b[0], nothing, nothing, nothing, [None] * len(texts), [None] * len(texts), texts, False)
    scores = comparing.pair(a[1], b[1], judge["name"], (a[0], b[0]))
    sign = -1.0 if judge["higher_is_better"] is False else 1.0
    gains = [sign * (y - x) for x, y in zip(scores.a, scores.b, strict=True)]
    lanes = [name for name in _WITHIN_A_ROW if {each[name] for each in a[1]} == {each[name] for each in b[1]}]
    passed = passing(judge, passes, [*a[1], *b[1]])
    found = [_flip(left.cells[row], right.cells[row], judge["name"], passed, lanes) for row in left.cells]
    return Pair(a[0], b[0], scores.a, scores.b, gains, [kind for kind, _ in found], [of for _, of in found], texts, scores.binary)


def passing(judge: Mapping[str, Any], passes: float | None, records: Sequence[Record]) -> Callable[[Any], bool] | None:
    """What says whether a score passes: true/false by itself, a number by the threshold; None where there is none."""
    values = [record[judge["name"]] for record in records if record[judge["name"]] is not None]
    if values and all(isinstance(value, bool) for value in values):
        return bool
    if passes is None:
        return None
    limit = passes
    return (lambda value: value <= limit) if judge["higher_is_better"] is False else (lambda value: value >= limit)


def _flip(
    a: Sequence[Record], b: Sequence[Record], scorer: str, passed: Callable[[Any], bool] | None, lanes: Sequence[str]
) -> tuple[Flip | None, tuple[int, int, int, int] | None]:
    if passed is None:
        return None, None
    found: dict[tuple[Any, ...], tuple[list[bool], list[bool]]] = {}
    for side, cells in enumerate((a, b)):
        for cell in cells:
            if cell[scorer] is not None:
                found.setdefault(tuple(cell[name] for name in lanes), ([], []))[side].append(passed(cell[scorer]))
    kinds = {flip_kind(*lane) for lane in found.values()}
    left, right = ([value for lane in found.values() for value in lane[side]] for side in (0, 1))
    strongest = next((kind for kind in _STRENGTH if kind in kinds), None)  # of several models in a row, the one that says most
    return strongest, (sum(left), len(left), sum(right), len(right))


def _texts(a: Sequence[Record], b: Sequence[Record]) -> str:
    left, right = ([cell["text"] for cell in cells if cell["text"] is not None] for cells in (a, b))
    if not left or not right or (None in [cell["text"] for cell in (*a, *b)]):
        return "missing"
    if left == right or (len(left) != len(right) and set(left) == set(right)):
        return "same"
    if len(left) == len(right) and all(_same_json(*each) for each in zip(left, right, strict=True)):
        return "same JSON"
    return "different"


def _same_json(a: str, b: str) -> bool:
    return a == b or ((left := as_json(a)) is not None and left == as_json(b))


def as_json(text: str) -> str | None:
    """The canonical form of a text that is one JSON object or array, alone or in one fence; None for any other text."""
    inside = text.strip()
    fenced = _FENCED.fullmatch(inside)
    inside = fenced[1].strip() if fenced else inside
    if not inside.startswith(("{", "[")):
        return None
    try:
        return canonical(json.loads(inside, parse_float=_number))
    except (ValueError, RecursionError):
        return None


def _number(text: str) -> float | int | str:
    value = float(text)
    if math.isinf(value):
        return text
    return int(value) if value.is_integer() else value
