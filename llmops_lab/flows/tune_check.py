"""What is known to be wrong with a tuning before a kernel is started: recipe, base, packages, rows, and room for its checkpoints."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.errors import BadInput
from llmops_lab.flows.sweep import recipes
from llmops_lab.flows.tune import recipe_for
from llmops_lab.flows.tune_base import check_packages, folder_of
from llmops_lab.flows.tune_data import HELD_OUT, NO_FILE
from llmops_lab.grids.rows import Rows
from llmops_lab.settings import Settings
from llmops_lab.training import data, estimate
from llmops_lab.training.sft import Recipe

LEAST = 6
"""Rows that a verdict needs: of fewer, no difference can be shown at 5 %, however large it is."""
_SETS = ("validation", "test", "general", "replay")


def check(values: Mapping[str, Any], read: Callable[[str], Rows | None], settings: Settings, *, here: bool) -> None:
    """Check the parameters of a template that tunes ``base``. ``read`` gives a file's rows, None for one that an earlier job will make.

    ``here``: the kernel is this Python, so its packages are the kernel's. Raises UnknownName, MissingExtra or BadInput.
    """
    made = _recipes(values)
    if not values.get("data"):
        raise BadInput(NO_FILE)
    if here:
        check_packages(values.get("method", "lora"))
    _check_rows(values, read)
    _check_room(estimate.disk(folder_of(values["base"]), made), settings)


def _check_room(wanted: int, settings: Settings) -> None:
    home = _settings.home_dir(settings)
    there = next(each for each in (home, *home.parents) if each.is_dir())
    free, begun = shutil.disk_usage(there).free, home / "tuning"
    old = _size(begun)  # one that was killed goes on in the room that it has
    if wanted > free + old:
        kept = f", beside {estimate.in_words(old)} of trainings that were begun ({begun})" if old else ""
        raise BadInput(
            f"the tuning needs about {estimate.in_words(wanted)} of disk for its checkpoints and what comes out, and "
            f"{estimate.in_words(free)} are free in {home}{kept}. Make room, name a folder on another disk (LLMOPS_LAB_HOME), or train "
            f"less (method='lora', a lower rank)."
        )


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a training that runs deletes its old checkpoints
                total += os.stat(os.path.join(place, name)).st_size
    return total


def _recipes(values: Mapping[str, Any]) -> list[Recipe]:
    fields = [each.name for each in dataclasses.fields(Recipe)]
    given = {name: values[name] for name in fields if name in values}
    if "tried" in values:
        return list(recipes(values["base"], values["tried"], most=values.get("most", 12), **given).values())
    return [recipe_for(values["base"], **given)]


def _check_rows(values: Mapping[str, Any], read: Callable[[str], Rows | None]) -> None:
    counts = {}
    for name in ("data", *_SETS):
        rows = read(values[name]) if values.get(name) else None
        if rows is not None:
            counts[name] = len(data.read(rows.items, rows.source, rows.ids))
    judged = ["test", "general"] if "test" in values else ["validation"]
    for name in judged:
        if name in counts and counts[name] < LEAST:
            raise BadInput(
                f"{name}: {values[name]} has {counts[name]} rows. No verdict can come of fewer than {LEAST}, and 100 tell more: add rows."
            )
    if not values.get(judged[0]) and "data" in counts and round(counts["data"] * HELD_OUT) < LEAST:
        raise BadInput(
            f"data: {values['data']} has {counts['data']} rows, and a tenth of them would be held out for the verdict, which needs "
            f"{LEAST} or more. Name a file of other rows ({judged[0]}=...), or give {round(LEAST / HELD_OUT)} rows."
        )
