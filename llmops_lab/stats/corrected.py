"""What people would say on average, from a judge's many scores and people's few labels, with an interval that knows of both.

``powered_mean`` and ``powered_difference``  the labelled items are a random sample of the scored ones. Prediction-powered inference with
the weight that makes the interval shortest (PPI++: Angelopoulos, Duchi and Zrnic, arXiv:2311.01453): the mean of the labels, moved by
how far the judge's mean over all items lies from its mean over the labelled ones. A useless judge gets weight 0.

``rogan_gladen`` and ``rogan_gladen_difference``  the labels come from elsewhere, and all that is taken over is how often the judge is
right about true and about false items (Rogan and Gladen, Am. J. Epidemiol. 107 (1978) 71). The interval carries the uncertainty of both
rates (Lang and Reiczigel, Prev. Vet. Med. 113 (2014) 13). ``moved_mean`` is the same for numbers: it takes over by how much the judge
is off on average.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmops_lab.errors import BadInput
from llmops_lab.stats import discordant
from llmops_lab.stats._check import check_alpha
from llmops_lab.stats.intervals import is_binary, wilson

Floats = NDArray[np.float64]
POWERED, ROGAN_GLADEN, MOVED = "prediction-powered", "Rogan-Gladen", "mean error"
_FLAT = 1e-6
"""In place of a slope of 0: so few labels that the bounds are the widest anyway."""
_SAME = "all labels of a side are the same, so the interval knows nothing of their scatter"


@dataclass(frozen=True, slots=True, repr=False)
class Corrected:
    """A mean, or a difference of means, as people would give it. ``raw`` is what the judge alone says.

    ``n`` items are labelled, ``scored`` have a score of the judge. The variance is about ``per_label / n + rest``, and ``plain / n``
    without the judge. ``reason`` says why there is no value, or what the interval does not know.
    """

    value: float
    low: float
    high: float
    raw: float
    n: int
    scored: int
    method: str
    alpha: float = 0.05
    per_label: float = math.nan
    rest: float = 0.0
    plain: float = math.nan
    reason: str = ""

    def __repr__(self) -> str:
        alone = f"the judge alone says {self.raw:.3f}"
        if math.isnan(self.low):
            return f"unknown: {self.reason} ({alone})"
        shown = f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]; {alone}; {self.method}, {self.n:,} labelled, {self.scored:,} scored"
        return f"{shown}; {self.reason}" if self.reason else shown

    def needed(self, within: float) -> int | None:
        """How many labels more would bring the bounds to about ``within`` of the value: 0 when they are there, None when no number does."""
        if math.isnan(self.low):
            return None
        half = (self.high - self.low) / 2
        if half <= within:
            return 0
        allowed = (within / _z(self.alpha)) ** 2
        ways = [self.per_label / (allowed - self.rest)] if allowed > self.rest else []
        if not math.isnan(self.plain):
            ways.append(self.plain / allowed)
        return max(1, math.ceil(min(ways) - self.n)) if ways else None


@dataclass(frozen=True, slots=True)
class Rates:
    """How a true/false judge did on labelled items: ``hits`` of ``positives`` items that people call true, ``passes`` of ``negatives``."""

    hits: int
    positives: int
    passes: int
    negatives: int

    @property
    def n(self) -> int:
        """The labelled items."""
        return self.positives + self.negatives

    @property
    def youden(self) -> float:
        """Sensitivity + specificity - 1: 0 for a judge that guesses. NaN where people called no item true, or none false."""
        if not self.positives or not self.negatives:
            return math.nan
        return self.hits / self.positives + self.passes / self.negatives - 1

    def smoothed(self) -> tuple[float, float, int, int]:
        """Sensitivity and specificity with one hit and one miss more on each side, and the numbers of items that they then rest on."""
        return (self.hits + 1) / (self.positives + 2), (self.passes + 1) / (self.negatives + 2), self.positives + 2, self.negatives + 2


# -- labels of a random sample of the scored items ----------------------------------------------------------------------------
def powered_mean(labels: ArrayLike, scores: ArrayLike, *, clusters: Sequence[Hashable] | None = None, alpha: float = 0.05) -> Corrected:
    """Estimate the mean label of all items. ``labels``: shape (items,), NaN = not labelled; ``scores``: the judge's, none missing.

    ``clusters``: one a item; items that share one are not independent. True/false labels and scores count one disagreement more
    than was seen, so that perfect agreement on few items is not taken for certainty; of labels that are all the same the bounds are
    Wilson's. Raises BadInput.
    """
    check_alpha(alpha)
    y, f = _given(labels, scores)
    told = ~np.isnan(y)
    raw = float(f.mean()) if len(f) else math.nan
    if told.sum() < 2:
        return _without(raw, int(told.sum()), len(f), POWERED, alpha, "an interval needs two labelled items or more")
    flat, moved = _apart(y, told), (f - raw) / len(f) - _apart(f, told)
    weight = _weight(flat, moved)
    value = float(y[told].mean()) + weight * (raw - float(f[told].mean()))
    n, reason = int(told.sum()), ""
    variance, rest = (_variance(parts, clusters, n) for parts in (flat + weight * moved, weight * (f - raw) / len(f)))
    binary = is_binary(y[told]) and is_binary(f)
    if binary and n < len(f):
        variance = variance * n / (n + 1) + weight**2 / (n * (n + 1))
    elif n < len(f):
        reason = _steady(f[told] - y[told])
    low, high = _around(value, variance, n - 1, alpha)
    per_label, plain = max(0.0, variance - rest) * n, _variance(flat, clusters, n) * n
    if binary and (_alike(y) or (n == len(f) and clusters is None)):
        count = int(_worth(y[told], None if clusters is None else [each for each, there in zip(clusters, told, strict=True) if there]))
        share = wilson(float(y[told].mean()) * count, count, alpha)  # labels that are all the same show no scatter
        low, high = share.low, share.high
        per_label = plain = _as_variance(low, high, alpha) * n
    elif binary:
        low, high = max(low, 0.0), min(high, 1.0)
    elif _alike(y):
        reason = _SAME
    return Corrected(value, low, high, raw, n, len(f), POWERED, alpha, per_label, rest, plain, reason)


def powered_difference(
    labels_a: ArrayLike,
    labels_b: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
) -> Corrected:
    """Estimate mean(b) - mean(a) of the labels over the same rows, shape (rows,) each; NaN = not labelled, no score missing.

    Labels may stand on one side of a row or on both; the judge may err differently on the two sides. ``clusters``: one a row, as in
    ``powered_mean``. Raises BadInput.
    """
    check_alpha(alpha)
    (ya, fa), (yb, fb) = _given(labels_a, scores_a), _given(labels_b, scores_b)
    if len(ya) != len(yb):
        raise BadInput(f"the two sides have {len(ya)} and {len(yb)} rows; a paired difference needs the same rows in the same order")
    in_a, in_b = ~np.isnan(ya), ~np.isnan(yb)
    least, raw = int(min(in_a.sum(), in_b.sum())), float((fb - fa).mean()) if len(fa) else math.nan
    if least < 2:
        return _without(raw, least, len(fa), POWERED, alpha, "an interval needs two labelled rows or more on each side")
    moves = (fb - fa - raw) / len(fa) - _apart(fb, in_b) + _apart(fa, in_a)
    flat = _apart(yb, in_b) - _apart(ya, in_a)
    weight = _weight(flat, moves)
    value = float(yb[in_b].mean() - ya[in_a].mean()) + weight * (raw - float(fb[in_b].mean() - fa[in_a].mean()))
    variance, rest = (_variance(parts, clusters, least) for parts in (flat + weight * moves, weight * (fb - fa - raw) / len(fa)))
    low, high = _around(value, variance, least - 1, alpha)
    plain, per_label = _variance(flat, clusters, least) * least, max(0.0, variance - rest) * least
    reason = ""
    if _alike(ya) or _alike(yb):
        if all(map(is_binary, (ya[in_a], yb[in_b]))):
            below, above = _of_two(ya[in_a], yb[in_b], alpha)
            low, high = max(-1.0, min(low, value - below)), min(1.0, max(high, value + above))
            plain = per_label = _as_variance(low, high, alpha) * least
        else:
            reason = _SAME
    return Corrected(value, low, high, raw, least, len(fa), POWERED, alpha, per_label, rest, plain, reason)


def _given(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    y, f = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or y.shape != f.shape:
        raise BadInput(f"labels and scores come as two flat lists of one length, not with shapes {y.shape} and {f.shape}")
    if not np.isfinite(f).all() or np.isinf(y).any():
        raise BadInput("labels and scores must be finite, and no score may be missing; leave such items out")
    return y, f


def _apart(values: Floats, told: NDArray[np.bool_]) -> Floats:
    # What each item adds to the error of the mean over the labelled items.
    chosen = values[told]
    parts = np.zeros(len(values))
    parts[told] = (chosen - chosen.mean()) / len(chosen)
    return parts


def _weight(flat: Floats, moved: Floats) -> float:
    size = float(moved @ moved)
    return 0.0 if size <= 1e-18 else min(1.0, max(0.0, -float(flat @ moved) / size))


def _variance(parts: Floats, clusters: Sequence[Hashable] | None, n: int) -> float:
    if clusters is None:
        return float(parts @ parts) * n / (n - 1)
    if len(clusters) != len(parts):
        raise BadInput(f"{len(parts)} items but {len(clusters)} cluster labels; give one an item")
    numbers: dict[Hashable, int] = {}
    sums = np.bincount([numbers.setdefault(each, len(numbers)) for each in clusters], weights=parts)
    return float(sums @ sums) * n / (n - 1)


def _alike(labels: Floats) -> bool:
    told = labels[~np.isnan(labels)]
    return bool(np.ptp(told) == 0)


def _of_two(a: Floats, b: Floats, alpha: float) -> tuple[float, float]:
    # How far the bounds of b's share minus a's lie below and above it, from Wilson's of each (Newcombe, Stat. Med. 17 (1998) 873).
    one, other = wilson(float(a.sum()), len(a), alpha), wilson(float(b.sum()), len(b), alpha)
    below = math.hypot(other.value - other.low, one.high - one.value)
    return below, math.hypot(other.high - other.value, one.value - one.low)


def _as_variance(low: float, high: float, alpha: float) -> float:
    return ((high - low) / 2 / _z(alpha)) ** 2


def _spread(values: Floats) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


# -- labels from elsewhere ----------------------------------------------------------------------------------------------------
def rogan_gladen(rates: Rates, scores: ArrayLike, *, clusters: Sequence[Hashable] | None = None, alpha: float = 0.05) -> Corrected:
    """Estimate the share of true items among those that a judge scored true or false; ``scores``: shape (items,), 0 or 1.

    Assumes that the judge is right about them as often as about the labelled ones. ``clusters``: one a item; items that share one are
    not independent. Raises BadInput.
    """
    check_alpha(alpha)
    _, f = _given(scores, scores)
    if not is_binary(f):
        raise BadInput("the correction by sensitivity and specificity is for scores 0 and 1 only")
    raw = float(f.mean()) if len(f) else math.nan
    doubt = _useless(rates, len(f), alpha)
    if not rates.youden > 0 or not len(f):
        return _without(raw, rates.n, len(f), ROGAN_GLADEN, alpha, doubt)
    value = min(1.0, max(0.0, (raw + rates.passes / rates.negatives - 1) / rates.youden))
    z2, count = _z(alpha) ** 2, _worth(f, clusters)
    sensitivity, specificity, positives, negatives = rates.smoothed()
    share, slope = (raw * count + z2 / 2) / (count + z2), max(sensitivity + specificity - 1, _FLAT)
    centre = (share + specificity - 1) / slope
    of_true, of_false = sensitivity * (1 - sensitivity) / positives, specificity * (1 - specificity) / negatives
    labelled = (centre**2 * of_true + (1 - centre) ** 2 * of_false) / slope**2
    rest = share * (1 - share) / (count + z2) / slope**2
    if doubt:
        return Corrected(value, 0.0, 1.0, raw, rates.n, len(f), ROGAN_GLADEN, alpha, labelled * rates.n, rest, reason=doubt)
    centre += 2 * z2 * (centre * of_true - (1 - centre) * of_false)
    half = math.sqrt(z2 * (labelled + rest))
    low, high = min(max(0.0, centre - half), value), max(min(1.0, centre + half), value)
    return Corrected(value, low, high, raw, rates.n, len(f), ROGAN_GLADEN, alpha, labelled * rates.n, rest)


def moved_mean(errors: ArrayLike, scores: ArrayLike, *, clusters: Sequence[Hashable] | None = None, alpha: float = 0.05) -> Corrected:
    """Estimate the mean label of items that a judge scored with numbers; ``errors``: score - label of each labelled item.

    Assumes that the judge is off by as much about them as about the labelled ones. ``clusters``: one a item, as in ``rogan_gladen``.
    Raises BadInput.
    """
    check_alpha(alpha)
    _, f = _given(scores, scores)
    e, _ = _given(errors, errors)
    raw = float(f.mean()) if len(f) else math.nan
    if len(e) < 2 or len(f) < 2:
        return _without(raw, len(e), len(f), MOVED, alpha, "an interval needs two labelled items or more, and two scores")
    value, rest = raw - float(e.mean()), _variance((f - raw) / len(f), clusters, len(f))
    low, high = _around(value, _spread(e) / len(e) + rest, len(e) - 1, alpha)
    return Corrected(value, low, high, raw, len(e), len(f), MOVED, alpha, _spread(e), rest, reason=_steady(e))


def rogan_gladen_difference(
    rates: Rates, scores_a: ArrayLike, scores_b: ArrayLike, *, clusters: Sequence[Hashable] | None = None, alpha: float = 0.05
) -> Corrected:
    """Estimate mean(b) - mean(a) over the same rows, from scores 0 and 1 of shape (rows,) each. Raises BadInput.

    Assumes that the judge is right as often about both sides as about the labelled items. ``clusters``: one a row, as in ``rogan_gladen``.
    """
    check_alpha(alpha)
    _, f = _given(scores_a, scores_a)
    _, g = _given(scores_b, scores_b)
    if len(f) != len(g):
        raise BadInput(f"the two sides have {len(f)} and {len(g)} rows; a paired difference needs the same rows in the same order")
    if not is_binary(f) or not is_binary(g):
        raise BadInput("the correction by sensitivity and specificity is for scores 0 and 1 only")
    raw = float((g - f).mean()) if len(f) else math.nan
    doubt = _useless(rates, len(f), alpha)
    if not rates.youden > 0 or len(f) < 2:
        return _without(raw, rates.n, len(f), ROGAN_GLADEN, alpha, doubt or "an interval needs two rows or more")
    value = min(1.0, max(-1.0, raw / rates.youden))
    sensitivity, specificity, positives, negatives = rates.smoothed()
    slope = max(sensitivity + specificity - 1, _FLAT)
    labelled = value**2 * (sensitivity * (1 - sensitivity) / positives + specificity * (1 - specificity) / negatives) / slope**2
    rest = _variance((g - f - raw) / len(f), clusters, len(f)) / slope**2
    low, high = (-1.0, 1.0) if doubt else _around(value, labelled + rest, len(f) - 1, alpha)
    if not rest:  # all rows differ alike, which shows no scatter
        count = len(f) if clusters is None else len(set(clusters))
        bounds = discordant.interval(count if raw > 0 else 0, count if raw < 0 else 0, count, alpha)
        low, high = min(low, bounds[0] / slope), max(high, bounds[1] / slope)
    return Corrected(
        value, max(-1.0, low), min(1.0, high), raw, rates.n, len(f), ROGAN_GLADEN, alpha, labelled * rates.n, rest, reason=doubt
    )


def _worth(f: Floats, clusters: Sequence[Hashable] | None) -> float:
    """How many independent items these 0/1 scores are worth."""
    if clusters is None:
        return len(f)
    variance, share = _variance((f - f.mean()) / len(f), clusters, len(f)), float(f.mean())
    return min(len(f), share * (1 - share) / variance) if variance else len(set(clusters))


def _useless(rates: Rates, scored: int, alpha: float) -> str:
    if not scored:
        return "there is no score to correct"
    if not rates.positives or not rates.negatives:
        return f"people called {'no' if not rates.positives else 'every'} labelled item true, so one of the judge's error rates is unknown"
    if rates.youden <= 0:
        return "the judge is no better than a guess on the labelled items"
    sensitivity, specificity, positives, negatives = rates.smoothed()
    error = math.sqrt(sensitivity * (1 - sensitivity) / positives + specificity * (1 - specificity) / negatives)
    if sensitivity + specificity - 1 < _z(alpha) * error:
        return "so few labels do not show that the judge is better than a guess"
    return ""


def _steady(errors: Floats) -> str:
    if np.ptp(errors) > 1e-9 * max(1.0, float(np.abs(errors).max())):
        return ""
    return "the judge's error was the same on all labelled items, so the interval knows only the scatter of the scores"


def _without(raw: float, n: int, scored: int, method: str, alpha: float, reason: str) -> Corrected:
    return Corrected(math.nan, math.nan, math.nan, raw, n, scored, method, alpha, reason=reason)


def _around(value: float, variance: float, freedom: int, alpha: float) -> tuple[float, float]:
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, 1 - alpha / 2)) * math.sqrt(variance)
    return value - half, value + half


def _z(alpha: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - alpha / 2))
