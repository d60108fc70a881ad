"""``lab.agreement``: how far raters agree, from any table of ratings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def agreement(
    table: Any,
    metric: str = "krippendorff",
    level: str | None = None,
    *,
    order: Sequence[Any] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Any:
    """Say how far the raters of a table agree beyond chance: ``value``, ``low``, ``high``, ``n``.

    ``table``: a DataFrame, one line an item, one column a rater, NaN or None = not rated. ``metric``: "cohen" or "weighted" (two raters),
    "fleiss" (equally many ratings an item), "krippendorff" (any number, with gaps). ``level`` is how far apart two values are: "nominal"
    (same or not; by itself), "ordinal" (by rank; by itself for "weighted", whose weights are then linear), "interval" (by their squared
    difference). ``order`` lists the values from least to most, for levels that are words; without it numbers go by size.

    The interval is BCa over items; the same ``seed`` gives the same one. Where agreement is undefined, all of them are NaN and ``reason``
    says why. Raises BadInput for a metric that does not fit the table, UnknownName.
    """
    from llmops_lab.stats import agreement as stats

    return stats.agreement(table, metric, level, order=order, alpha=alpha, seed=seed)  # type: ignore[arg-type]
