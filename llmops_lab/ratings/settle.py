"""Where raters disagree, and what they prefer: from the ratings that hold to disagreements, votes and preference pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from llmops_lab.ratings.items import Item, Spec
from llmops_lab.ratings.rubric import ranks


@dataclass(frozen=True, slots=True)
class Said:
    """A rating that holds."""

    item: str
    rater: str
    value: Any
    comment: str | None = None


def by_item(spec: Spec, said: Iterable[Said]) -> dict[str, list[Said]]:
    """The ratings of each item; what was shown a second time is left out."""
    found: dict[str, list[Said]] = {}
    for each in said:
        if each.item not in spec.repeats:
            found.setdefault(each.item, []).append(each)
    return found


def disagreements(found: Mapping[str, Sequence[Said]]) -> dict[str, Sequence[Said]]:
    """The items of which two raters said different things."""
    return {item: ratings for item, ratings in found.items() if len({str(each.value) for each in ratings}) > 1}


def beats(mode: str, value: Any, first: str, second: str) -> int:
    """What a pairwise rating or a ranking says of two sides: 1 the first is better, -1 the second, 0 neither."""
    if mode == "pairwise":
        return {first: 1, second: -1}.get(value, 0)
    groups = ranks(value, [side for group in value.split(">") for side in group.split("=")])
    place = {side: number for number, group in enumerate(groups) for side in group}
    return (place[second] > place[first]) - (place[second] < place[first])


@dataclass(frozen=True, slots=True)
class Vote:
    """What the raters of an item made of two of its sides: so many for each, of so many in all."""

    item: str
    first: str
    second: str
    for_first: int
    for_second: int
    of: int

    @property
    def agreement(self) -> float:
        """The share of raters who prefer the side that most prefer."""
        return max(self.for_first, self.for_second) / self.of


def votes(spec: Spec, items: Mapping[str, Item], found: Mapping[str, Sequence[Said]], settled: Mapping[str, Any]) -> list[Vote]:
    """For each rated item and each two of its sides, who won; what was settled counts in place of the votes."""
    made = []
    for name, ratings in found.items():
        values = [settled[name]] if name in settled else [each.value for each in ratings]
        for first, second in combinations(items[name].letters, 2):
            said = [beats(spec.mode, value, first, second) for value in values]
            made.append(Vote(name, first, second, said.count(1), said.count(-1), len(said)))
    return made


def consistency(spec: Spec, said: Iterable[Said]) -> dict[str, list[bool]]:
    """Rater -> for each item that they rated twice, whether they said the same again."""
    values = {(each.rater, each.item): each.value for each in said}
    found: dict[str, list[bool]] = {}
    for (rater, item), value in values.items():
        if (rater, spec.repeats.get(item, "")) in values:
            found.setdefault(rater, []).append(values[rater, spec.repeats[item]] == value)
    return found


def gold_hits(spec: Spec, said: Iterable[Said]) -> dict[str, list[bool]]:
    """Rater -> for each item with a known answer that they rated, whether they gave it."""
    found: dict[str, list[bool]] = {}
    for each in said:
        if each.item in spec.gold:
            found.setdefault(each.rater, []).append(spec.gold[each.item] == each.value)
    return found
