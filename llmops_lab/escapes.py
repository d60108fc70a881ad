"""Characters that must not get through, written as escapes: for a database, for a file, for a terminal or a page."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def encodable(text: str) -> str:
    """The text with its lone surrogates as escapes: no UTF-8 can hold them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def storable(text: str) -> str:
    """The same without NUL: what text columns and protocol buffers take."""
    return encodable(text).replace("\x00", "\\x00")


def inert(text: str) -> str:
    """The text with control characters, lone surrogates and direction marks as escapes, so that it can drive no terminal and no page."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}", text)
