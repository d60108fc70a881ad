"""When has a grid seen enough rows? The rule behind ``stop="decided"``: an anytime-valid interval on paired differences.

Rows are counted in the random order in which they were planned, never in the order in which replies happen to arrive, so
that quick answers cannot tilt the result. Several variants share alpha (Bonferroni); the rule is met when every variant is
decided against the first one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from llmops_lab.stats.anytime import PairedSequence

_SEED = 0


def shuffled_rows(count: int) -> list[int]:
    """The random order of rows that a decided-stop grid asks in, and that its verdict counts them in: always the same."""
    order = list(range(count))
    random.Random(_SEED).shuffle(order)  # noqa: S311 - an order, not a secret
    return order


class StopRule:
    """Feed it every score as it comes; ``decided`` turns True once and for all."""

    def __init__(self, order: Sequence[int], variants: int, repeats: int, alpha: float, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
        """``bounds`` are the least and greatest possible score."""
        self._order, self._variants, self._repeats, self._bounds = order, variants, repeats, bounds
        width = bounds[1] - bounds[0]
        self._sequences = [PairedSequence(alpha / max(1, variants - 1), -width, width) for _ in range(variants - 1)]
        self._values: dict[int, list[list[float]]] = {}
        self._left: dict[int, int] = {}
        self._next = 0
        self.decided = False
        self.unbounded: float | None = None
        """The first score outside the bounds; from then on the rule cannot decide, because the interval needs them."""

    def add(self, row: int, variant: int, value: float | None) -> None:
        """One cell of a row is finished; ``value`` None when it has no score."""
        if value is not None and not self._bounds[0] <= value <= self._bounds[1]:
            self.unbounded = value
        values = self._values.setdefault(row, [[] for _ in range(self._variants)])
        if value is not None:
            values[variant].append(float(value))
        self._left[row] = self._left.get(row, self._variants * self._repeats) - 1
        while self._next < len(self._order) and self._left.get(self._order[self._next]) == 0:
            self._count(self._values.pop(self._order[self._next]))
            self._next += 1

    def _count(self, values: list[list[float]]) -> None:
        if self.decided or self.unbounded is not None or self._variants < 2:
            return
        means = [sum(each) / len(each) if each else None for each in values]
        for sequence, mean in zip(self._sequences, means[1:], strict=True):
            if means[0] is not None and mean is not None:
                sequence.add(mean - means[0])
        self.decided = all(sequence.decided for sequence in self._sequences)
