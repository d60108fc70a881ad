"""What was sent for a cell of a grid that was opened again: its prompt rendered anew from what the ledger keeps, or why it cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.errors import LabError
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import Message


def rendered(prompts: Sequence[Mapping[str, Any]], label: str, row: Mapping[str, Any] | None) -> tuple[tuple[Message, ...] | None, str]:
    """The messages of the prompt with this label for a row, and ""; or None and why. ``prompts`` is what a grid's plan keeps of them.

    Secrets in the row and the template are masked, as they were when they were recorded; what was sent held them.
    """
    kept = next((each for each in prompts if each["label"] == label), None)
    if kept is None:
        return None, f"the grid's record does not hold a prompt {label!r}."
    if "system" not in kept:
        return None, "this grid was recorded before system messages and patterns were kept with it; its template alone would not be all."
    if kept["examples"]:
        return None, f"its examples were chosen for each row ({kept['examples']}), and what was chosen is not kept."
    if row is None:
        return None, "its row is not in this ledger: an old grid, one of another machine, or a row that was forgotten."
    try:
        return Prompt(kept["template"], name=kept["name"], system=kept["system"], pattern=kept["pattern"]).render(row), ""
    except LabError as error:
        return None, str(error)
