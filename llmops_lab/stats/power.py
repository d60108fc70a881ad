"""How many rows a paired comparison needs, and the smallest difference that the rows at hand can show.

All levels are two-sided, ``power`` is the chance to decide when the difference is as stated. Binary scores use the
exact power of the exact McNemar test, numeric ones that of the paired t test (which the sign-flip test follows).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from llmops_lab.errors import BadInput
from llmops_lab.stats._check import check_alpha, check_margin
from llmops_lab.stats._numeric import binomial_pmf, binomial_reach, crossing

MOST = 10**12
EXACT_ROWS = 20_000  # above this a normal approximation is within a row in a thousand


def mcnemar_power(n: int, p_win: float, p_loss: float, alpha: float = 0.05) -> float:
    """Return the exact chance that the exact McNemar test on ``n`` pairs rejects, given both chances of a disagreement.

    Sum over the binomial number of discordant pairs of the conditional power (Duffy, Biometrics 40 (1984) 1005).
    """
    from scipy.special import bdtrik

    discordance = p_win + p_loss
    if discordance <= 0:
        return 0.0
    reach = 12 * math.sqrt(n * discordance * (1 - min(discordance, 1))) + 2
    pairs = np.arange(max(0, math.floor(n * discordance - reach)), min(n, math.ceil(n * discordance + reach)) + 1, dtype=np.float64)
    # The most losses (or wins) among each number of pairs that the test still rejects; -1 where it rejects nothing.
    most = np.where(2 * 0.5**pairs < alpha, np.floor(np.nan_to_num(bdtrik(alpha / 2, pairs, 0.5))) + 1, -1.0)
    for _ in range(3):
        most = np.where((most >= 0) & (2 * binomial_reach(pairs - most, pairs, 0.5) >= alpha), most - 1, most)
    share = p_win / discordance
    rejects = binomial_reach(pairs - most, pairs, share) + binomial_reach(pairs - most, pairs, 1 - share)
    return float(np.sum(binomial_pmf(pairs, n, min(discordance, 1.0)) * np.where(most < 0, 0.0, rejects)))


def t_power(n: int, effect: float, sd: float, alpha: float = 0.05) -> float:
    """Return the chance that the paired t test on ``n`` differences of spread ``sd`` shows a mean of ``effect`` (same unit)."""
    from scipy.special import nctdtr, ndtr, stdtrit

    if n < 2:
        return 0.0
    if sd == 0:
        return float(effect != 0)
    shift = abs(effect) / sd * math.sqrt(n)
    goal = float(stdtrit(n - 1, 1 - alpha / 2))
    if n > EXACT_ROWS or shift > 30:
        return float(ndtr(shift - goal) + ndtr(-shift - goal))
    wrong_side = float(nctdtr(n - 1, shift, -goal))
    if math.isnan(wrong_side):  # scipy's answer where it is vanishingly small
        wrong_side = 0.0
    return 1.0 - float(nctdtr(n - 1, shift, goal)) + wrong_side


def needed_rows(
    n: int,
    delta: float,
    *,
    sd: float | None = None,
    discordance: float | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """Return how many rows in all would decide with chance ``power`` if the true difference were ``delta``.

    ``n`` rows gave ``delta``. Numeric scores pass ``sd``, the spread of the differences (same unit as ``delta``); binary
    scores pass ``discordance``, the share of rows on which the two disagree. With a ``margin`` wider than ``delta``
    showing equivalence counts as deciding, where that takes fewer rows. The result is above ``n`` and at most 1e12.

    A ``delta`` of exactly 0 without a margin is shown by no number of rows; the answer is then for the smallest
    difference these rows could have held: one row more (a share of 1/n; for numeric scores sd / n).
    """
    check_alpha(alpha)
    check_margin(margin)
    if (sd is None) == (discordance is None) or n < 1:
        raise BadInput("needed_rows takes n of at least 1 and either sd (numeric scores) or discordance (binary scores)")
    rows = _rows_for_difference(n, abs(delta), sd, discordance, alpha, power)
    if margin is not None and abs(delta) < margin:
        rows = min(rows, _rows_for_equivalence(abs(delta), sd, discordance, margin, alpha, power))
    return min(MOST, max(rows, n + 1, fewest_rows(alpha)))


def fewest_rows(alpha: float) -> int:
    """Return the number of rows below which neither McNemar nor sign flips can reject: 2 / 2^n < alpha. 6 at 0.05."""
    return math.floor(math.log2(2 / alpha)) + 1


def minimum_detectable_effect(
    n: int, *, sd: float | None = None, discordance: float | None = None, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """Return the smallest true difference that ``n`` rows show with chance ``power``; None where no difference can be.

    ``sd`` or ``discordance`` as in ``needed_rows``; a difference above the discordance is taken to bring its own. None
    also for numeric scores without any spread, which give nothing to judge by.
    """
    check_alpha(alpha)
    if (sd is None) == (discordance is None):
        raise BadInput("minimum_detectable_effect takes either sd (numeric scores) or discordance (binary scores)")
    if n < fewest_rows(alpha) or sd == 0:
        return None
    if discordance is not None:
        return _least(lambda delta: _binary_power(n, delta, discordance, alpha), 1.0, power)
    spread = sd or 0.0
    return _least(lambda delta: t_power(n, delta, spread, alpha), 10 * spread, power)


def _least(power_at: Callable[[float], float], most: float, power: float) -> float | None:
    if power_at(most) < power:
        return None
    return crossing(lambda delta: power_at(delta) - power, 0.0, most)


def _binary_power(n: int, delta: float, discordance: float, alpha: float) -> float:
    share = min(1.0, max(discordance, delta))
    if n > EXACT_ROWS:
        return _normal_power(n, delta, share, alpha)
    return mcnemar_power(n, (share + delta) / 2, (share - delta) / 2, alpha)


def _normal_power(n: int, delta: float, discordance: float, alpha: float) -> float:
    # Connor, Biometrics 43 (1987) 207: spread under "no difference" and under ``delta`` differ.
    from scipy.special import ndtr

    reach = math.sqrt(n) * delta - _z(alpha / 2) * math.sqrt(discordance)
    spread = math.sqrt(max(discordance - delta * delta, 0.0))
    return float(ndtr(reach / spread)) if spread > 0 else float(reach > 0)


def _rows_for_difference(n: int, delta: float, sd: float | None, discordance: float | None, alpha: float, power: float) -> int:
    za, zb = _z(alpha / 2), _z(1 - power)
    if discordance is not None:
        delta = delta or 1 / n
        share = max(discordance, delta)
        guess = (za * math.sqrt(share) + zb * math.sqrt(max(share - delta * delta, 0.0))) / delta
        return _search(guess, lambda rows: _binary_power(rows, delta, share, alpha), power)
    spread = sd or 0.0
    if delta == 0:
        delta, spread = (spread / n, spread) if spread / n > 0 else (1 / n, 1 / math.sqrt(n))
    return _search((za + zb) * spread / delta, lambda rows: t_power(rows, delta, spread, alpha), power)


def _search(root: float, power_at: Callable[[int], float], power: float) -> int:
    # ``root`` is the square root of the normal approximation, a little too few; tiny effects would overflow its square.
    if root * root > EXACT_ROWS:
        return MOST if root > math.sqrt(MOST) else math.ceil(root * root)
    low = max(1, math.floor(root * root * 0.8) - 1)
    high = max(2, math.ceil(root * root))
    while power_at(high) < power:
        low, high = high, high + max(1, high // 5)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return high


def _rows_for_equivalence(delta: float, sd: float | None, discordance: float | None, margin: float, alpha: float, power: float) -> int:
    # Normal approximation of TOST: Chow, Shao and Wang, Sample Size Calculations in Clinical Research, 3.1.
    from scipy.special import ndtr

    spread = sd if sd is not None else math.sqrt(max((discordance or 0.0) - delta * delta, 0.0))
    if spread == 0:
        if sd is not None or margin >= 1:
            return fewest_rows(alpha)
        return math.ceil(math.log(alpha) / math.log1p(-margin))  # no row disagreed: (1 - margin)^n <= alpha
    za = _z(alpha)

    def chance(rows: float) -> float:
        error = spread / math.sqrt(rows)
        return float(ndtr((margin - delta) / error - za) + ndtr((margin + delta) / error - za) - 1)

    low, high = 0.0, 1.0
    while chance(high) < power and high < MOST:
        low, high = high, high * 2
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (low, middle) if chance(middle) >= power else (middle, high)
    return math.ceil(high)


def _z(tail: float) -> float:
    from scipy.special import ndtri

    return float(-ndtri(tail))
