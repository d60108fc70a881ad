"""The embedder that the settings name, for scorers and few-shot examples that need one."""

from __future__ import annotations

from typing import Any

from llmops_lab import plugins
from llmops_lab.settings import Settings


def embedder(settings: Settings) -> Any:
    """Texts -> (n, d) array of rows of length 1. Raises UnknownName, BadInput or MissingExtra."""
    kind, _, target = settings.embedder.partition(":")
    return plugins.find("embedders", kind).connect(target, settings=settings)
