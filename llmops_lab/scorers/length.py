"""How long the reply is, in words, characters or tokens.

It has no good direction of its own; say ``higher_is_better=False`` to reward brevity.
"""

from __future__ import annotations

from typing import Any, Literal

from llmops_lab.records import Reply, Score

higher_is_better = None
BOUNDS = None


def score(reply: Reply, target: Any, *, unit: Literal["words", "characters", "tokens"] = "words") -> Score:
    """A count. Words are runs between whitespace; tokens are the provider's count, unscored when it gave none."""
    if unit == "tokens":
        count = reply.usage.output_tokens
        return Score(count, reason="" if count is not None else "the provider reported no token count")
    return Score(len(reply.text.split()) if unit == "words" else len(reply.text))
