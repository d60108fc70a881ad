"""The embedder for scorers and few-shot examples that need one: the settings' own, unless another is named."""

from __future__ import annotations

from typing import Any

from llmops_lab import plugins
from llmops_lab.prompts.template import Prompt
from llmops_lab.settings import Settings


def embedder(settings: Settings, name: str = "") -> Any:
    """Texts -> (n, d) array of rows of length 1. Raises UnknownName, BadInput or MissingExtra."""
    kind, _, target = (name or settings.embedder).partition(":")
    return plugins.find("embedders", kind).connect(target, settings=settings)


def ready_to_pick(prompt: Prompt, settings: Settings) -> Prompt:
    """The prompt with the embedder that its examples name, where they are chosen by nearness. Raises as ``embedder`` does."""
    if prompt.examples is None or not prompt.needs_embedder:
        return prompt
    return prompt.with_embed(embedder(settings, prompt.examples.embedder))
