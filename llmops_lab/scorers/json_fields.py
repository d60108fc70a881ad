"""The share of the expected JSON object's fields that the reply has right (0 to 1).

The expected value is an object, or text that is one. Nested objects are taken apart (``address.city``); a list is
one field and must be equal as a whole. Numbers agree by value (4 and 4.0), true is not 1, strings are trimmed, a
field that is absent is not null. A reply that is not a JSON object has no field right and scores 0; an expected
value that is none leaves the row unscored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.records import Reply, Score
from llmops_lab.scorers._json import read_json
from llmops_lab.scorers._text import plain

higher_is_better = True
NEEDS_TARGET = True
BOUNDS = (0.0, 1.0)


def score(reply: Reply, target: Any, *, ignore_case: bool = False, strict: bool = False, fences: bool = True) -> Score:
    """0 to 1; ``detail["fields"]`` says which are right. ``strict``: each field too many counts as one wrong."""
    try:
        wanted = _fields(read_json(target, fences=False) if isinstance(target, str) else target)
    except ValueError as error:
        return Score(None, reason=f"the expected value is no JSON object: {error}"[:200])
    if not wanted:
        return Score(None, reason="the expected value has no fields")
    try:
        given, reason = _fields(read_json(reply.text, fences=fences)), ""
    except ValueError as error:
        given, reason = {}, f"the reply is no JSON object: {error}"[:200]
    right = {path: path in given and _equal(given[path], value, ignore_case) for path, value in wanted.items()}
    if strict:
        right |= {path: False for path in given if path not in wanted}
    return Score(sum(right.values()) / len(right), reason=reason, detail={"fields": right})


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """``per_field``: the share of rows in which each field was right."""
    votes: dict[str, list[bool]] = {}
    for each in scores:
        for path, right in each.detail.get("fields", {}).items():
            votes.setdefault(path, []).append(right)
    return {"per_field": {path: sum(given) / len(given) for path, given in sorted(votes.items())}}


def _fields(value: Any) -> dict[str, Any]:
    """Path -> leaf of an object; raises ValueError for anything else."""
    if not isinstance(value, Mapping):
        raise ValueError(f"it is {'a list' if isinstance(value, list) else repr(value)[:60]}")
    found: dict[str, Any] = {}
    waiting = [("", value)]
    while waiting:
        prefix, part = waiting.pop()
        for key, item in part.items():
            if isinstance(item, Mapping) and item:
                waiting.append((f"{prefix}{key}.", item))
            else:
                found[f"{prefix}{key}"] = plain(item)
    return found


def _equal(given: Any, wanted: Any, ignore_case: bool) -> bool:
    if isinstance(given, str) and isinstance(wanted, str):
        return given.strip().casefold() == wanted.strip().casefold() if ignore_case else given.strip() == wanted.strip()
    if isinstance(given, list) and isinstance(wanted, list):
        return len(given) == len(wanted) and all(_equal(a, b, ignore_case) for a, b in zip(given, wanted, strict=True))
    if isinstance(given, Mapping) and isinstance(wanted, Mapping):
        return given.keys() == wanted.keys() and all(_equal(given[key], wanted[key], ignore_case) for key in wanted)
    return isinstance(given, bool) == isinstance(wanted, bool) and bool(given == wanted)
