"""Seconds from sending the request to the whole reply, or to its first token.

A reply out of the ledger keeps the time that it took when it was made. Retries and waiting for a free slot are not in it.
"""

from __future__ import annotations

from typing import Any, Literal

from llmops_lab.records import Reply, Score

higher_is_better = False
BOUNDS = None


def score(reply: Reply, target: Any, *, until: Literal["end", "first_token"] = "end") -> Score:
    """Seconds. Until the first token only for a streamed reply; others are unscored."""
    if until == "end":
        return Score(reply.latency_s)
    return Score(reply.ttft_s, reason="" if reply.ttft_s is not None else "the reply was not streamed (stream=True)")
