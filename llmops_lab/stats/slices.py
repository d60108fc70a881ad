"""Slices: groups of rows in which b is better or worse than a, found by paired tests with the false discovery rate held.

Each group of rows is tested as the whole would be: exact McNemar for true/false scores, sign flips for others. Benjamini and
Hochberg's q-values over all groups tested say which to report: of those at or below a level q, a share of q at most is
expected to be chance. A group in which too few rows differ to ever be reported is counted and not tested: how many rows
differ tells nothing about which side they favour, so leaving it out costs no honesty and saves power. For the same reason a group may be
made from the replies only in a way that does not know which side is which (a word in *either* reply).

Where b is better overall, it is so in most groups. So each group is also held against the rows outside of it, by shuffling the
differences among all rows, with q-values of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmops_lab.errors import BadInput
from llmops_lab.stats import discordant
from llmops_lab.stats._numeric import binomial_reach
from llmops_lab.stats.intervals import is_binary, t_interval
from llmops_lab.stats.multiple import benjamini_hochberg

Floats = NDArray[np.float64]
LEAST = 10
"""Paired rows that a group needs; of fewer nobody wants to hear."""
_WORK = 2e10  # multiplications for all flips together: some seconds


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that have something in common. ``rows``: a mask of shape (rows,); ``kind`` says where the group comes from."""

    kind: str
    name: str
    rows: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Slice:
    """How b does against a in one group. ``also``: other groups of exactly these rows.

    ``up`` rows scored higher with b, ``down`` lower, ``level`` the same; ``delta`` = mean(b) - mean(a), ``rest`` the same in all other
    rows. ``p_value`` and ``q_value`` are None where too few rows differ to be tested. ``rest_q``: the q-value of "as in the rest".
    """

    group: Group
    also: tuple[Group, ...]
    n: int
    up: int
    down: int
    level: int
    delta: float
    rest: float
    p_value: float | None
    q_value: float | None
    rest_q: float
    found: bool
    unlike: bool
    binary: bool
    differences: Floats

    def interval(self, alpha: float = 0.05) -> tuple[float, float]:
        """Return the bounds of ``delta``, for this slice alone: as the whole's for true/false scores, Student's for others.

        NaN where other scores all differ alike: that says nothing about their spread.
        """
        if self.binary:
            return _discordant(self.up, self.down, self.n, alpha)
        if self.differences.min() == self.differences.max():
            return math.nan, math.nan
        bounds = t_interval(self.differences, alpha)
        return bounds.low, bounds.high


# Groups of like counts are many, and the bounds of one take some 20 ms: they are drawn for those that somebody looks at.
_discordant = lru_cache(maxsize=4096)(discordant.interval)


def find_slices(
    pairs: Sequence[tuple[ArrayLike, ArrayLike, Sequence[Group]]], *, binary: bool, fdr: float = 0.1, seed: int = 0
) -> list[list[Slice]]:
    """Test every group of every pair (a, b, groups): row means of shape (rows,) each, NaN = missing; q-values are over all of them.

    ``found`` and ``unlike`` (the rest) are at or below ``fdr``, each family for itself. One list a pair: found and unlike first, then
    found, then by p-value. Groups of fewer than ``LEAST`` paired rows, or of all, are left out. Raises BadInput for a wrong fdr.
    """
    if isinstance(fdr, bool) or not isinstance(fdr, int | float) or not 0 < fdr <= 0.5:
        raise BadInput(f"fdr is the share of false finds to expect, a number above 0 and at most 0.5 (usually 0.1), not {fdr!r}.")
    tables = [_Table(a, b, groups, binary=binary, fdr=fdr) for a, b, groups in pairs]
    p_values = [table.p_values(seed) for table in tables]
    tested = [p_value for each in p_values for p_value in each if p_value is not None]
    q_values = iter(benjamini_hochberg(tested))
    rest_q_values = iter(benjamini_hochberg([p_value for table in tables for p_value in table.against_rest(seed)]))
    found = []
    for table, each in zip(tables, p_values, strict=True):
        slices = [table.slice(at, p, None if p is None else next(q_values), next(rest_q_values), fdr) for at, p in enumerate(each)]
        found.append(sorted(slices, key=_rank))
    return found


def _rank(one: Slice) -> tuple[bool, bool, float, int]:
    return not (one.found and one.unlike), not one.found, 1.0 if one.p_value is None else one.p_value, -one.n


