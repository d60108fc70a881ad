"""Which rater sees what in which order. Drawn by SHA-256 from the queue's seed, so it is the same in every process and every Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from llmops_lab.records import digest


def draw(*parts: object) -> float:
    """A number from 0 to 1, the same for the same parts."""
    return int(digest(list(parts))[:13], 16) / float(1 << 52)


def side_order(seed: int, rater: str, item: str, sides: Sequence[str]) -> str:
    """How the sides of an item are shown to a rater, as in ``"ba"``."""
    return "".join(sorted(sides, key=lambda side: (draw("side", seed, rater, item, side), side)))


def item_order(seed: int, rater: str, items: Iterable[str], repeats: Mapping[str, str]) -> list[str]:
    """The items in a rater's own order. ``repeats`` (name of a repeated item -> the item) come a good while after the first time."""
    return list(_item_order(seed, rater, tuple(items), tuple(repeats.items())))


@lru_cache(maxsize=64)  # it is asked for at every step of every rater
def _item_order(seed: int, rater: str, items: tuple[str, ...], repeated: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    repeats, keys = dict(repeated), dict[str, float]()
    for item in items:
        first = draw("item", seed, rater, repeats.get(item, item))
        keys[item] = first + (1 - first) * (0.4 + 0.6 * draw("repeat", seed, rater, item)) if item in repeats else first
    return tuple(sorted(keys, key=lambda item: (keys[item], item)))


def sample(seed: int, items: Sequence[str], number: int, why: str) -> list[str]:
    """So many of the items, drawn by chance, in their old order."""
    chosen = set(sorted(items, key=lambda item: (draw(why, seed, item), item))[:number])
    return [item for item in items if item in chosen]
