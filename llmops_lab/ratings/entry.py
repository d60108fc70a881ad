"""What a rater hands in, checked and masked before it is stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.ratings.items import Spec
from llmops_lab.ratings.rubric import checked
from llmops_lab.redact import redact

_MOST_TEXT = 100_000
_DAY = 86_400.0


def entry(spec: Spec, sides: Sequence[str], value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a rating: value, or a skip with its reason, and comment, seconds, flag and correction. Raises BadInput."""
    skip = given.get("skip")
    if skip is not None and value is not None:
        raise BadInput("an item is rated or skipped, not both: leave out value or skip.")
    if skip is None and value is None:
        raise BadInput("there is no value. Rate the item, or skip it and say why: skip='not my language'.")
    return {
        "value": None if skip is not None else checked(spec.mode, spec.rubric, sides, value),
        "comment": _text("comment", given.get("comment")),
        "seconds": _seconds(given.get("seconds")),
        "flag": _flag(given.get("flag", False)),
        "skip": _text("skip", "" if skip is True else skip),
        "correction": _text("correction", given.get("correction")),
    }


def _text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        raise BadInput(f"{name} is a text of at most {_MOST_TEXT:,} characters, not {value!r:.60}.")
    return redact(value)


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= _DAY:
        raise BadInput(f"seconds are a number from 0 to {_DAY:,.0f}, not {value!r:.60}.")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadInput(f"flag is true or false, not {value!r:.60}.")
    return value
