"""ROUGE of the reply against the expected text (F-measure, 0 to 1): L by default, 1 and 2 in the detail.

ROUGE-N: common n-grams of words; ROUGE-L: longest common subsequence of words (Lin 2004). F is the harmonic mean of
precision and recall. Words are lower-case runs of a-z and 0-9, without stemming, as in the ``rouge-score`` package;
so text in other scripts has no words, and an expected value without any leaves the row unscored. Of several
expected texts the best counts.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Literal

from llmops_lab.records import Reply, Score
from llmops_lab.scorers._text import clip, expected_texts

higher_is_better = True
NEEDS_TARGET = True
BOUNDS = (0.0, 1.0)
PACKAGES = ("rapidfuzz",)

_WORD = re.compile(r"[a-z0-9]+")


def score(reply: Reply, target: Any, *, variant: Literal["L", "1", "2"] = "L") -> Score:
    """0 to 1; detail: ``rouge1``, ``rouge2``, ``rougeL`` of the reference that scored best in ``variant``."""
    references = [words for text in expected_texts(target) if (words := _WORD.findall(clip(text)[0].lower()))]
    if not references:
        return Score(None, reason="the expected value has no words in a-z or 0-9")
    text, reason = clip(reply.text)
    answer = _WORD.findall(text.lower())
    best = max((_measures(answer, each) for each in references), key=lambda measures: measures[f"rouge{variant}"])
    return Score(best[f"rouge{variant}"], reason=reason, detail=best)


def _measures(answer: list[str], reference: list[str]) -> dict[str, float]:
    from rapidfuzz.distance import LCSseq

    common = LCSseq.similarity(answer, reference)
    return {
        "rouge1": _overlap(answer, reference, 1),
        "rouge2": _overlap(answer, reference, 2),
        "rougeL": _f(common, len(answer), len(reference)),
    }


def _overlap(answer: list[str], reference: list[str], order: int) -> float:
    given, wanted = (Counter(zip(*(words[start:] for start in range(order)), strict=False)) for words in (answer, reference))
    return _f((given & wanted).total(), given.total(), wanted.total())


def _f(common: int, given: int, wanted: int) -> float:
    if not common:
        return 0.0
    precision, recall = common / given, common / wanted
    return 2 * precision * recall / (precision + recall)
