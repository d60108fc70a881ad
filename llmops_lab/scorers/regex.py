"""The reply matches a regular expression.

The syntax is that of Python's ``re``; matching is done by the ``regex`` package, which can be stopped: a pattern that
backtracks without end is an error after two seconds and does not hold up other cells.
"""

from __future__ import annotations

from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.records import Reply, Score

higher_is_better = True
PACKAGES = ("regex",)

_SECONDS = 2.0


def check(*, pattern: str, ignore_case: bool = False, full: bool = False) -> None:
    """Raises BadInput for a pattern that does not compile, with the place."""
    import regex  # type: ignore[import-untyped]  # ships no types

    try:
        regex.compile(pattern)
    except regex.error as error:
        raise BadInput(f"the scorer regex: the pattern {pattern!r} is wrong: {error}.") from error


def score(reply: Reply, target: Any, *, pattern: str, ignore_case: bool = False, full: bool = False) -> Score:
    """True or False. The pattern may match anywhere; with ``full`` it must match the whole reply, outer whitespace trimmed."""
    import regex

    flags = regex.IGNORECASE if ignore_case else 0
    find, text = (regex.fullmatch, reply.text.strip()) if full else (regex.search, reply.text)
    try:
        match = find(pattern, text, flags=flags, timeout=_SECONDS, concurrent=True)
    except TimeoutError:
        return Score(None, error=f"TimeoutError: the pattern took longer than {_SECONDS:g} s on this reply")
    return Score(match is not None, reason=f"matched {match.group()[:100]!r}" if match else "")
