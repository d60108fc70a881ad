"""How far raters agree beyond chance: Cohen, weighted, Fleiss and Krippendorff, with intervals from resampled items.

All are 1 - (observed disagreement / disagreement expected by chance); they differ in what chance is and in how far two values are
apart. 1 is perfect, 0 what chance gives, below 0 worse than chance.

``cohen``         two raters, each with marginals of its own (Educ. Psychol. Meas. 20 (1960) 37)
``weighted``      the same with distances: ``ordinal`` linear in the ranks, |i - j|; ``interval`` quadratic in the values,
                  (x - y)^2 (Cohen, Psychol. Bull. 70 (1968) 213)
``fleiss``        equally many ratings an item, raters interchangeable (Psychol. Bull. 76 (1971) 378)
``krippendorff``  any number of raters, values may be missing, corrected for few items (Computing Krippendorff's
                  Alpha-Reliability, 2011)

Intervals: items are drawn with replacement, BCa (Efron, J. Am. Stat. Assoc. 82 (1987) 171).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.stats._check import check_alpha
from llmops_lab.stats._ratings import Rated, read
from llmops_lab.stats.intervals import wilson

Floats = NDArray[np.float64]
Metric = Literal["cohen", "weighted", "fleiss", "krippendorff"]
Level = Literal["nominal", "ordinal", "interval"]
Of = Callable[[Floats], Floats]
"""From how often each pattern of ratings was drawn, shape (draws, patterns), to the statistic of each draw; NaN where it is undefined."""
_ENTRIES = 4_000_000


@dataclass(frozen=True, slots=True, repr=False)
class Agreement:
    """How far raters agree: ``value`` with an interval that holds the truth with probability 1 - ``alpha``.

    ``n`` items carried it (rated by two or more), by ``raters`` raters. ``value`` is NaN where agreement is undefined, and ``reason``
    says why; ``reason`` also says when the interval is not the usual one.
    """

    value: float
    low: float
    high: float
    n: int
    metric: Metric
    level: Level
    raters: int
    method: str = "BCa bootstrap over items"
    alpha: float = 0.05
    reason: str = ""

    def __repr__(self) -> str:
        name = "Krippendorff's alpha" if self.metric == "krippendorff" else f"{self.metric.capitalize()} kappa"
        on = f"{self.n:,} items, {self.raters} raters, {self.level}"
        if math.isnan(self.value):
            return f"{name} is undefined: {self.reason} ({on})"
        bounds = "no interval" if math.isnan(self.low) else f"[{self.low:.2f}, {self.high:.2f}]"
        return f"{name} {self.value:.2f} {bounds}, {on}{'; ' + self.reason if self.reason else ''}"


def agreement(
    table: Any,
    metric: Metric = "krippendorff",
    level: Level | None = None,
    *,
    order: Sequence[Any] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    resamples: int = 2000,
) -> Agreement:
    """Say how far the raters of a table agree.

    ``table``: a DataFrame, one line an item, one column a rater, NaN or None = not rated. ``level`` is how far apart two values are:
    ``nominal`` (same or not; the default), ``ordinal`` (by rank; the default of ``weighted``), ``interval`` (by their difference).
    ``order`` lists the values from least to most, for levels that are words; without it numbers go by size and only values that
    somebody gave count as ranks. Items that fewer than two raters rated are left out. The same ``seed`` gives the same interval.

    Raises BadInput for a metric that does not fit the table: ``cohen`` and ``weighted`` need two raters, ``fleiss`` equally many
    ratings an item.
    """
    check_alpha(alpha)
    if metric not in get_args(Metric):
        raise UnknownName("agreement metric", str(metric), get_args(Metric))
    chosen = _level(metric, level)
    rated = read(table, chosen, order)
    statistic = _STATISTICS[metric](rated, chosen)
    n, raters = rated.n, len(rated.raters)
    value = float(statistic(rated.times[None, :])[0]) if n else math.nan
    if math.isnan(value):
        return Agreement(math.nan, math.nan, math.nan, n, metric, chosen, raters, alpha=alpha, reason=_why_undefined(rated))
    if value == 1:
        low, reason = _perfect(rated, alpha)
        return Agreement(1.0, low, 1.0, n, metric, chosen, raters, method="Wilson bound on disagreement", alpha=alpha, reason=reason)
    low, high, reason = _interval(statistic, value, rated.times, alpha, seed, resamples)
    return Agreement(value, low, high, n, metric, chosen, raters, alpha=alpha, reason=reason)


def _level(metric: Metric, level: Level | None) -> Level:
    chosen = level or ("ordinal" if metric == "weighted" else "nominal")
    if chosen not in get_args(Level):
        raise UnknownName("level", str(chosen), get_args(Level))
    if metric == "weighted" and chosen == "nominal":
        raise BadInput("weighted kappa weighs how far two values are apart: say level='ordinal' or level='interval', or metric='cohen'.")
    if metric in ("cohen", "fleiss") and chosen != "nominal":
        other = "metric='weighted'" if metric == "cohen" else "metric='krippendorff'"
        raise BadInput(f"{metric} counts values as the same or not: for level={chosen!r} say {other}.")
    return chosen


def _why_undefined(rated: Rated) -> str:
    if not rated.n:
        return "no item was rated by two raters"
    return f"every rating is {rated.values[0]!r}, so that chance would agree as often"


def _perfect(rated: Rated, alpha: float) -> tuple[float, str]:
    # Resampling items that all agree shows no spread. A share of items up to Wilson's bound may disagree all the same.
    totals = rated.times @ rated.counts
    shares = totals / totals.sum()
    low = 1 - wilson(0, rated.n, alpha).high / float(1 - shares @ shares)
    return low, "all items agree, so the lower bound is what so few items can show"


# -- the statistics: each gives a function of the items' weights --------------------------------------------------------------
def _two_raters(rated: Rated, level: Level) -> Of:
    if len(rated.raters) != 2:
        raise BadInput(
            f"cohen and weighted compare two raters, and the table has {len(rated.raters)} ({', '.join(rated.raters)}). Take two columns, "
            "or metric='krippendorff'."
        )
    left, right = rated.codes[:, 0], rated.codes[:, 1]
    if level == "interval":
        x, y = rated.numbers[left], rated.numbers[right]
        features = np.column_stack([(x - y) ** 2, x, y, x * x, y * y])

        def quadratic(weights: Floats) -> Floats:
            apart, mean_x, mean_y, square_x, square_y = (weights @ features / weights.sum(axis=1, keepdims=True)).T
            return _one_less(apart, square_x - 2 * mean_x * mean_y + square_y)

        return quadratic
    size = len(rated.values)
    distance = (left != right) if level == "nominal" else np.abs(left - right)
    first, second = np.eye(size)[left], np.eye(size)[right]

    def by_marginals(weights: Floats) -> Floats:
        total = weights.sum(axis=1, keepdims=True)
        p, q = weights @ first / total, weights @ second / total
        if level == "nominal":
            expected = 1 - np.sum(p * q, axis=1)
        else:  # E|X - Y| from the two distribution functions
            below_p, below_q = np.cumsum(p, axis=1), np.cumsum(q, axis=1)
            expected = np.sum(below_p * (1 - below_q) + below_q * (1 - below_p), axis=1)
        return _one_less(weights @ distance / total[:, 0], expected)

    return by_marginals


def _fleiss(rated: Rated, level: Level) -> Of:
    each = rated.counts.sum(axis=1)
    if len(set(each.tolist())) > 1:
        raise BadInput(
            f"fleiss needs equally many ratings an item, and these have {int(each.min())} to {int(each.max())}. Take "
            "metric='krippendorff', which does not."
        )
    apart = _apart_nominal(rated.counts) / each

    def statistic(weights: Floats) -> Floats:
        shares = weights @ rated.counts
        shares /= shares.sum(axis=1, keepdims=True)
        return _one_less(weights @ apart / weights.sum(axis=1), 1 - np.sum(shares * shares, axis=1))

    return statistic


def _krippendorff(rated: Rated, level: Level) -> Of:
    counts = rated.counts
    each = counts.sum(axis=1)

    def nominal(weights: Floats) -> Floats:
        totals = weights @ counts
        n = totals.sum(axis=1)
        return _one_less((n - 1) * (weights @ _apart_nominal(counts)), n * n - np.sum(totals * totals, axis=1))

    def interval(weights: Floats) -> Floats:
        totals = weights @ counts
        observed = weights @ _apart(counts, each, rated.numbers)
        n, first, square = totals.sum(axis=1), totals @ rated.numbers, totals @ rated.numbers**2
        return _one_less((n - 1) * observed, 2 * (n * square - first * first))

    def ordinal(weights: Floats) -> Floats:
        totals = weights @ counts
        n = totals.sum(axis=1)
        # The ordinal difference of two values is that of their mid-ranks among all values of the draw.
        ranks = np.cumsum(totals, axis=1) - totals / 2 - n[:, None] / 2
        sums = ranks @ counts.T
        spread = weights * each / (each - 1) @ counts
        observed = 2 * (np.sum(spread * ranks * ranks, axis=1) - np.sum(weights / (each - 1) * sums * sums, axis=1))
        first, square = np.sum(totals * ranks, axis=1), np.sum(totals * ranks * ranks, axis=1)
        return _one_less((n - 1) * observed, 2 * (n * square - first * first))

    return {"nominal": nominal, "interval": interval, "ordinal": ordinal}[level]


def _apart_nominal(counts: Floats) -> Floats:
    each = counts.sum(axis=1)
    return np.asarray((each * each - np.sum(counts * counts, axis=1)) / (each - 1), dtype=np.float64)


def _apart(counts: Floats, each: Floats, numbers: Floats) -> Floats:
    return np.asarray(2 * (each * (counts @ numbers**2) - (counts @ numbers) ** 2) / (each - 1), dtype=np.float64)


def _one_less(observed: Floats, expected: Floats) -> Floats:
    tiny = 1e-12 * np.maximum(1.0, np.abs(observed))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 1 - np.where(np.abs(observed) <= 1e-12 * np.maximum(expected, 1e-300), 0.0, observed) / expected
    return np.where(expected <= tiny * 1e-3, math.nan, found)


_STATISTICS: dict[str, Callable[[Rated, Level], Of]] = {
    "cohen": _two_raters,
    "weighted": _two_raters,
    "fleiss": _fleiss,
    "krippendorff": _krippendorff,
}


# -- the interval -------------------------------------------------------------------------------------------------------------
def _interval(statistic: Of, value: float, times: Floats, alpha: float, seed: int, resamples: int) -> tuple[float, float, str]:
    n = int(times.sum())
    if n < 2:
        return math.nan, math.nan, "one item has no interval"
    rng = np.random.default_rng(seed)
    chunk = max(1, _ENTRIES // len(times))
    starts = range(0, resamples, chunk)
    drawn = np.concatenate([statistic(_drawn(rng, min(chunk, resamples - start), times)) for start in starts])
    kept = drawn[~np.isnan(drawn)]
    share = 1 - len(kept) / len(drawn)
    reason = f"in {share:.0%} of the resamples all ratings were the same; the interval is of the rest" if share >= 0.01 else ""
    if len(kept) < resamples / 10:
        return math.nan, math.nan, "too few ratings differ for an interval"
    if np.ptp(kept) <= 1e-12:
        return math.nan, math.nan, "whatever items are drawn it is the same, as where a rater gives one value only: no interval"
    starts = range(0, len(times), chunk)
    left_out = np.concatenate([statistic(_without_one(times, start, chunk)) for start in starts])
    low, high = np.quantile(kept, _bca(kept, value, np.repeat(left_out, times.astype(np.intp)), alpha))
    return float(low), float(high), reason


def _drawn(rng: np.random.Generator, draws: int, times: Floats) -> Floats:
    return rng.multinomial(int(times.sum()), times / times.sum(), size=draws).astype(np.float64)


def _without_one(times: Floats, start: int, chunk: int) -> Floats:
    stop = min(start + chunk, len(times))
    weights = np.tile(times, (stop - start, 1))
    weights[np.arange(stop - start), np.arange(start, stop)] -= 1
    return weights


def _bca(drawn: Floats, value: float, left_out: Floats, alpha: float) -> list[float]:
    from scipy.special import ndtr, ndtri

    below = (np.sum(drawn < value) + np.sum(drawn == value) / 2) / len(drawn)
    bias = float(ndtri(min(max(below, 1 / len(drawn)), 1 - 1 / len(drawn))))
    apart = np.nanmean(left_out) - left_out[~np.isnan(left_out)]
    spread = float(np.sum(apart**2))
    skew = float(np.sum(apart**3)) / (6 * spread**1.5) if spread > 0 else 0.0
    ends = [bias + float(ndtri(alpha / 2)), bias + float(ndtri(1 - alpha / 2))]
    return [float(ndtr(bias + end / (1 - skew * end))) for end in ends]
