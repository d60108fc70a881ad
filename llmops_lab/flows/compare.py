"""Two sets of scores of the same rows end in a verdict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput, DoesNotPair, UnknownName
from llmops_lab.grids.decide import shuffled_rows
from llmops_lab.records import Verdict
from llmops_lab.stats import verdict as verdicts
from llmops_lab.stats.anytime import PairedSequence
from llmops_lab.stats.verdict import Pair

Records = Sequence[Mapping[str, Any]]
_WITHIN_A_ROW = ("prompt", "model", "replicate")


@dataclass(frozen=True, slots=True)
class Paired:
    """The means of each row on both sides, over the cells that have a score on both; NaN where a row has no such cell.

    ``partial`` counts rows of which only a part could be paired; ``unasked`` rows that nobody was asked about.
    """

    a: list[float]
    b: list[float]
    binary: bool
    partial: int
    unasked: int


def pair(a: Records, b: Records, scorer: str, names: tuple[str, str]) -> Paired:
    """Align two sides on row, and within a row on replicate, prompt and model as far as both sides have the same. Raises DoesNotPair."""
    same = [name for name in _WITHIN_A_ROW if {each[name] for each in a} == {each[name] for each in b}]
    left, right = _by_row(a, scorer, same), _by_row(b, scorer, same)
    if left.keys() != right.keys():
        only = sorted(left.keys() ^ right.keys())
        raise DoesNotPair(
            f"{names[0]} and {names[1]} were not asked about the same rows: {len(only)} rows are on one side only "
            f"(for example {only[0]}). Run both on the same rows."
        )
    found = [_means(left[row], right[row]) for row in left]
    asked = {each["row_id"] for side_ in (a, b) for each in side_ if each["status"] in ("ok", "failed")}
    return Paired(
        [mean for mean, _, _, _ in found],
        [mean for _, mean, _, _ in found],
        all(binary for _, _, binary, _ in found),
        sum(partial for _, _, _, partial in found),
        len(left) - len(asked),
    )


def _by_row(records: Records, scorer: str, same: Sequence[str]) -> dict[str, dict[tuple[Any, ...], list[Any]]]:
    rows: dict[str, dict[tuple[Any, ...], list[Any]]] = {}
    for record in records:
        scored = rows.setdefault(record["row_id"], {}).setdefault(tuple(record[name] for name in same), [])
        if record[scorer] is not None:
            scored.append(record[scorer])
    return rows


def _means(a: Mapping[tuple[Any, ...], list[Any]], b: Mapping[tuple[Any, ...], list[Any]]) -> tuple[float, float, bool, bool]:
    both = [cell for cell in a if a[cell] and b.get(cell)]
    if not both:
        return math.nan, math.nan, True, False
    sides = [[sum(map(float, values[cell])) / len(values[cell]) for cell in both] for values in (a, b)]
    # true/false, and several of them only where they agree: then a row counts as one true or false
    binary = all(isinstance(value, bool) and value == values[both[0]][0] for values in (a, b) for cell in both for value in values[cell])
    partial = len(both) < len(a.keys() | b.keys())
    return sum(sides[0]) / len(both), sum(sides[1]) / len(both), binary, partial


def check_answers(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raise DoesNotPair for two grids' ``dataset`` whose rows have the same ids but were compared with other expected values."""
    if a.get("answers") != b.get("answers") and None not in (a.get("answers"), b.get("answers")) and a.get("ids") == b.get("ids"):
        raise DoesNotPair(
            f"the two grids have the same row ids, but other expected values in them (columns {a['expected']!r} and {b['expected']!r}), "
            "so their scores do not mean the same. Run both on the same rows."
        )


def side(records: Records, by: str, name: str | None) -> list[Mapping[str, Any]]:
    """The records of one prompt or one model. Raises BadInput for another ``by``, UnknownName with the names that are there."""
    if by not in ("prompt", "model"):
        raise BadInput(f"by is 'prompt' or 'model', not {by!r}.")
    known = list(dict.fromkeys(record[by] for record in records))
    if name is None:
        raise BadInput(f"a comparison has two sides: say a=... and b=..., each the name of a {by}. Known: {', '.join(known)}.")
    if name not in known:
        raise UnknownName(by, str(name), known)
    return [record for record in records if record[by] == name]


def direction(judge: Mapping[str, Any]) -> bool:
    """Whether more is better, for one entry of a grid's ``judges``. Raises BadInput for a scorer that has no good direction."""
    if judge["higher_is_better"] is None:
        raise BadInput(
            f"{judge['name']} has no better direction, so a comparison of it has no verdict. Say what is better: "
            f"lab.scorer({judge['plugin'] or judge['name']!r}, higher_is_better=False)."
        )
    return bool(judge["higher_is_better"])


def compare(
    a: Records, b: Records, *, judge: Mapping[str, Any], names: tuple[str, str], alpha: float, margin: float | None,
    watched: int | None = None,
) -> Verdict:  # fmt: skip
    """Judge b against a by one entry of a grid's ``judges``.

    ``watched``: how many comparisons a grid shared alpha among that stopped by itself. Raises DoesNotPair and BadInput.
    """
    options: dict[str, Any] = {"margin": margin, "higher_is_better": direction(judge), "scorer": judge["name"]}
    options |= {"a_name": names[0], "b_name": names[1]}
    paired = pair(a, b, judge["name"], names)
    if watched is None:
        found = verdicts.compare(paired.a, paired.b, binary=paired.binary, alpha=alpha, **options)
    else:
        found = _watched(paired, judge, alpha / max(1, watched), options)
    return dataclasses.replace(found, n_partial=paired.partial)


def _watched(paired: Paired, judge: Mapping[str, Any], alpha: float, options: Mapping[str, Any]) -> Verdict:
    if judge["bounds"] is None:
        raise BadInput(
            f"a grid that stopped when it was decided gives no sound verdict on {judge['name']}, which has no bounds. Run it without stop."
        )
    width = judge["bounds"][1] - judge["bounds"][0]
    sequence = PairedSequence(alpha, -width, width)
    differences = [paired.b[row] - paired.a[row] for row in shuffled_rows(len(paired.a))]
    for difference in differences:
        if not math.isnan(difference):
            sequence.add(difference)
    return verdicts.from_sequence(sequence, n_missing=len(differences) - sequence.n - paired.unasked, **options)


def compare_all(records: Records, *, judge: Mapping[str, Any], baseline: str, by: str, alpha: float, state: str) -> list[Verdict]:
    """Judge every other prompt (or model) against ``baseline``, so that the chance of any false verdict is at most alpha."""
    base = side(records, by, baseline)
    others = [str(name) for name in dict.fromkeys(record[by] for record in records) if name != baseline]
    if not others:
        raise BadInput(f"there is nothing to compare {baseline} with: the grid has no other {by}.")
    if state == "decided":
        options: dict[str, Any] = {"judge": judge, "alpha": alpha, "margin": None, "watched": len(others)}
        return [compare(base, side(records, by, name), names=(baseline, name), **options) for name in others]
    found = {name: pair(base, side(records, by, name), judge["name"], (baseline, name)) for name in others}
    pairs = [Pair(each.a, each.b, baseline, name) for name, each in found.items()]
    binary = all(each.binary for each in found.values())
    made = verdicts.compare_many(pairs, binary=binary, alpha=alpha, higher_is_better=direction(judge), scorer=judge["name"])
    return [dataclasses.replace(verdict, n_partial=found[name].partial) for name, verdict in zip(others, made, strict=True)]
