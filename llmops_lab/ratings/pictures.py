"""Pictures of replies as data URIs: from a data URI, a file of this machine, or the parts of a message."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput

MOST_BYTES = 5_000_000
_KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp"}
_MAGIC = {"png": (b"\x89PNG\r\n\x1a\n",), "jpeg": (b"\xff\xd8\xff",), "gif": (b"GIF87a", b"GIF89a"), "webp": (b"RIFF",)}
_URI = re.compile(r"data:image/([a-z+.-]+);base64,(.*)", re.DOTALL)


def parted(value: Any, where: str) -> tuple[str, tuple[str, ...]]:
    """The text and the pictures of a value: a text, a picture's data URI or file, or a list of OpenAI-style parts. Raises BadInput."""
    if isinstance(value, str):
        found = picture(value, where)
        return ("", (found,)) if found else (value, ())
    if isinstance(value, Sequence):
        parts = [_part(each, where) for each in value]
        return "\n".join(text for text, _ in parts if text), tuple(image for _, images in parts for image in images)
    return ("" if value is None else str(value)), ()


def _part(part: Any, where: str) -> tuple[str, tuple[str, ...]]:
    if isinstance(part, Mapping) and part.get("type") == "image_url":
        url = part.get("image_url")
        text = str(url.get("url", "") if isinstance(url, Mapping) else url)
        found = picture(text, where)
        return (f"[picture at {text[:200]}]", ()) if found is None else ("", (found,))
    if isinstance(part, Mapping) and "text" in part:
        return str(part["text"]), ()
    return parted(part, where) if isinstance(part, str) else (str(part), ())


def picture(text: str, where: str) -> str | None:
    """The data URI of a picture, or None for any other text. Raises BadInput for a picture that is too large or is none."""
    if text.startswith("data:image/"):
        return _from_uri(text, where)
    if len(text) > 500 or "\n" in text or Path(text).suffix.lower() not in _KINDS:
        return None
    path = Path(text).expanduser()
    if not path.is_file():
        return None  # a text that only reads like a file's name
    if path.stat().st_size > MOST_BYTES:
        raise BadInput(f"{where}: the picture {path} has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are shown. Make it smaller.")
    try:
        return _uri(_KINDS[path.suffix.lower()], path.read_bytes(), f"{where}: {path}")
    except OSError as error:
        raise BadInput(f"{where}: the picture {path} cannot be read: {error.strerror}.") from error


def _from_uri(text: str, where: str) -> str:
    found = _URI.fullmatch(text)
    kind = {"jpg": "jpeg"}.get(found[1], found[1]) if found else ""
    if found is None or kind not in _MAGIC:
        raise BadInput(f"{where}: a picture is a data URI of png, jpeg, gif or webp in base64, not {text[:40]!r}.")
    if len(found[2]) > MOST_BYTES * 4 // 3 + 4:
        raise BadInput(f"{where}: the picture is larger than {MOST_BYTES:,} bytes. Make it smaller.")
    try:
        return _uri(kind, base64.b64decode("".join(found[2].split()), validate=True), where)
    except binascii.Error as error:
        raise BadInput(f"{where}: the picture's base64 cannot be read: {error}.") from error


def _uri(kind: str, data: bytes, where: str) -> str:
    if not data.startswith(_MAGIC[kind]):
        raise BadInput(f"{where} is no {kind} picture.")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
