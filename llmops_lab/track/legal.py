"""What MLflow accepts as a name, a value and a text, and how ours are made to fit without a word lost unsaid."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable

from llmops_lab.escapes import storable

_KEY_LIMIT = 250
_ILLEGAL = re.compile(r"[^/\w.\- ]" if os.name == "nt" else r"[^/\w.\- :]")  # MLflow forbids the colon on Windows alone


def key(name: str) -> str:
    """The name of a param, metric or tag in letters that MLflow takes; the same name always gives the same key.

    Other characters become ``_``, and so do empty path parts and ``..``. A key over 250 characters ends in a hash.
    """
    parts = (_ILLEGAL.sub("_", part) for part in name.split("/"))
    legal = "/".join("_" * max(1, len(part)) if part in ("", ".", "..") else part for part in parts)
    return legal if len(legal) <= _KEY_LIMIT else _hashed(legal, name)


def keys(names: Iterable[str]) -> dict[str, str]:
    """A key for each name, no two alike: where changed names would meet, each of them ends in a hash of its original."""
    made = {name: key(name) for name in names}
    meeting = {legal for legal, count in Counter(made.values()).items() if count > 1}
    return {name: _hashed(legal, name) if legal in meeting and legal != name else legal for name, legal in made.items()}


def cut(text: str, limit: int, where: str = "") -> str:
    """At most ``limit`` characters; what was cut is said at the end, with the hash of the whole and ``where`` it lies."""
    text = storable(text)
    if len(text) <= limit:
        return text
    note = f"... [cut from {len(text)} characters, sha256 {_hash(text)}{'; whole in ' + where if where else ''}]"
    return text[: limit - len(note)] + note


def _hashed(legal: str, name: str) -> str:
    return f"{legal[: _KEY_LIMIT - 13]}-{_hash(name)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
