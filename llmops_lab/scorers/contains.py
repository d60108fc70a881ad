"""The expected value occurs in the reply.

A list of expected values must all occur; with ``mode="any"`` one is enough. An empty expected value is in every text, so
such a row is unscored.
"""

from __future__ import annotations

from typing import Any, Literal

from llmops_lab.records import Reply, Score
from llmops_lab.scorers._text import expected_texts

higher_is_better = True
NEEDS_TARGET = True


def score(reply: Reply, target: Any, *, ignore_case: bool = False, words: bool = False, mode: Literal["all", "any"] = "all") -> Score:
    """True or False. ``words`` asks for whole words, so that "4" is not found in "14"."""
    answer = reply.text.casefold() if ignore_case else reply.text
    wanted = [each.strip().casefold() if ignore_case else each.strip() for each in expected_texts(target)]
    if not all(wanted):
        return Score(None, reason="the expected value is empty")
    found = [_occurs(each, answer, words) for each in wanted]
    absent = [each for each, there in zip(wanted, found, strict=True) if not there]
    right = all(found) if mode == "all" else any(found)
    return Score(right, reason="" if right else f"not found: {', '.join(absent)}"[:200])


def _occurs(wanted: str, answer: str, words: bool) -> bool:
    if not words:
        return wanted in answer
    place = answer.find(wanted)
    while place >= 0:
        around = answer[max(0, place - 1) : place] + answer[place + len(wanted) : place + len(wanted) + 1]
        if not any(each.isalnum() or each == "_" for each in around):
            return True
        place = answer.find(wanted, place + 1)
    return False
