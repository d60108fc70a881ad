"""A judge held against people: how far it agrees with them, how often it is right, and what it says once its errors are taken out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmops_lab.errors import BadInput
from llmops_lab.stats.agreement import Agreement, agreement
from llmops_lab.stats.corrected import Corrected, Rates, moved_mean, powered_mean, rogan_gladen
from llmops_lab.stats.intervals import Interval, is_binary, t_interval, wilson

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a judge did on labelled items. ``sensitivity``, ``specificity`` and ``rates`` are None for a judge that gives numbers.

    ``agreement``: Cohen's kappa for true/false, else kappa weighted by squared differences. ``error``: the mean of score - label.
    ``corrected``: the mean label of all scored items. ``unscored`` labelled items had no score and are left out.
    """

    agreement: Agreement
    sensitivity: Interval | None
    specificity: Interval | None
    rates: Rates | None
    error: Interval
    corrected: Corrected
    unscored: int


def calibrate(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    elsewhere: ArrayLike | None = None,
    clusters: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Calibration:
    """Hold a judge's scores against people's labels, shape (items,) each; NaN = no label, or no score.

    Items without a label count for the corrected mean: the labelled ones are taken as a random sample of all. With ``elsewhere``, scores
    of other items, it is about those instead, and the judge's errors are taken as those of the labelled items. ``clusters``: one a
    item; items that share one are not independent. Raises BadInput where no item has both a label and a score.
    """
    y, f = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or y.shape != f.shape:
        raise BadInput(f"labels and scores come as two flat lists of one length, not with shapes {y.shape} and {f.shape}")
    scored, told = ~np.isnan(f), ~np.isnan(y)
    both = scored & told
    if not both.any():
        raise BadInput(f"no item has both a label and a score: {int(told.sum())} are labelled, {int(scored.sum())} scored.")
    other = None if elsewhere is None else np.asarray(elsewhere, dtype=np.float64)
    other = None if other is None else other[~np.isnan(other)]
    binary = is_binary(y[both]) and is_binary(f[scored]) and (other is None or is_binary(other))
    rates = _rates(y[both], f[both]) if binary else None
    kept = None if clusters is None else [each for each, there in zip(clusters, scored, strict=True) if there]
    if other is None:
        corrected = powered_mean(y[scored], f[scored], clusters=kept, alpha=alpha)
    elif rates is not None:
        corrected = rogan_gladen(rates, other, alpha=alpha)
    else:
        corrected = moved_mean(f[both] - y[both], other, alpha=alpha)
    return Calibration(
        agreement=_agreement(y[both], f[both], binary, alpha, seed),
        sensitivity=wilson(rates.hits, rates.positives, alpha) if rates else None,
        specificity=wilson(rates.passes, rates.negatives, alpha) if rates else None,
        rates=rates,
        error=t_interval(f[both] - y[both], alpha),
        corrected=corrected,
        unscored=int((told & ~scored).sum()),
    )


def _rates(y: Floats, f: Floats) -> Rates:
    return Rates(int(np.sum(y * f)), int(np.sum(y)), int(np.sum((1 - y) * (1 - f))), int(np.sum(1 - y)))


def _agreement(y: Floats, f: Floats, binary: bool, alpha: float, seed: int) -> Agreement:
    import pandas

    table = pandas.DataFrame({"people": y, "judge": f})
    if binary:
        return agreement(table, "cohen", alpha=alpha, seed=seed)
    return agreement(table, "weighted", "interval", alpha=alpha, seed=seed)
