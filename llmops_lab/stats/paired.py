"""Two sets of scores on the same rows: difference, interval, p-value and counts, for binary and numeric scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmops_lab.errors import BadInput, DoesNotPair
from llmops_lab.stats import discordant, signflip
from llmops_lab.stats._check import check_alpha, check_margin
from llmops_lab.stats.intervals import is_binary


@dataclass(frozen=True, slots=True)
class PairedTest:
    """What paired rows say about mean(b) - mean(a), in the scorer's unit.

    ``low`` and ``high`` bound the difference at level alpha; they exclude 0 exactly when ``p_value < alpha``, and are
    infinite where numeric rows are too few to reject anything. ``equivalence_p`` is the TOST p-value (None without a
    margin). ``up`` rows scored higher with b, ``down`` lower, ``level`` the same. ``sd`` is the spread of the row
    differences (None for one row); ``discordance`` the share of rows that differ (None for numeric scores).
    """

    delta: float
    low: float
    high: float
    p_value: float
    equivalence_p: float | None
    test: str
    n: int
    n_missing: int
    mean_a: float
    mean_b: float
    up: int
    down: int
    level: int
    sd: float | None
    discordance: float | None


def paired_test(a: ArrayLike, b: ArrayLike, *, binary: bool, alpha: float = 0.05, margin: float | None = None, seed: int = 0) -> PairedTest:
    """Test row means ``a`` and ``b``, shape (rows,) each and in the same row order; NaN = missing on that side.

    ``binary`` with every present value 0 or 1 takes the exact McNemar test; everything else (also binary scores
    averaged over repeats) the sign-flip permutation test, drawn with ``seed``. Raises DoesNotPair when the lengths
    differ or no row is scored on both sides, BadInput for infinite scores or a wrong alpha or margin.
    """
    check_alpha(alpha)
    check_margin(margin)
    left, right, missing = _aligned(a, b)
    differences = right - left
    n, up, down = len(differences), int((differences > 0).sum()), int((differences < 0).sum())
    discordance = None
    if binary and is_binary(left) and is_binary(right):
        test, delta, discordance = "exact McNemar", (up - down) / n, (up + down) / n
        low, high = discordant.interval(up, down, n, alpha)
        p_value = discordant.mcnemar(up, down)
        equivalence = None if margin is None else discordant.equivalence(up, down, n, margin)
    else:
        flips = signflip.flip(differences, seed=seed)
        test, delta = "exact sign-flip permutation" if flips.exact else "sign-flip permutation", float(differences.mean())
        low, high = flips.interval(alpha)
        p_value = flips.p_value()
        equivalence = None if margin is None else flips.equivalence(margin)
    sd = float(differences.std(ddof=1)) if n > 1 else None
    return PairedTest(
        delta=delta, low=low, high=high, p_value=p_value, equivalence_p=equivalence, test=test, n=n, n_missing=missing,
        mean_a=float(left.mean()), mean_b=float(right.mean()), up=up, down=down, level=n - up - down, sd=sd,
        discordance=discordance,
    )  # fmt: skip


def _aligned(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.ndim != 1 or left.shape != right.shape:
        raise DoesNotPair(f"scores pair row by row, but the two sides have shapes {left.shape} and {right.shape}")
    both = ~(np.isnan(left) | np.isnan(right))
    if not both.any():
        raise DoesNotPair(f"none of {len(left)} rows has a score on both sides, so there is nothing to compare; see the error columns")
    left, right = left[both], right[both]
    if math.isinf(float(np.abs(left).max())) or math.isinf(float(np.abs(right).max())):
        raise BadInput("infinite scores have no mean; leave them unscored (NaN)")
    return left, right, int((~both).sum())
