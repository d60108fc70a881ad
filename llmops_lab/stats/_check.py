"""Argument checks that the statistics share; each raises ``BadInput`` naming the argument."""

from __future__ import annotations

import math
import numbers

from llmops_lab.errors import BadInput


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_alpha(alpha: float) -> None:
    """Refuse an error level outside (0, 0.5]."""
    if not _is_number(alpha) or not 0 < alpha <= 0.5:
        raise BadInput(f"alpha is the error level, a number above 0 and at most 0.5 (usually 0.05), not {alpha!r}")


def check_margin(margin: float | None) -> None:
    """Refuse a margin that is not a positive finite number; None means no margin."""
    if margin is not None and (not _is_number(margin) or not 0 < margin < math.inf):
        raise BadInput(f"margin is the largest difference that does not matter, in the scorer's unit and above 0, not {margin!r}")
