"""``lab.judge``: a scorer that asks a model."""

from __future__ import annotations

from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api.ask import spec_of
from llmops_lab.flows.judge import JudgeModel
from llmops_lab.records import ModelSpec
from llmops_lab.scorers._run import Scorer, bind


def judge(
    kind: str, *, model: str | ModelSpec | None = None, label: str | None = None, budget: float | None = None, **options: Any
) -> Scorer:
    """A scorer that asks a model: ``lab.judge("rubric", model="openai:NAME@URL", criteria="The reply is polite.")``.

    For ``lab.grid(scorers=[...])``, or called as ``judge(reply, target, row)``. Its calls are recorded in the ledger, and a verdict of
    the same judge about the same text is never bought again. ``budget`` is a cap in USD on what this judge spends.
    """
    asked = JudgeModel(spec_of(model), _settings.load(), budget=budget)
    return bind(kind, label=label, resources={"ask": asked}, **options)
