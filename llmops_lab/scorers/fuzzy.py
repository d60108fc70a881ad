"""How alike the reply and the expected value are, letter by letter (0 to 1).

The normalised Indel similarity: 1 - (insertions + deletions) / (sum of both lengths); the same number as RapidFuzz's
``fuzz.ratio`` / 100. Outer whitespace is trimmed. Of several expected values the most alike counts.
"""

from __future__ import annotations

from typing import Any

from llmops_lab.records import Reply, Score
from llmops_lab.scorers._text import CAP, clip, expected_texts

higher_is_better = True
NEEDS_TARGET = True
BOUNDS = (0.0, 1.0)
PACKAGES = ("rapidfuzz",)


def score(reply: Reply, target: Any, *, ignore_case: bool = False) -> Score:
    """0 to 1. Two very long texts (100,000 characters each) are compared by their beginnings, and the reason says so."""
    from rapidfuzz import fuzz

    best, reason = 0.0, ""
    for expected in expected_texts(target):
        answer, wanted = reply.text.strip(), expected.strip()
        if ignore_case:
            answer, wanted = answer.casefold(), wanted.casefold()
        if len(answer) * len(wanted) > CAP * CAP:
            (answer, _), (wanted, reason) = clip(answer), clip(wanted)
            reason = reason or clip(reply.text)[1]
        best = max(best, fuzz.ratio(answer, wanted) / 100.0)
    return Score(best, reason=reason)
