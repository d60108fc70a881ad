"""Two sets of scores of the same rows end in a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from llmops_lab.errors import BadInput, DoesNotPair, UnknownName
from llmops_lab.grids.decide import shuffled_rows
from llmops_lab.records import Verdict
from llmops_lab.stats import verdict as verdicts
from llmops_lab.stats.anytime import PairedSequence
from llmops_lab.stats.verdict import Pair

Records = Iterable[Mapping[str, Any]]


def row_means(records: Records, scorer: str) -> dict[str, tuple[float, bool]]:
    """Row id -> (mean over its cells that have a score, whether it is one true/false or several that agree); NaN when none has one."""
    values: dict[str, list[Any]] = {}
    for record in records:
        scored = values.setdefault(record["row_id"], [])
        if record[scorer] is not None:
            scored.append(record[scorer])
    return {row: (_mean(found), len(set(found)) <= 1 and all(isinstance(v, bool) for v in found)) for row, found in values.items()}


def _mean(values: list[Any]) -> float:
    return sum(map(float, values)) / len(values) if values else math.nan


def side(records: list[dict[str, Any]], by: str, name: str | None) -> list[dict[str, Any]]:
    """The records of one prompt or one model. Raises BadInput for another ``by``, UnknownName with the names that are there."""
    if by not in ("prompt", "model"):
        raise BadInput(f"by is 'prompt' or 'model', not {by!r}.")
    known = list(dict.fromkeys(record[by] for record in records))
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
    scorer, higher_is_better = judge["name"], direction(judge)
    left, right = row_means(a, scorer), row_means(b, scorer)
    if left.keys() != right.keys():
        only = sorted(left.keys() ^ right.keys())
        raise DoesNotPair(
            f"{names[0]} and {names[1]} were not asked about the same rows: {len(only)} rows are on one side only "
            f"(for example {only[0]}). Run both on the same rows."
        )
    rows = list(left)
    options: dict[str, Any] = {"margin": margin, "higher_is_better": higher_is_better, "scorer": scorer}
    options |= {"a_name": names[0], "b_name": names[1]}
    if watched is not None:
        if judge["bounds"] is None:
            raise BadInput(
                f"a grid that stopped when it was decided gives no sound verdict on {scorer}, which has no bounds. Run it without stop."
            )
        width = judge["bounds"][1] - judge["bounds"][0]
        sequence, missing = PairedSequence(alpha / max(1, watched), -width, width), 0
        for number in shuffled_rows(len(rows), 0):
            difference = right[rows[number]][0] - left[rows[number]][0]
            missing += math.isnan(difference)
            if not math.isnan(difference):
                sequence.add(difference)
        return verdicts.from_sequence(sequence, n_missing=missing, **options)
    binary = all(flag for side in (left, right) for _, flag in side.values())
    return verdicts.compare([left[r][0] for r in rows], [right[r][0] for r in rows], binary=binary, alpha=alpha, **options)


def compare_all(
    records: list[dict[str, Any]], *, judge: Mapping[str, Any], baseline: str, by: str, alpha: float, state: str
) -> list[Verdict]:
    """Judge every other prompt (or model) against ``baseline``, so that the chance of any false verdict is at most alpha."""
    base = side(records, by, baseline)
    others = [name for name in dict.fromkeys(record[by] for record in records) if name != baseline]
    if state == "decided":
        options: dict[str, Any] = {"judge": judge, "alpha": alpha, "margin": None, "watched": len(others)}
        return [compare(base, side(records, by, name), names=(baseline, name), **options) for name in others]
    scorer = judge["name"]
    left = row_means(base, scorer)
    rights = {name: row_means(side(records, by, name), scorer) for name in others}
    binary = all(flag for means in (left, *rights.values()) for _, flag in means.values())
    pairs = [Pair([left[row][0] for row in left], [means[row][0] for row in left], baseline, name) for name, means in rights.items()]
    return verdicts.compare_many(pairs, binary=binary, alpha=alpha, higher_is_better=direction(judge), scorer=scorer)
