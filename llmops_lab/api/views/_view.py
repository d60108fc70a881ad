"""What a view in a browser may ask for. One protocol, whatever carries the question: comm, HTTP, recorded answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gives back: plain JSON data, and bytes (Arrow streams) beside it."""

    data: dict[str, Any]
    buffers: tuple[bytes, ...] = ()


class View(Protocol):
    """The Python side of something that a browser shows. Calls may come from several threads at once."""

    name: str
    """Which bundle shows it: "grid", "diff" or "rating"."""

    def call(self, method: str, params: Mapping[str, Any], *, user: str) -> Answer:
        """Answer one call. Raises LabError; UnknownName for a method that is not there."""

    def listen(self, push: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Send live events to ``push`` until what this returns is called. A view without events returns at once."""

    def page(self) -> tuple[str, str]:
        """The static twin as (text/plain, text/html): readable alone, small, no script, every text inert."""


def recorded_as(method: str, params: Mapping[str, Any]) -> str:
    """The name under which a page of recorded answers keeps one: the method, and its parameters as JSON with sorted names and no blanks."""
    return f"{method} {json.dumps(params, ensure_ascii=False, sort_keys=True, separators=(',', ':'))}" if params else method
