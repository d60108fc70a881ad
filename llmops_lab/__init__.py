"""The LLM experiment workbench for notebooks: prompts, grids, scores and verdicts."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from llmops_lab import redact as _redact  # noqa: F401 - before anything can be said: it masks the secrets in every error's message

_HOME = {
    "Examples": "llmops_lab.prompts.fewshot",
    "Prompt": "llmops_lab.prompts.template",
    "Rubric": "llmops_lab.ratings.rubric",
    "Score": "llmops_lab.records",
    "agreement": "llmops_lab.api.agreement",
    "ask": "llmops_lab.api.ask",
    "bundle": "llmops_lab.api.release",
    "calibrate": "llmops_lab.api.calibrate",
    "compare": "llmops_lab.api.calls",
    "compare_all": "llmops_lab.api.calls",
    "diff": "llmops_lab.api.diff",
    "estimate": "llmops_lab.api.calls",
    "evaluation": "llmops_lab.api.evaluation",
    "configure": "llmops_lab.settings",
    "gate": "llmops_lab.api.gate",
    "grid": "llmops_lab.api.calls",
    "history": "llmops_lab.api.release",
    "job": "llmops_lab.api.job",
    "job_form": "llmops_lab.api.job_form",
    "jobs": "llmops_lab.api.job",
    "job_result": "llmops_lab.api.job_result",
    "judge": "llmops_lab.api.judge",
    "judge_bias": "llmops_lab.api.bias",
    "load": "llmops_lab.api.calls",
    "model": "llmops_lab.api.calls",
    "models": "llmops_lab.api.calls",
    "promote": "llmops_lab.api.release",
    "prompts": "llmops_lab.api.calls",
    "queue": "llmops_lab.api.queue",
    "rate": "llmops_lab.api.rate",
    "register_model": "llmops_lab.api.release",
    "retire": "llmops_lab.api.release",
    "rollback": "llmops_lab.api.release",
    "run": "llmops_lab.api.job",
    "scorer": "llmops_lab.api.calls",
    "scorers": "llmops_lab.api.calls",
}
__all__ = sorted(_HOME)


class _Package(ModuleType):
    # Importing the folder llmops_lab.prompts would otherwise put it in the place of lab.prompts; so with models and scorers.
    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOME or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


def load_ipython_extension(ipython: Any) -> None:
    """Add the magics to a shell: what ``%load_ext llmops_lab`` calls."""
    importlib.import_module("llmops_lab.magics").load_ipython_extension(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take the magics away again: what ``%unload_ext llmops_lab`` calls."""
    importlib.import_module("llmops_lab.magics").unload_ipython_extension(ipython)
