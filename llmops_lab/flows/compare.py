"""Two sets of scores of the same rows end in a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from llmops_lab.errors import DoesNotPair
from llmops_lab.grids.decide import shuffled_rows
from llmops_lab.records import Verdict
from llmops_lab.stats import verdict as verdicts
from llmops_lab.stats.anytime import PairedSequence

Records = Iterable[Mapping[str, Any]]


def row_means(records: Records, scorer: str) -> dict[str, tuple[float, bool]]:
    """Row id -> (mean over its cells that have a score, whether all scores are true/false and single); NaN when none has one."""
    values: dict[str, list[Any]] = {}
    for record in records:
        scored = values.setdefault(record["row_id"], [])
        if record[scorer] is not None:
            scored.append(record[scorer])
    return {row: (_mean(found), len(found) <= 1 and all(isinstance(v, bool) for v in found)) for row, found in values.items()}


def _mean(values: list[Any]) -> float:
    return sum(map(float, values)) / len(values) if values else math.nan


def compare(
    a: Records, b: Records, *, scorer: str, names: tuple[str, str], alpha: float, margin: float | None, higher_is_better: bool,
    watched: int | None = None,
) -> Verdict:  # fmt: skip
    """Judge b against a. ``watched``: how many comparisons a grid shared alpha among that stopped by itself. Raises DoesNotPair."""
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
        sequence, missing = PairedSequence(alpha=alpha / max(1, watched)), 0
        for number in shuffled_rows(len(rows), 0):
            difference = right[rows[number]][0] - left[rows[number]][0]
            missing += math.isnan(difference)
            if not math.isnan(difference):
                sequence.add(difference)
        return verdicts.from_sequence(sequence, n_missing=missing, **options)
    binary = all(flag for side in (left, right) for _, flag in side.values())
    return verdicts.compare([left[r][0] for r in rows], [right[r][0] for r in rows], binary=binary, alpha=alpha, **options)
