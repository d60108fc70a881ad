"""The model's perplexity on its own reply: how unsure it was, on average, of each token.

exp(-mean(log p)) over the reply's tokens (Jelinek, Mercer, Bahl, Baker 1977); 1 is certain. It compares answers of
one model; between models with different tokenizers it does not. Hosted models may clip the logarithms that they
report.
"""

from __future__ import annotations

import math
from typing import Any

from llmops_lab.records import Reply, Score

higher_is_better = False
BOUNDS = None


def score(reply: Reply, target: Any) -> Score:
    """1 or more; unscored when the reply carries no log-probabilities."""
    if not reply.logprobs:
        return Score(None, reason="the reply has no log-probabilities; ask for them with params={'logprobs': True}")
    return Score(math.exp(-math.fsum(reply.logprobs) / len(reply.logprobs)), detail={"tokens": len(reply.logprobs)})
