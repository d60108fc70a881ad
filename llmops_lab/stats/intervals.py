"""Intervals for one mean: Wilson, t, bootstrap-t and cluster-robust.

Values are scores in the scorer's own unit; intervals are two-sided and hold the true mean with probability
``1 - alpha``. Where no interval can be formed (no values, one numeric value, one cluster) its bounds are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmops_lab.errors import BadInput
from llmops_lab.stats._check import check_alpha

Floats = NDArray[np.float64]
Method = Literal["auto", "wilson", "t", "bootstrap", "cluster"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its interval, in the unit of the values. ``n`` values went in; ``method`` names how the bounds were made."""

    value: float
    low: float
    high: float
    n: int
    method: str


def mean_interval(
    values: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    method: Method = "auto",
    seed: int = 0,
) -> Interval:
    """Return the mean of scores with an interval that fits them.

    ``values``: shape (n,), NaN = unscored and left out. ``clusters``: n labels (the row of each repeat); values that
    share a label are not independent. ``auto`` takes Wilson for 0/1 values and t for others; where a cluster holds
    more than one value, the cluster-robust interval. ``bootstrap`` (for skewed scores such as cost and latency) has
    to be asked for; ``seed`` is used by it alone. Raises BadInput for infinite values, or labels that do not match.
    """
    check_alpha(alpha)
    data, labels = _present(values, clusters)
    if method == "auto":
        repeated = len(set(labels)) < len(labels)
        method = "cluster" if repeated else "wilson" if is_binary(data) else "t"
    if method == "cluster":
        return cluster_interval(data, labels or list(range(len(data))), alpha)
    if method == "bootstrap":
        return bootstrap_interval(data, alpha, seed)
    if method == "t":
        return t_interval(data, alpha)
    if method != "wilson":
        raise BadInput(f"no interval method called {method!r}. Known: auto, bootstrap, cluster, t, wilson.")
    if not is_binary(data):
        raise BadInput("the Wilson interval is for values 0 and 1 only; take method='t' or 'bootstrap'")
    return wilson(int(data.sum()), len(data), alpha)


def is_binary(values: Floats) -> bool:
    """Say whether every value is 0 or 1 (True for no values)."""
    return bool(np.all((values == 0) | (values == 1)))


def wilson(k: float, n: int, alpha: float = 0.05) -> Interval:
    """Return the score interval of a proportion, ``k`` successes (a fraction is allowed) among ``n``.

    Wilson, J. Am. Stat. Assoc. 22 (1927) 209, without continuity correction. Raises BadInput unless 0 <= k <= n.
    """
    check_alpha(alpha)
    if not 0 <= k <= n:
        raise BadInput(f"a proportion needs 0 <= k <= n, not k={k!r} and n={n!r}")
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, "wilson")
    from scipy.special import ndtri

    z2 = float(ndtri(1 - alpha / 2)) ** 2
    share = k / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return Interval(share, low, high, n, "wilson")


def t_interval(values: ArrayLike, alpha: float = 0.05) -> Interval:
    """Return Student's interval for the mean of ``values``, shape (n,), n - 1 degrees of freedom. NaN are left out."""
    check_alpha(alpha)
    data, _ = _present(values, None)
    n = len(data)
    if n < 2:
        return _without_bounds(data, "t")
    half = _t_quantile(alpha, n - 1) * float(data.std(ddof=1)) / math.sqrt(n)
    value = float(data.mean())
    return Interval(value, value - half, value + half, n, "t")


