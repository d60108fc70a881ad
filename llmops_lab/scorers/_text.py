"""What the text scorers share: the text of an expected value, what counts as none, and a cap on length.

An expected value from a table is not always text. The rules, for every scorer: a list holds several right answers; a
whole number is written without ``.0`` (a column of integers with gaps arrives as floats); true and false are written in
lower case; None, NaN, NaT and an empty list are no expected value, an empty string is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops_lab import records

CAP = 100_000  # characters; beyond it the overlap measures take seconds a cell


def plain(value: Any) -> Any:
    """The value as plain Python data: numpy scalars and arrays (as a Parquet list column gives them) are unwrapped."""
    if value is None or isinstance(value, (str, bool, int, float, list, tuple, dict)):
        return value
    return value.tolist() if hasattr(value, "tolist") else value


def is_missing(value: Any) -> bool:
    """True for None, NaN, NaT, pandas' NA, and a list of nothing else. An empty string is a value."""
    return all(map(is_missing, value)) if isinstance(value, (list, tuple)) else records.is_missing(value)


def expected_texts(target: Any) -> list[str]:
    """All right answers as text. Raises TypeError for an object, which has no single text."""
    values = target if isinstance(target, (list, tuple)) else [target]
    return [expected_text(each) for each in values if not is_missing(each)]


def expected_text(value: Any) -> str:
    """One expected value as text, by the rules in this module's docstring."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Mapping):
        raise TypeError("the expected value is an object; the scorer json_fields compares objects")
    return str(value)


def clip(text: str, limit: int = CAP) -> tuple[str, str]:
    """The text cut to ``limit`` characters, and the reason to show; the reason is empty when nothing was cut."""
    if len(text) <= limit:
        return text, ""
    return text[:limit], f"only the first {limit:,} characters were scored"


def well_formed(text: str) -> str:
    """The text with lone surrogates as ``?``, for libraries that take UTF-8 alone."""
    return text.encode("utf-8", "replace").decode("utf-8")
