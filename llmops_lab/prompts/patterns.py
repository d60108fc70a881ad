"""Reasoning patterns: what is added to the last user message, and how the final answer is read back out of the reply.

``step_by_step``         the model reasons, then writes a line that begins with ``Answer:``; the text after the last such
                         line is the answer.
``self_consistency``     the same, asked several times (``repeats``); the answer that most repeats end in wins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmops_lab.errors import BadInput, UnknownName

_STEPS = 'Think step by step. Then write the final answer on a last line that begins with "Answer:".'
INSTRUCTIONS = {"step_by_step": _STEPS, "self_consistency": _STEPS}

_ANSWER = re.compile(r"^[ \t>#*_]*(?:the[ \t]+)?(?:final[ \t]+)?answer(?:[ \t]+is)?[ \t*_]*:[ \t*_]*", re.IGNORECASE | re.MULTILINE)


def instruction(pattern: str) -> str:
    """The text that a pattern adds. Raises UnknownName for a pattern that does not exist."""
    if pattern not in INSTRUCTIONS:
        raise UnknownName("reasoning pattern", pattern, INSTRUCTIONS)
    return INSTRUCTIONS[pattern]


def final_answer(text: str) -> str:
    """What follows the last ``Answer:`` line, without white space and markup around it; the whole text where there is none."""
    ends = [found.end() for found in _ANSWER.finditer(text)]
    return text[ends[-1] :].strip().rstrip("*_").rstrip() if ends else text.strip()


def majority(texts: Sequence[str]) -> tuple[str, float]:
    """The answer that most of the texts agree on, and the share of all texts that do.

    Case, runs of white space and a closing full stop are not told apart; the winner is given as it was first written, and the
    earliest wins a tie. Raises BadInput when there is nothing to vote on.
    """
    if not texts:
        raise BadInput("a majority vote needs at least one answer; every repeat failed or none was asked.")
    votes: dict[str, list[str]] = {}
    for text in texts:
        votes.setdefault(" ".join(text.split()).casefold().rstrip("."), []).append(text)
    winners = max(votes.values(), key=len)
    return winners[0], len(winners) / len(texts)
