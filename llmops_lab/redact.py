"""Secrets leave no trace: every text passes through ``redact`` before it is stored, logged, shown or exported.

Two sources are known: values of environment variables whose names say that they are keys (or that the settings name), and
strings of the shapes that providers give their keys. What the user put into a prompt is still *sent* as written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from llmops_lab import errors

_SECRET_NAME = re.compile(r"(API_?KEY|ACCESS_?KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|PRIVATE_?KEY)(?:_|$)|_PAT$", re.IGNORECASE)
_NOT_SECRET = frozenset({"TOKENIZERS_PARALLELISM"})
_MARKER_TOKEN = re.compile(r"(pad|eos|bos|unk|sep|cls|mask|stop)_token", re.IGNORECASE)  # of a tokenizer
_SHAPES = (
    r"sk-(?:proj-|ant-|or-v1-|svcacct-|admin-)?[A-Za-z0-9_\-]{16,}",
    r"hf_[A-Za-z0-9]{16,}",
    r"gh[pousr]_[A-Za-z0-9]{20,}",
    r"github_pat_[A-Za-z0-9_]{20,}",
    r"glpat-[A-Za-z0-9_\-]{16,}",
    r"gsk_[A-Za-z0-9]{16,}",
    r"xai-[A-Za-z0-9]{16,}",
    r"pplx-[A-Za-z0-9]{16,}",
    r"nvapi-[A-Za-z0-9_\-]{16,}",
    r"r8_[A-Za-z0-9]{20,}",
    r"tgp_v1_[A-Za-z0-9_\-]{16,}",
    r"AIza[A-Za-z0-9_\-]{30,}",
    r"ya29\.[A-Za-z0-9_\-]{20,}",
    r"(?:AKIA|ASIA)[A-Z0-9]{16}",
    r"xox[abeprs]-[A-Za-z0-9\-]{10,}",
    r"lsv2_[a-z]{2}_[A-Za-z0-9_]{20,}",
    r"dapi[a-f0-9]{32}",
    r"eyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}",
    r"(?<=[Bb]earer )[A-Za-z0-9._~+/\-]{16,}=*",
    r"(?<=://)[^\s/:@]+:[^\s/@]+(?=@)",
)
_SHAPE = re.compile("|".join(f"(?<![A-Za-z0-9]){shape}" if shape[0] != "(" or shape.startswith("(?:AKIA") else shape for shape in _SHAPES))
# One of these stands in every string of a known shape; looking for them first keeps ordinary text cheap, and looking for
# the character that many of them share keeps it cheaper.
_NEEDLES = {
    "_": ("hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "gsk_", "r8_", "tgp_v1_", "lsv2_"),
    "-": ("sk-", "glpat-", "xai-", "pplx-", "nvapi-", "xox"),
    "": ("AIza", "ya29.", "AKIA", "ASIA", "dapi", "eyJ", "earer ", "://"),
}
MASK = "[redacted]"
_MIN_SECRET_LENGTH = 8  # shorter values ("1", "true") would eat ordinary text

_named: set[str] = set()
_compiled: tuple[tuple[str, ...], re.Pattern[str] | None] = ((), None)


def name_secrets(names: Iterable[str]) -> None:
    """Say that these environment variables hold secrets, whatever their names look like (``[tool.llmops_lab.keys]`` names them)."""
    _named.update(names)


def is_secret_name(name: str) -> bool:
    """Whether what bears this name (a parameter, a key of an object) is taken to be a secret."""
    return _SECRET_NAME.search(name) is not None and _MARKER_TOKEN.fullmatch(name) is None


def _environment_pattern() -> re.Pattern[str] | None:
    global _compiled
    values = tuple(
        sorted(
            {
                value
                for name, value in os.environ.items()
                if len(value) >= _MIN_SECRET_LENGTH and (name in _named or (_SECRET_NAME.search(name) and name not in _NOT_SECRET))
            },
            key=len,
            reverse=True,  # the longest first, so that a key that begins like another is masked whole
        )
    )
    if values != _compiled[0]:
        _compiled = (values, re.compile("|".join(map(re.escape, values))) if values else None)
    return _compiled[1]


class Redactor:
    """A snapshot of the known secrets; make one per grid or question, not per call (reading the environment costs)."""

    def __init__(self) -> None:
        self._environment = _environment_pattern()

    def __call__(self, text: str) -> str:
        """The text with every known secret replaced by ``[redacted]``."""
        if len(text) < _MIN_SECRET_LENGTH:
            return text
        if self._environment is not None:
            text = self._environment.sub(MASK, text)
        if _may_hold_a_key(text):
            text = _SHAPE.sub(MASK, text)
        return text

    def tree(self, value: Any) -> Any:
        """The same for every string inside nested dicts, lists and tuples; dict keys too."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self.tree(key): self.tree(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.tree(item) for item in value)
        return value


def _may_hold_a_key(text: str) -> bool:
    for shared, needles in _NEEDLES.items():
        if shared in text:
            for needle in needles:  # a plain loop: it runs for every text of every cell
                if needle in text:
                    return True
    return False


def redact(text: str) -> str:
    """One text, redacted with the secrets known at this moment."""
    return Redactor()(text)


errors.masks[:] = [redact]
