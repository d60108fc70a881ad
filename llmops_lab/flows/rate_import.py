"""Ratings that a panel could not save are read out of the file that it offered instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, LabError
from llmops_lab.flows.rate_item import OpenQueue, rater_of, submit, undo

_GIVEN = ("id", "expects", "comment", "seconds", "flag", "skip", "correction")


def import_ratings(opened: OpenQueue, path: str | Path) -> list[int]:
    """Save each line under its own id, so that one which did arrive is not doubled; the rows. Raises BadInput naming what was refused."""
    lines = _lines(opened, Path(path))
    rows, refused = [], []
    for number, line in lines:
        given = {name: line.get(name) for name in _GIVEN} | {"flag": line.get("flag") or False}
        try:
            item, rater = line.get("item"), rater_of(opened, line.get("rater"))
            said = line.get("value")
            rows.append(undo(opened, item, rater, given) if line.get("undo") else submit(opened, item, rater, said, given))
        except LabError as error:
            refused.append(f"line {number}: {error}")
    if refused:
        told = "; ".join(refused[:5])
        raise BadInput(f"{len(rows)} of {len(lines)} ratings are saved, {len(refused)} refused: {told} The file can be taken in again.")
    return rows


def _lines(opened: OpenQueue, path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        # A line ends where the panel ended it: splitlines() would also cut at what JSON leaves in a comment as it is, such as U+2028.
        texts = [(number, text) for number, text in enumerate(path.read_text("utf-8").split("\n"), 1) if text.strip()]
        lines = [(number, json.loads(text)) for number, text in texts]
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as lines of JSON: {error}") from error
    for number, line in lines:
        if not isinstance(line, dict) or line.get("queue") != opened.name:
            raise BadInput(f"line {number} of {path} is no rating of the queue {opened.name!r}. Nothing was taken in.")
    return lines
