"""``%config LLMOpsLab``: the settings of this kernel. They win over the environment and over pyproject.toml."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Mapping
from typing import Any

from traitlets import TraitType
from traitlets.config import Configurable

from llmops_lab import settings


class Setting(TraitType):
    """One setting. Reading it gives the value in force, wherever it comes from; writing it is ``lab.configure``."""

    def get(self, obj: Any, cls: Any = None) -> Any:
        """The value in force."""
        return getattr(settings.load(), str(self.name))

    def set(self, obj: Any, value: Any) -> None:
        """Override it; None takes the override back. Raises BadInput."""
        settings.configure(**{str(self.name): dict(value) if isinstance(value, Mapping) else value})


def _settable() -> dict[str, Setting]:
    notes = {}
    for field, note in itertools.pairwise(ast.parse(inspect.getsource(settings.Settings)).body[0].body):  # type: ignore[attr-defined]
        if isinstance(field, ast.AnnAssign) and isinstance(note, ast.Expr):
            notes[ast.unparse(field.target)] = " ".join(str(ast.literal_eval(note.value)).split())
    return {name: Setting(help=notes.get(name, "")).tag(config=True) for name in settings.origins()}


LLMOpsLab = type("LLMOpsLab", (Configurable,), {"__doc__": __doc__, **_settable()})


def install(ipython: Any) -> None:
    """Let ``%config`` know the settings."""
    ipython.configurables.append(LLMOpsLab())


def remove(ipython: Any) -> None:
    """Take them away; what was set stays set."""
    ipython.configurables[:] = [each for each in ipython.configurables if type(each) is not LLMOpsLab]
