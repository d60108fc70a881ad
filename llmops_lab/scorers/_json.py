"""Reading JSON as the standard has it: a reply's, or an expected value's."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from llmops_lab.scorers._blocks import blocks

_LANGUAGES = frozenset({"json", "jsonc", "json5"})


def read_json(text: str, *, fences: bool = True) -> Any:
    """The value of a JSON text, or of its first fenced block where ``fences``.

    Raises ValueError, with the place, for what is not JSON by RFC 8259: NaN and Infinity are not, nor is nesting
    deeper than Python's parser goes.
    """
    found = blocks(text, _LANGUAGES) if fences else [text]
    if not found:
        raise ValueError("no fenced block is marked as JSON")
    try:
        return json.loads(found[0], parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
