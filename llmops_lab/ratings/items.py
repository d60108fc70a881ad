"""What is rated: items of one side or several, and the queue that holds them. Who made a side stays in here until the queue is closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.ratings.order import draw, sample
from llmops_lab.ratings.rubric import Mode, Rubric, checked
from llmops_lab.records import digest

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Side:
    """One reply. ``variant`` says who made it, ``cell`` which cell of ``grid`` it is (None where it comes from plain rows).

    ``asked`` are the messages that it answers, as far as they are known.
    """

    side: str
    variant: str
    text: str
    images: tuple[str, ...] = ()
    prompt: str | None = None
    model: str | None = None
    replicate: int = 0
    cell: int | None = None
    key: str | None = None
    asked: tuple[Mapping[str, Any], ...] = ()
    grid: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to rate. ``prompt`` is what was asked, ``sources`` what the reply should be held against (name, text)."""

    item: str
    row_id: str
    prompt: str
    sides: tuple[Side, ...]
    sources: tuple[tuple[str, str], ...] = ()
    images: tuple[str, ...] = ()
    suggestion: Any = None

    @property
    def letters(self) -> list[str]:
        """The sides' letters."""
        return [side.side for side in self.sides]

    def to_data(self) -> dict[str, Any]:
        """All of it as JSON-able data."""
        return {**_fields(self), "sides": [_fields(side) for side in self.sides]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Item:
        """The item that ``to_data`` wrote."""
        sides = tuple(Side(**{**side, "images": tuple(side["images"]), "asked": tuple(side["asked"])}) for side in data["sides"])
        sources = tuple((name, text) for name, text in data["sources"])
        return cls(**{**data, "sides": sides, "sources": sources, "images": tuple(data["images"])})


@dataclass(frozen=True)
class Spec:
    """What was fixed when a queue was made. ``overlap`` raters are wanted for each item; ``raters`` None: whoever comes.

    ``gold`` (item -> the known value) and ``repeats`` (name of the second time -> the item) are hidden from raters. ``grid``: where the
    replies come from, None for plain rows. ``left_out`` rows had no reply on a side.
    """

    mode: Mode
    rubric: Rubric
    variants: tuple[str, ...]
    overlap: int
    raters: tuple[str, ...] | None
    seed: int
    gold: Mapping[str, Any] = field(default_factory=dict)
    repeats: Mapping[str, str] = field(default_factory=dict)
    suggestions: bool = False
    grid: str | None = None
    left_out: int = 0
    items: str = ""
    """Digest of all items."""

    def to_data(self) -> dict[str, Any]:
        """All of it as JSON-able data."""
        return {**vars(self), "rubric": self.rubric.to_data(), "gold": dict(self.gold), "repeats": dict(self.repeats)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Spec:
        """The spec that ``to_data`` wrote."""
        raters = None if data["raters"] is None else tuple(data["raters"])
        data = {name: data[name] for name in cls.__dataclass_fields__}
        return cls(**{**data, "rubric": Rubric.from_data(data["rubric"]), "variants": tuple(data["variants"]), "raters": raters})


@dataclass(frozen=True, slots=True)
class Found:
    """One row with what its variants answered: variant -> sides (one a replicate).

    ``gold`` and ``suggestion`` are known and suggested values: variant -> value, or "" -> value where it is one for the row.
    """

    row_id: str
    prompt: str
    sides: Mapping[str, Sequence[Side]]
    sources: tuple[tuple[str, str], ...] = ()
    images: tuple[str, ...] = ()
    gold: Mapping[str, Any] = field(default_factory=dict)
    suggestion: Mapping[str, Any] = field(default_factory=dict)


def build(spec: Spec, found: Sequence[Found], *, limit: int | None, repeats: int) -> tuple[Spec, list[Item]]:
    """The items of a queue, and its spec with what was drawn. Raises BadInput where nothing is left to rate."""
    made = [(row, item) for row in found for item in _maker(spec)(spec, row)]
    _differ([item.item for _, item in made])
    left_out = len(found) - len({row.row_id for row, _ in made})
    if not made:
        raise BadInput(f"there is nothing to rate: {len(found)} rows, and none has a reply of {' and of '.join(spec.variants)}.")
    if limit is not None:
        kept = set(sample(spec.seed, [item.item for _, item in made], limit, "limit"))
        made = [(row, item) for row, item in made if item.item in kept]
    known = [(item, _known(spec, row.gold, item, "known")) for row, item in made]
    gold = {item.item: value for item, value in known if value is not None}
    items = [replace(item, suggestion=_known(spec, row.suggestion, item, "suggested")) for row, item in made]
    if repeats > len(items):
        raise BadInput(f"{repeats} items cannot be shown twice: there are {len(items)}.")
    again = {f"{name}#2": name for name in sample(spec.seed, [item.item for item in items], repeats, "repeats")}
    _differ([*(item.item for item in items), *again])
    by_name = {item.item: item for item in items}
    items += [replace(by_name[first], item=name) for name, first in again.items()]
    mark = digest([_content(item) for item in items])
    return replace(spec, gold=gold, repeats=again, left_out=left_out, items=mark), items


def _content(item: Item) -> dict[str, Any]:
    # Without the numbers of the grid: a notebook that runs again has a new grid of the same replies, and rates them in the same queue.
    return {**item.to_data(), "sides": [{**_fields(side), "grid": None, "cell": None} for side in item.sides]}


def extend(spec: Spec, found: Sequence[Found], there: Sequence[Item]) -> list[Item]:
    """Further items for a queue that is there; what it holds already is left out."""
    held = {_replies(item) for item in there}
    taken = {item.item for item in there} | spec.repeats.keys()
    made = []
    for item in (each for row in found for each in _maker(spec)(spec, row)):
        if _replies(item) not in held:
            names = (item.row_id, *(f"{item.row_id}~{number}" for number in range(1, len(taken) + 2)))
            name = next(each for each in names if each not in taken)
            made.append(replace(item, item=name))
            taken.add(name)
            held.add(_replies(item))
    return made


def _maker(spec: Spec) -> Callable[[Spec, Found], list[Item]]:
    return {"single": _singles, "pairwise": _pairs, "ranking": _rankings}[spec.mode]


def _fields(record: Item | Side) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _replies(item: Item) -> tuple[Any, ...]:
    return tuple((side.variant, side.key or item.row_id, side.text) for side in item.sides)


def _item(row: Found, name: str, sides: Sequence[Side]) -> Item:
    lettered = tuple(replace(side, side=letter) for letter, side in zip(LETTERS, sides, strict=False))
    return Item(name, row.row_id, row.prompt, lettered, row.sources, row.images)


def _singles(spec: Spec, row: Found) -> list[Item]:
    sides = [side for variant in spec.variants for side in row.sides.get(variant, ())]
    # Numbered by chance: the first of two must not always be the same prompt.
    drawn = sorted(sides, key=lambda side: draw("name", spec.seed, row.row_id, side.variant, side.replicate))
    names = {id(side): row.row_id if len(sides) == 1 else f"{row.row_id}~{number}" for number, side in enumerate(drawn, 1)}
    return [_item(row, names[id(side)], [side]) for side in drawn]


def _pairs(spec: Spec, row: Found) -> list[Item]:
    names = [(a, b) for number, a in enumerate(spec.variants) for b in spec.variants[number + 1 :]]
    pairs = [pair for a, b in names for pair in zip(row.sides.get(a, ()), row.sides.get(b, ()), strict=False)]
    drawn = sorted(pairs, key=lambda pair: draw("name", spec.seed, row.row_id, *(side.variant for side in pair), pair[0].replicate))
    many = len(pairs) > 1
    return [_item(row, f"{row.row_id}~{number}" if many else row.row_id, pair) for number, pair in enumerate(drawn, 1)]


def _rankings(spec: Spec, row: Found) -> list[Item]:
    columns = [row.sides.get(variant, ()) for variant in spec.variants]
    lines = list(zip(*columns, strict=False))
    return [_item(row, f"{row.row_id}~{number}" if len(lines) > 1 else row.row_id, line) for number, line in enumerate(lines, 1)]


def _known(spec: Spec, values: Mapping[str, Any], item: Item, what: str) -> Any:
    named = [values[side.variant] for side in item.sides if side.variant in values] if spec.mode == "single" else []
    value = named[0] if named else values.get("")
    if value is None:
        return None
    if not named and spec.mode == "single" and item.item != item.row_id:
        raise BadInput(f"row {item.row_id} has several replies: say whose value is {what}, as in {{({item.row_id!r}, 'NAME'): {value!r}}}.")
    try:
        return checked(spec.mode, spec.rubric, item.letters, value)
    except BadInput as error:
        raise BadInput(f"the {what} value of row {item.row_id} does not fit: {error}") from error


def _differ(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(
            f"two items would be called {twice!r}. Give the rows other ids: an item is named after its row, with ~1 or #2 behind it."
        )
