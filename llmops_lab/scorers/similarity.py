"""How close the meanings of the reply and the expected value are: the cosine of their embeddings (-1 to 1).

Of several expected values the closest counts. What the number means depends on the embedder: ``hashing`` compares
words, ``minilm`` and ``openai:`` compare meaning; scores of two embedders do not compare.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmops_lab.records import Reply, Score
from llmops_lab.scorers._text import clip, expected_texts, well_formed

higher_is_better = True
NEEDS_TARGET = True
BOUNDS = (-1.0, 1.0)
expensive = True
PACKAGES = ("numpy",)


def score(reply: Reply, target: Any, *, embed: Callable[[list[str]], Any]) -> Score:
    """-1 to 1. An empty reply has no meaning in common with anything: 0. An empty expected value leaves the row unscored."""
    wanted = [text for text in expected_texts(target) if text.strip()]
    if not wanted:
        return Score(None, reason="the expected value is empty")
    if not reply.text.strip():
        return Score(0.0, reason="the reply is empty")
    answer, reason = clip(reply.text)
    vectors = embed([well_formed(text) for text in (answer, *(clip(each)[0] for each in wanted))])
    best = max(float(vectors[0] @ each) for each in vectors[1:])
    return Score(min(1.0, max(-1.0, best)) if best == best else best, reason=reason)
