"""Binomial chances and a bisection, from ``scipy.special`` alone: the larger scipy modules take a second to load."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def binomial_pmf(counts: Floats, n: Floats | int, share: float) -> Floats:
    """Return P(X = count) for X of ``n`` trials with chance ``share``; ``counts`` whole numbers from 0 to n."""
    from scipy.special import gammaln, xlog1py, xlogy

    rest = n - counts
    ways = gammaln(n + 1.0) - gammaln(counts + 1) - gammaln(rest + 1.0)
    return np.asarray(np.exp(ways + xlogy(counts, share) + xlog1py(rest, -share)), dtype=np.float64)


def binomial_reach(counts: Floats, n: Floats | int, share: float) -> Floats:
    """Return P(X >= count), 1 for counts of 0 and less, 0 for counts above ``n``. ``counts`` and ``n`` broadcast."""
    from scipy.special import betainc

    most = np.maximum(n, 1)
    inside = betainc(np.clip(counts, 1, most), np.clip(n - counts + 1, 1, most), share)
    return np.where(counts <= 0, 1.0, np.where(counts > n, 0.0, inside))


def crossing(rising: Callable[[float], float], low: float, high: float) -> float:
    """Return where ``rising`` (negative at ``low``, not negative at ``high``) reaches 0, to 1e-11 of the span, from the high side."""
    for _ in range(37):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) >= 0 else (middle, high)
    return high