class _Table:
    """One pair's rows that have both scores, and the distinct groups of them."""

    def __init__(self, a: ArrayLike, b: ArrayLike, groups: Sequence[Group], *, binary: bool, fdr: float) -> None:
        left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
        both = ~(np.isnan(left) | np.isnan(right))
        self.a, self.b = left[both], right[both]
        self.differences = self.b - self.a
        self.binary = binary and is_binary(self.a) and is_binary(self.b)
        alike: dict[bytes, list[Group]] = {}
        for group in groups:
            rows = group.rows[both]
            if LEAST <= int(rows.sum()) < len(rows):
                alike.setdefault(np.packbits(rows).tobytes(), []).append(group)
        self.groups = list(alike.values())
        self.rows = np.array([each[0].rows[both] for each in self.groups], dtype=bool).reshape(len(self.groups), len(self.a))
        self.up = (self.rows & (self.differences > 0)).sum(axis=1)
        self.down = (self.rows & (self.differences < 0)).sum(axis=1)
        self._tested = 2.0 ** (1 - (self.up + self.down)) <= fdr

    def p_values(self, seed: int) -> list[float | None]:
        """One a group; None where it is not tested."""
        if not self._tested.any():
            return [None] * len(self.groups)
        made = self._mcnemar() if self.binary else self._flipped(seed)
        return [float(p) if tested else None for p, tested in zip(made, self._tested, strict=True)]

    def _mcnemar(self) -> Floats:
        most = np.maximum(self.up, self.down).astype(np.float64)
        return np.minimum(1.0, 2 * binomial_reach(most, (self.up + self.down).astype(np.float64), 0.5))

    def _flipped(self, seed: int) -> Floats:
        # The same flips for all groups, so that one product of matrices does them all. Rows without a difference take no part.
        differing = self.differences != 0
        values = self.differences[differing].astype(np.float32)
        members = self.rows[:, differing].astype(np.float32)
        flips = _draws(members)
        observed = np.abs(members @ values)
        slack = 1e-5 * (members @ np.abs(values))  # sums of the same numbers in another order differ in the last bits
        hits, rng, chunk = np.zeros(len(members)), np.random.default_rng(seed), max(1, 4_000_000 // max(1, len(values)))
        for start in range(0, flips, chunk):
            signs = rng.integers(0, 2, size=(min(chunk, flips - start), len(values)), dtype=np.int8).astype(np.float32) * 2 - 1
            hits += (np.abs((signs * values) @ members.T) >= observed - slack).sum(axis=0)
        return np.asarray((1 + hits) / (1 + flips), dtype=np.float64)

    def against_rest(self, seed: int) -> list[float]:
        """One p-value a group: that its rows differ as the others do. The same shuffles of the differences serve all groups."""
        if not self.groups:
            return []
        values = (self.differences - self.differences.mean()).astype(np.float32)
        members = self.rows.astype(np.float32)
        shuffles, observed = _draws(members), np.abs(members @ values)
        slack = 1e-5 * float(np.abs(values).sum())
        hits, rng, chunk = np.zeros(len(members)), np.random.default_rng(seed), max(1, 4_000_000 // len(values))
        for start in range(0, shuffles, chunk):
            shuffled = rng.permuted(np.tile(values, (min(chunk, shuffles - start), 1)), axis=1)
            hits += (np.abs(shuffled @ members.T) >= observed - slack).sum(axis=0)
        return [float(p) for p in (1 + hits) / (1 + shuffles)]

    def slice(self, at: int, p_value: float | None, q_value: float | None, rest_q: float, fdr: float) -> Slice:
        """What is said of one group."""
        mask, (group, *also) = self.rows[at], self.groups[at]
        inside, n, up, down = self.differences[mask], int(mask.sum()), int(self.up[at]), int(self.down[at])
        return Slice(
            group=group, also=tuple(also), n=n, up=up, down=down, level=n - up - down, delta=float(inside.mean()),
            rest=float(self.differences[~mask].mean()), p_value=p_value, q_value=q_value, rest_q=rest_q,
            found=q_value is not None and q_value <= fdr, unlike=rest_q <= fdr, binary=self.binary, differences=inside,
        )  # fmt: skip


def _draws(members: NDArray[np.float32]) -> int:
    return int(min(9_999, max(1_999, _WORK / max(1, members.size))))