def bootstrap_interval(values: ArrayLike, alpha: float = 0.05, seed: int = 0, resamples: int = 4000) -> Interval:
    """Return the studentised bootstrap (bootstrap-t) interval for the mean of ``values``, shape (n,). NaN are left out.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), 12.5. It follows the skew that a t interval ignores.
    Drawn with its own generator: the same ``seed`` gives the same interval. Resamples without spread are set aside.
    """
    check_alpha(alpha)
    data, _ = _present(values, None)
    n = len(data)
    if n < 2:
        return _without_bounds(data, "bootstrap")
    value, error = float(data.mean()), float(data.std(ddof=1)) / math.sqrt(n)
    pivots = _bootstrap_pivots(data, np.random.default_rng(seed), resamples)
    if error == 0 or len(pivots) == 0:
        return Interval(value, value, value, n, "bootstrap")
    upper, lower = np.quantile(pivots, [1 - alpha / 2, alpha / 2])
    return Interval(value, value - float(upper) * error, value - float(lower) * error, n, "bootstrap")


def _bootstrap_pivots(data: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    n, found = len(data), []
    chunk = max(1, 2_000_000 // n)
    flat = 1e-12 * float(np.abs(data).max())
    for start in range(0, resamples, chunk):
        drawn = data[rng.integers(0, n, size=(min(chunk, resamples - start), n))]
        errors = drawn.std(axis=1, ddof=1) / math.sqrt(n)
        spread = errors > flat
        found.append((drawn.mean(axis=1)[spread] - data.mean()) / errors[spread])
    return np.concatenate(found)


def cluster_standard_error(values: ArrayLike, clusters: Sequence[Hashable]) -> float:
    """Return the standard error of the mean of ``values``, shape (n,), when values with one label move together.

    ``sqrt(C / (C - 1) * sum over clusters of (sum of residuals)^2) / n`` for C clusters: Miller, Adding Error Bars to
    Evals, arXiv 2411.00640, appendix A, with the small-sample factor (equal to CR1 of an ordinary least squares fit of
    a constant). NaN for fewer than two clusters.
    """
    data, labels = _present(values, clusters)
    sums = _cluster_sums(data - data.mean() if len(data) else data, labels)
    count = len(sums)
    if count < 2:
        return math.nan
    return math.sqrt(count / (count - 1) * float(sums @ sums)) / len(data)


def cluster_interval(values: ArrayLike, clusters: Sequence[Hashable], alpha: float = 0.05) -> Interval:
    """Return the cluster-robust interval of the mean of ``values``, shape (n,), with C - 1 degrees of freedom.

    Bounds of 0/1 values stay inside [0, 1]; when all of them are equal there is no spread to build on, and the
    Wilson interval of the C clusters stands in.
    """
    check_alpha(alpha)
    data, labels = _present(values, clusters)
    count, binary = len(set(labels)), is_binary(data)
    if count < 2:
        return _without_bounds(data, "cluster")
    value = float(data.mean())
    if binary and value in (0.0, 1.0):
        stand_in = wilson(value * count, count, alpha)
        return Interval(value, stand_in.low, stand_in.high, len(data), "cluster")
    half = _t_quantile(alpha, count - 1) * cluster_standard_error(data, labels)
    low, high = value - half, value + half
    if binary:
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(value, low, high, len(data), "cluster")


def _cluster_sums(residuals: Floats, labels: Sequence[Hashable]) -> Floats:
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.intp)
    return np.bincount(index, weights=residuals, minlength=len(numbers)).astype(np.float64)


def _present(values: ArrayLike, clusters: Sequence[Hashable] | None) -> tuple[Floats, list[Any]]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1:
        raise BadInput(f"scores come as one flat list, not with shape {data.shape}")
    if clusters is not None and len(clusters) != len(data):
        raise BadInput(f"{len(data)} scores but {len(clusters)} cluster labels; give one label a score")
    if np.isinf(data).any():
        raise BadInput("infinite scores have no mean; leave them unscored (NaN)")
    keep = ~np.isnan(data)
    labels = [] if clusters is None else [label for label, kept in zip(clusters, keep, strict=True) if kept]
    return data[keep], labels


def _without_bounds(data: Floats, method: str) -> Interval:
    return Interval(float(data.mean()) if len(data) else math.nan, math.nan, math.nan, len(data), method)


def _t_quantile(alpha: float, freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - alpha / 2))
