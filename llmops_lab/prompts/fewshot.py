"""Few-shot examples: a small library of worked cases, and which of them a row gets to see.

Chosen ``fixed`` (always the first ones), ``random`` (drawn by the seed and the row's own fields, so the same row sees the same
examples in every run) or ``nearest`` (the most similar inputs by an embedder, the most similar one last, beside the question). An
example that is the row itself is never drawn by ``random`` or ``nearest``: it would give the answer away.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.records import Example, canonical

if TYPE_CHECKING:
    import numpy as np

WAYS = ("fixed", "random", "nearest")
_DRAWN = 3  # examples that random and nearest show when no count is given
_BATCH = 256

Embed = Callable[[list[str]], "np.ndarray[Any, Any]"]


@dataclass(frozen=True)
class Examples:
    """A library of examples and the rule that chooses from it.

    ``items`` are ``Example`` records, or mappings with the key ``output`` and at least one input field. ``choose`` is
    ``fixed``, ``random`` or ``nearest``. ``count`` examples are shown (default: all when fixed, else 3). ``by`` names the
    input field that ``nearest`` compares (default: all of the inputs). ``embedder`` names the embedder, for the record and for
    whoever fills in ``embed``, a function from n texts to an (n, d) array with rows of length 1.
    """

    items: tuple[Example, ...]
    _: KW_ONLY
    choose: str = "fixed"
    count: int | None = None
    seed: int = 0
    by: str | None = None
    embedder: str = ""
    embed: Embed | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(_example(item, number) for number, item in enumerate(self.items, 1)))
        if not self.items:
            raise BadInput("the example library is empty. Give at least one example, or leave `examples` out.")
        if self.choose not in WAYS:
            raise UnknownName("way to choose examples", self.choose, WAYS)
        if self.count is not None and (not isinstance(self.count, int) or isinstance(self.count, bool) or self.count < 1):
            raise BadInput(f"the count of examples must be a whole number above 0, not {self.count!r}.")
        if self.by is not None:
            lacking = [number for number, item in enumerate(self.items, 1) if self.by not in item.inputs]
            if lacking:
                raise BadInput(
                    f"examples are compared by {self.by!r}, which example {lacking[0]} lacks. Known: {', '.join(self.items[0].inputs)}."
                )

    @classmethod
    def of(cls, value: Any, **rule: Any) -> Examples | None:
        """An ``Examples`` from what a user may write: one, a list of examples or mappings, or None. ``rule``: as in ``Examples``."""
        if value is None or isinstance(value, Examples):
            return value
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise BadInput(f"examples must be a list of tables with input fields and an `output`, not {value!r}.")
        return cls(tuple(value), **rule)

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Examples:
        """The inverse of ``content``."""
        rest = {key: value for key, value in content.items() if key != "items"}
        return cls(tuple(Example(item["inputs"], item["output"]) for item in content["items"]), **rest)

    @property
    def content(self) -> dict[str, Any]:
        """All that decides which examples are shown, as JSON-like data: this is hashed and stored."""
        kept = {"choose": self.choose, "count": self.count, "seed": self.seed, "by": self.by, "embedder": self.embedder}
        return {"items": [{"inputs": dict(item.inputs), "output": item.output} for item in self.items], **kept}

    def with_embed(self, embed: Embed) -> Examples:
        """The same library with the embedder that ``nearest`` needs."""
        return dataclasses.replace(self, embed=embed)

    def pick(self, values: Mapping[str, Any]) -> tuple[Example, ...]:
        """The examples for one row. Raises BadInput when ``nearest`` has no embedder or the row lacks the fields to compare."""
        count = self.count or (len(self.items) if self.choose == "fixed" else _DRAWN)
        if self.choose == "fixed":
            return self.items[:count]
        others = [index for index, item in enumerate(self.items) if not _same(item, values)]
        if self.choose == "random":
            drawn = self._draw(values).sample(others, min(count, len(others)))
            return tuple(self.items[index] for index in drawn)
        text = self._text_of(values)
        if text not in self._rankings:
            self._rank([text])
        kept = set(others)
        nearest = [index for index in self._rankings[text] if index in kept][:count]
        return tuple(self.items[index] for index in reversed(nearest))

    def prepare(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Embed the rows in batches ahead of ``pick``; does nothing unless the examples are chosen by nearness."""
        if self.choose != "nearest":
            return
        new = dict.fromkeys(text for row in rows if (text := self._text_of(row)) not in self._rankings)
        for batch in _batched(list(new)):
            self._rank(batch)

    def text(self, picked: Sequence[Example]) -> str:
        """How a ``{{ examples }}`` slot shows them: blocks with an empty line between, each ``Input: ...`` and ``Output: ...``.

        With several input fields each has its own line, ``name: value``.
        """
        return "\n\n".join(f"{_inputs_text(item)}\nOutput: {item.output}" for item in picked)

    @functools.cached_property
    def _rankings(self) -> dict[str, tuple[int, ...]]:
        return {}

    @functools.cached_property
    def _vectors(self) -> np.ndarray[Any, Any]:
        return self._embedded([self._text_of(item.inputs) for item in self.items])

    def _rank(self, texts: list[str]) -> None:
        likeness = self._embedded(texts) @ self._vectors.T
        # A stable sort, so that equally near examples keep the library's order on every machine.
        orders = (-likeness).argsort(axis=1, kind="stable")[:, : (self.count or _DRAWN) + self._twins]
        for text, order in zip(texts, orders.tolist(), strict=True):
            self._rankings[text] = tuple(order)

    @functools.cached_property
    def _twins(self) -> int:
        # As many examples may be the row itself as share one input text; these are passed over after ranking.
        return max(Counter(_folded(self._text_of(item.inputs)) for item in self.items).values())

    def _embedded(self, texts: list[str]) -> np.ndarray[Any, Any]:
        if self.embed is None:
            raise BadInput("examples chosen by nearness need an embedder: Examples(..., choose='nearest', embed=FUNCTION).")
        return self.embed(texts)

    def _text_of(self, values: Mapping[str, Any]) -> str:
        fields = [self.by] if self.by else list(self.items[0].inputs)
        lacking = [name for name in fields if name not in values]
        if lacking:
            raise BadInput(
                f"examples are compared by {', '.join(map(repr, fields))}, but {lacking[0]!r} is not there. Known: {', '.join(values)}."
            )
        return "\n".join(str(values[name]) for name in fields)

    def _draw(self, values: Mapping[str, Any]) -> random.Random:
        fields = sorted({name for item in self.items for name in item.inputs} & set(values)) or sorted(values)
        row = canonical([self.seed, {name: str(values[name]) for name in fields}])
        return random.Random(hashlib.sha256(row.encode("ascii")).digest())  # noqa: S311 - a draw that must repeat, no secret


def _batched(texts: list[str]) -> Iterable[list[str]]:
    return (texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH))


def _example(item: Any, number: int) -> Example:
    if isinstance(item, Example):
        return item
    if not isinstance(item, Mapping):
        raise BadInput(f"example {number} must be a table with input fields and an `output`, not {item!r}.")
    if "output" not in item or len(item) < 2:
        raise BadInput(
            f"example {number} needs an `output` and at least one input field; it has: {', '.join(map(str, item)) or 'nothing'}."
        )
    return Example({str(name): value for name, value in item.items() if name != "output"}, str(item["output"]))


def _same(item: Example, values: Mapping[str, Any]) -> bool:
    # White space and case tell no two inputs apart here: the row's own answer must not stand among its examples.
    return all(name in values and _folded(values[name]) == _folded(value) for name, value in item.inputs.items())


def _folded(value: Any) -> str:
    return " ".join(str(value).split()).casefold()


def _inputs_text(item: Example) -> str:
    if len(item.inputs) == 1:
        return f"Input: {next(iter(item.inputs.values()))}"
    return "\n".join(f"{name}: {value}" for name, value in item.inputs.items())
