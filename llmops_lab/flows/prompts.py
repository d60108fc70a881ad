"""The prompt library as a flow needs it: opened for the settings, and saving with what it changed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.governance.approvals import Rules
from llmops_lab.prompts.library import Library
from llmops_lab.prompts.template import Prompt
from llmops_lab.settings import Settings
from llmops_lab.track.prompts import Registry


@dataclass(frozen=True)
class Saved:
    """A prompt in the library. ``new`` is False when a version had this content already; ``before`` was the latest version until now."""

    prompt: Prompt
    before: Prompt | None
    new: bool


def library(settings: Settings) -> Library:
    """The prompt library in MLflow's registry. Nothing is opened before the first use.

    It moves no alias that the project's own ``release`` rules guard. Where a project has written none, its aliases move as in any
    registry, and the history says of such a move that no gate was held; ``lab.promote`` asks for one all the same.
    """

    def may_move(name: str, alias: str, version: int | str | None) -> None:
        asked = Rules.of(settings.release).asks(alias) if settings.release else ""
        if asked:
            step = f"lab.rollback('{name}', '{alias}')" if version is None else f"lab.promote('{name}', {version}, '{alias}')"
            raise BadInput(
                f"{name}@{alias} asks for {asked}, and nothing here would see to that. Type {step}. An alias that the settings do not "
                "guard moves freely: [tool.llmops_lab.release] gate, approval."
            )

    return Library(Registry(settings), may_move=may_move)


def save(prompt: Prompt, settings: Settings) -> Saved:
    """Save a prompt under its name. Raises BadInput for a name that cannot be kept, Unreachable when MLflow is away."""
    shelf = library(settings)
    try:
        before = shelf.get(prompt.name) if prompt.name else None
    except UnknownName:
        before = None
    version = shelf.save(prompt)
    new = before is None or version > (before.version or 0)
    return Saved(dataclasses.replace(prompt, version=version), before, new)
