"""What raters are asked, and which answers there are. A level has an anchor: a text that says what it means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llmops_lab.errors import BadInput

Mode = Literal["single", "pairwise", "ranking"]
Level = int | float | str | bool
MODES = ("single", "pairwise", "ranking")
VERDICTS = ("a", "b", "tie", "bad")
"""What a pairwise rating says: a is better, b is better, both are as good, both are bad."""
_MOST_LEVELS = 20


@dataclass(frozen=True)
class Rubric:
    """A question with anchored levels: ``Rubric("How polite is it?", levels={1: "rude: ...", 2: "plain", 3: "warm: ..."})``.

    ``levels`` are for mode "single", in the order in which they are offered; a level is a number, a text or true/false. ``guide`` says how
    to judge, ``examples`` show it: texts, or pairs of a reply and its level. Raises BadInput.
    """

    question: str
    levels: Mapping[Level, str] = field(default_factory=dict)
    guide: str = ""
    examples: Sequence[Any] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.question, str) or not self.question.strip():
            raise BadInput(
                f"a rubric begins with its question, a text: Rubric('How polite is it?', levels={{...}}), not {self.question!r:.60}."
            )
        if not isinstance(self.levels, Mapping):
            raise BadInput("levels are values with what they mean: levels={1: 'rude: ...', 2: 'plain: ...', 3: 'warm: ...'}.")
        if len(self.levels) == 1 or len(self.levels) > _MOST_LEVELS:
            raise BadInput(f"a rubric has from 2 to {_MOST_LEVELS} levels, not {len(self.levels)}.")
        for level, anchor in self.levels.items():
            if not isinstance(level, int | float | str | bool) or (isinstance(level, float) and not math.isfinite(level)) or level == "":
                raise BadInput(f"a level is a number, a text or true/false, not {level!r:.60}.")
            if not isinstance(anchor, str):
                raise BadInput(f"the level {level!r} needs a text that says what it means, not {anchor!r:.60}.")
        if len({str(level) for level in self.levels}) < len(self.levels):
            raise BadInput("two levels read the same. Give each a text or a number of its own.")
        object.__setattr__(self, "levels", dict(self.levels))
        object.__setattr__(self, "examples", tuple(_example(each) for each in self.examples))

    def to_data(self) -> dict[str, Any]:
        """The rubric as JSON-able data; levels keep their order and their type."""
        levels = [[level, anchor] for level, anchor in self.levels.items()]
        return {"question": self.question, "levels": levels, "guide": self.guide, "examples": [list(each) for each in self.examples]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Rubric:
        """The rubric that ``to_data`` wrote."""
        return cls(data["question"], dict(data["levels"]), data["guide"], [tuple(each) for each in data["examples"]])


def _example(given: Any) -> tuple[str, Any]:
    if isinstance(given, str):
        return given, None
    if isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[0], str):
        return given[0], given[1]
    raise BadInput(f"an example is a text, or a pair of a text and its level, not {given!r:.60}.")


def checked(mode: str, rubric: Rubric, sides: Sequence[str], value: Any) -> Level:
    """The value as it is stored. ``sides`` are the item's letters. Raises BadInput naming what may be said."""
    value = value.item() if hasattr(value, "item") else value
    if mode == "single":
        return _level(rubric, value)
    if mode == "pairwise":
        if value not in VERDICTS:
            raise BadInput(f"a pairwise rating is {', '.join(map(repr, VERDICTS[:-1]))} or {VERDICTS[-1]!r}, not {value!r:.60}.")
        return str(value)
    return written(ranks(value, sides))


def _level(rubric: Rubric, value: Any) -> Level:
    for level in rubric.levels:
        if level == value and isinstance(level, bool) == isinstance(value, bool):
            return level
    for level in rubric.levels:  # out of a file, where all is text
        if isinstance(value, str) and str(level) == value.strip():
            return level
    raise BadInput(f"{value!r:.60} is no level of this rubric. Known: {', '.join(map(repr, rubric.levels))}.")


def ranks(value: Any, sides: Sequence[str]) -> list[list[str]]:
    """A ranking as groups, the best first: ``"b>a=c"`` is [["b"], ["a", "c"]]. Raises BadInput unless every side is there once."""
    text = value.replace(" ", "") if isinstance(value, str) else ""
    groups = [group.split("=") for group in text.split(">")]
    named = [side for group in groups for side in group]
    if sorted(named) != sorted(sides):
        raise BadInput(f"a ranking names each of {', '.join(sides)} once, the best first, as in {'>'.join(sides)!r}; it was {value!r:.60}.")
    return [sorted(group) for group in groups]


def written(groups: Sequence[Sequence[str]]) -> str:
    """Groups of equals, the best first, as they are stored."""
    return ">".join("=".join(group) for group in groups)
