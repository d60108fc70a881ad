"""What the reply cost, in USD.

Unscored when no price is known: missing is not free. A reply out of the ledger keeps the cost that it had when it was made.
"""

from __future__ import annotations

from typing import Any

from llmops_lab.records import Reply, Score

higher_is_better = False
BOUNDS = None


def score(reply: Reply, target: Any) -> Score:
    """USD; unscored without a price or without the token counts that the price is for."""
    known = reply.cost_usd is not None
    return Score(reply.cost_usd, reason="" if known else "no price is known for this model; set one in [tool.llmops_lab.prices]")
