"""A confidence sequence for the mean paired difference: it may be looked at after every row.

A gambler starts with 1 and bets a fixed fraction on "the mean is above m". If m is the mean, no betting gains on
average, so wealth passes 2 / alpha with probability at most alpha / 2, whenever one looks (Ville 1939). Twenty
gamblers with fractions 1/20 ... 20/20 share the stake, so a difference of any size is near some gambler's best bet;
a second table bets "below". Values m that neither table has ruined form the interval: Waudby-Smith and Ramdas,
J. R. Stat. Soc. B 86 (2024) 1 (hedged capital, with fixed bets); Orabona and Jun, arXiv 2110.14099 (mixture of bets).
The wealth of every gambler falls (above) or rises (below) with m, so the values left are one interval.

Standard library only: this runs inside the grid's loop.
"""

from __future__ import annotations

import math
from collections import Counter

from llmops_lab.errors import BadInput

FRACTIONS = tuple(step / 20 for step in range(1, 21))


class PairedSequence:
    """Differences b - a of row means, in random row order, each within ``[low, high]`` (which must hold 0 inside).

    For scores in [0, 1] the differences lie in [-1, 1]. The chance that ``decided`` ever becomes true under no
    difference is at most ``alpha``, and all intervals ever shown hold the true mean together with probability
    ``1 - alpha``. The mean is that of the population the rows were drawn from. ``add`` costs microseconds; reading
    ``low`` and ``high`` costs about 2,000 logarithms for each different value seen.
    """

    def __init__(self, alpha: float = 0.05, low: float = -1.0, high: float = 1.0) -> None:
        if not 0 < alpha <= 0.5:
            raise BadInput(f"alpha is the error level, a number above 0 and at most 0.5 (usually 0.05), not {alpha!r}")
        if not -math.inf < low < 0 < high < math.inf:
            raise BadInput(f"differences need finite bounds on both sides of 0, not [{low!r}, {high!r}]")
        self.alpha, self.bounds = alpha, (low, high)
        self.n = 0
        self._seen: Counter[float] = Counter()
        self._total = 0.0
        self._above = [0.0] * len(FRACTIONS)  # log wealth against "the mean is 0"
        self._below = [0.0] * len(FRACTIONS)
        self._peak = 0.0
        self._settled: tuple[float, float] | None = None

    def add(self, difference: float) -> None:
        """Take one row's difference. Rows without a score on both sides are left out by the caller. BadInput outside the bounds."""
        low, high = self.bounds
        value = float(difference)
        if not low <= value <= high:
            raise BadInput(f"a difference of {value!r} lies outside [{low}, {high}], the bounds that this sequence was made for")
        self.n += 1
        self._total += value
        self._seen[value] += 1
        _bet(self._above, value / -low)
        _bet(self._below, -value / high)
        self._peak = max(self._peak, _mean_log(self._above), _mean_log(self._below))
        if self._settled is None and self.p_value < self.alpha:
            self._settled = self._interval()

    @property
    def estimate(self) -> float:
        """The mean difference so far; NaN before the first row."""
        return self._total / self.n if self.n else math.nan

    @property
    def p_value(self) -> float:
        """The anytime-valid p-value of no difference: 2 / (the greatest wealth either table ever held), at most 1. Never rises."""
        return _p_value(self._peak)

    @property
    def decided(self) -> bool:
        """Whether the interval excludes 0, that is ``p_value < alpha``. Once true it stays true."""
        return self._settled is not None

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound of the mean difference; once decided, never wider than when it was decided."""
        low, high = self._interval()
        if self._settled is not None:
            low, high = max(low, self._settled[0]), min(high, self._settled[1])
            return (low, high) if low <= high else self._settled
        return low, high

    @property
    def low(self) -> float:
        """Lower bound of the mean difference."""
        return self.interval[0]

    @property
    def high(self) -> float:
        """Upper bound of the mean difference."""
        return self.interval[1]

    def counts(self) -> tuple[int, int, int]:
        """Return how many rows were above, below and at 0."""
        up = sum(count for value, count in self._seen.items() if value > 0)
        down = sum(count for value, count in self._seen.items() if value < 0)
        return up, down, self.n - up - down

    def spread(self) -> float:
        """Return the standard deviation (n - 1) of the differences; 0.0 below two rows."""
        if self.n < 2:
            return 0.0
        middle = self.estimate
        return math.sqrt(sum(count * (value - middle) ** 2 for value, count in self._seen.items()) / (self.n - 1))

    def _interval(self) -> tuple[float, float]:
        low, high = self.bounds
        if self.n == 0:
            return low, high
        up = self._bound({value - low: count for value, count in self._seen.items()}, -low, _mean_log(self._above), high - low)
        down = self._bound({high - value: count for value, count in self._seen.items()}, high, _mean_log(self._below), high - low)
        return low + up, high - down

    def _bound(self, distances: dict[float, int], null: float, wealth: float, width: float) -> float:
        # The least distance from the edge at which the table is not ruined. It starts from the null in the direction
        # that the wealth there names, so that bound and decision cannot part.
        goal = math.log(2 / self.alpha)
        mean = sum(value * count for value, count in distances.items()) / self.n
        if _p_value(wealth) < self.alpha:
            ruined, standing = null, max(mean, math.nextafter(null, width))
        else:
            ruined, standing = 0.0, min(mean, null)
        for _ in range(48):
            middle = (ruined + standing) / 2
            if not ruined < middle < standing:
                break
            if self._wealth_at(distances, middle) > goal:
                ruined = middle
            else:
                standing = middle
        return standing

    def _wealth_at(self, distances: dict[float, int], middle: float) -> float:
        logs = []
        for fraction in FRACTIONS:
            total = 0.0
            for distance, count in distances.items():
                factor = 1 + fraction * (distance / middle - 1)
                total += count * math.log(factor) if factor > 0 else -math.inf
            logs.append(total)
        return _mean_log(logs)


def _bet(logs: list[float], gain: float) -> None:
    # ``gain`` is what a stake of 1 wins: at least -1, so that nobody owes.
    for index, fraction in enumerate(FRACTIONS):
        change = fraction * gain
        logs[index] += math.log1p(change) if change > -1 else -math.inf


def _p_value(wealth: float) -> float:
    # ``wealth`` is a logarithm; two tables share alpha.
    return 1.0 if wealth <= 0 else min(1.0, 2 * math.exp(-wealth))


def _mean_log(logs: list[float]) -> float:
    # log of the mean wealth, without overflow.
    top = max(logs)
    if top == -math.inf:
        return top
    return top + math.log(sum(math.exp(each - top) for each in logs) / len(logs))
