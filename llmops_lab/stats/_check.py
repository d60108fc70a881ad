"""Argument checks that the statistics share; each raises ``BadInput`` naming the argument."""

from __future__ import annotations

import math

from llmops_lab.errors import BadInput


def check_alpha(alpha: float) -> None:
    """Refuse an error level outside (0, 0.5]."""
    if not 0 < alpha <= 0.5:
        raise BadInput(f"alpha is the error level, a number above 0 and at most 0.5 (usually 0.05), not {alpha!r}")


def check_margin(margin: float | None) -> None:
    """Refuse a margin that is not a positive finite number; None means no margin."""
    if margin is not None and not 0 < margin < math.inf:
        raise BadInput(f"margin is the largest difference that does not matter, in the scorer's unit and above 0, not {margin!r}")
