"""The reply is the expected value, outer whitespace aside.

A list of expected values means that any of them is right. An expected *number* (int or float, not text that looks
like one) is compared by value: 4, 4.0 and "4.0" agree. An expected true or false is compared without regard to
case. All else is compared character by character.
"""

from __future__ import annotations

import re
from typing import Any

from llmops_lab.records import Reply, Score
from llmops_lab.scorers._text import expected_text, is_missing

higher_is_better = True
NEEDS_TARGET = True

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_PUNCTUATION = re.compile(r"[^\w\s]")


def score(reply: Reply, target: Any, *, ignore_case: bool = False, ignore_punctuation: bool = False, strip: bool = True) -> Score:
    """True or False. ``strip=False``: outer whitespace counts too. ``ignore_punctuation`` keeps letters, digits, _ and spaces alone."""

    def reduced(text: str) -> str:
        if ignore_punctuation:
            text = _PUNCTUATION.sub("", text)
        if ignore_case:
            text = text.casefold()
        return text.strip() if strip else text

    answer = reduced(reply.text)
    for value in target if isinstance(target, (list, tuple)) else (target,):
        if is_missing(value):
            continue
        if isinstance(value, bool) and answer.lower() == expected_text(value):
            return Score(True)
        if answer == reduced(expected_text(value)) or _same_number(answer, value):
            return Score(True)
    return Score(False)


def _same_number(answer: str, value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not _NUMBER.fullmatch(answer):
        return False
    if isinstance(value, int) and answer.lstrip("+-").isdigit() and len(answer) < 4000:
        return int(answer) == value  # whole numbers beyond 2**53 would be rounded as floats
    return float(answer) == float(value)
