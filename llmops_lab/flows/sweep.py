"""A small grid of hyperparameters: the recipes to try, and which of them won, if any did."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows.tune import recipe_for
from llmops_lab.records import Verdict
from llmops_lab.training.sft import Recipe


@dataclass(frozen=True)
class Settled:
    """How a sweep ended. ``leader`` has the best mean; ``level`` are those that no verdict sets apart from it, the leader first."""

    leader: str
    level: tuple[str, ...]
    beaten: tuple[str, ...]

    @property
    def winner(self) -> str | None:
        """The leader where every other is worse by a verdict; else None."""
        return None if len(self.level) > 1 else self.leader

    def __str__(self) -> str:
        if self.winner:
            return f"{self.winner} won: each of the other {len(self.beaten)} is worse by its verdict."
        others = ", ".join(self.level[1:])
        beaten = f" Worse by their verdicts: {', '.join(self.beaten)}." if self.beaten else ""
        every = "None is distinguishable from the others" if not self.beaten else "There is no winner"
        best = f"{every}: {self.leader} has the best mean, and no verdict sets it apart from {others}."
        return f"{best}{beaten} Take the cheapest of these, or ask more rows."


def recipes(base: str, tried: Mapping[str, Sequence[Any]], *, most: int = 12, **common: Any) -> dict[str, Recipe]:
    """Every combination of the values in ``tried`` (field of the recipe -> values) by a label that tells it.

    Raises UnknownName for a field that no recipe has, BadInput for no values or more than ``most`` combinations.
    """
    fields = [field.name for field in dataclasses.fields(Recipe)]
    for name, values in tried.items():
        if name not in fields:
            raise UnknownName("field of a recipe", name, fields)
        if not isinstance(values, list | tuple) or not values:
            raise BadInput(f"{name}: give the values to try as a list, not {values!r}.")
    found = list(itertools.product(*tried.values()))
    if not 2 <= len(found) <= most:
        raise BadInput(f"the grid has {len(found)} combinations; a sweep takes 2 to {most} (most={most}). Each is a training of its own.")
    return {
        " ".join(f"{name}={value}" for name, value in zip(tried, values, strict=True)): recipe_for(
            base, **{**common, **dict(zip(tried, values, strict=True))}
        )
        for values in found
    }


def leader_of(means: Mapping[str, float], *, higher_is_better: bool = True) -> str:
    """The label with the best mean; of equal ones the first."""
    return (max if higher_is_better else min)(means, key=lambda label: means[label])


def settled(leader: str, labels: Sequence[str], verdicts: Sequence[Verdict]) -> Settled:
    """Who won, of ``verdicts`` that judge every other label against the leader, the chance of any false one being held."""
    beaten = {each.b for each in verdicts if each.outcome == "worse"}
    level = [label for label in labels if label != leader and label not in beaten]
    return Settled(leader, (leader, *level), tuple(label for label in labels if label in beaten))
