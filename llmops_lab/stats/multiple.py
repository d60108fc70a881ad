"""Many comparisons at once: Holm's step-down correction of the family-wise error, Benjamini and Hochberg's of the false discovery rate.

Holm, Scand. J. Stat. 6 (1979) 65. Benjamini and Hochberg, J. R. Stat. Soc. B 57 (1995) 289.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmops_lab.errors import BadInput
from llmops_lab.stats._check import check_alpha


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the adjusted p-values, in the order given: those below alpha are the ones that Holm rejects at alpha.

    Raises BadInput for a value outside [0, 1] or NaN: leave out what was not tested.
    """
    _check(p_values)
    adjusted, highest, count = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, index in enumerate(_order(p_values)):
        highest = max(highest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def holm_levels(p_values: Sequence[float], alpha: float = 0.05) -> list[float]:
    """Return the level at which Holm judges each p-value, in the order given: ``p < level`` exactly when Holm rejects.

    Rank i of m is judged at ``alpha / (m - i + 1)``; from the first that is kept on, all stand at that one's level. An
    interval drawn at its level therefore excludes 0 exactly when its comparison is rejected.
    """
    check_alpha(alpha)
    adjusted, levels, count, kept = holm(p_values), [alpha] * len(p_values), len(p_values), 0.0
    for rank, index in enumerate(_order(p_values)):
        level = kept or alpha / (count - rank)
        if adjusted[index] >= alpha:
            kept = level
            levels[index] = min(level, p_values[index])  # the last bits of the two products may differ
        else:
            levels[index] = max(level, math.nextafter(p_values[index], 1.0))
    return levels


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return the q-values, in the order given: those at or below q are the ones to report at a false discovery rate of q.

    Holds for independent tests and for those that rise and fall together. Raises BadInput as ``holm`` does.
    """
    _check(p_values)
    adjusted, lowest, count = [0.0] * len(p_values), 1.0, len(p_values)
    for rank, index in reversed(list(enumerate(_order(p_values), 1))):
        lowest = min(lowest, p_values[index] * count / rank)
        adjusted[index] = lowest
    return adjusted


def _check(p_values: Sequence[float]) -> None:
    for p_value in p_values:
        if not 0 <= p_value <= 1:
            raise BadInput(f"a p-value lies between 0 and 1, not {p_value!r}; leave out comparisons that could not be made")


def _order(p_values: Sequence[float]) -> list[int]:
    return sorted(range(len(p_values)), key=lambda index: p_values[index])
