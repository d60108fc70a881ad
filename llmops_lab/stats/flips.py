"""Flips: a row whose true/false outcome differs between two sides, and whether its repeats say that this is more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Flip = Literal["change", "noise", "unknown: one replicate"]


def flip_kind(a: Sequence[bool], b: Sequence[bool], alpha: float = 0.05) -> Flip | None:
    """Say what the replicates of one row, asked of two sides, make of its flip; None where both sides pass equally often.

    ``change``: all replicates of a side agree and the sides do not, or Fisher's exact test parts them at ``alpha`` (a side that passes
    9 times of 10 against one that passes once). ``noise``: the flip does not repeat. With one replicate on a side nobody knows.
    Two replicates a side of a row that is a coin toss on both agree like that 1 time in 8, three 1 in 32, five 1 in 512.
    """
    if not a or not b or sum(a) * len(b) == sum(b) * len(a):
        return None
    if min(len(a), len(b)) == 1:
        return "unknown: one replicate"
    apart = {sum(a) / len(a), sum(b) / len(b)} == {0.0, 1.0}
    return "change" if apart or fisher(sum(a), len(a), sum(b), len(b)) < alpha else "noise"


def fisher(k: int, n: int, other_k: int, other_n: int) -> float:
    """Return the two-sided p-value of Fisher's exact test that ``k`` of ``n`` and ``other_k`` of ``other_n`` have one chance."""
    total, all_ = k + other_k, n + other_n
    counts = range(max(0, total - other_n), min(n, total) + 1)
    ways = {count: math.comb(n, count) * math.comb(other_n, total - count) for count in counts}
    return sum(each for each in ways.values() if each <= ways[k]) / math.comb(all_, total)
