"""A plan: prompts x rows x models x repeats, as numbers. Cells are made when they are needed, never all at once.

Cell ``i`` counts, from the slowest: row, replicate, prompt, model. So all variants of a row lie together.

The call key of a cell is SHA-256 over the model's resolved identity, the canonical request, and the occurrence of this
request in the whole plan. So no two cells of a plan ever share a call: twin rows, repeats, two equal prompts and two
labels of one model each get their own, and the same plan always finds the same keys again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmops_lab.errors import BadInput, LabError
from llmops_lab.grids.rows import Rows
from llmops_lab.records import Message, Request, canonical, output_limit

DEFAULT_PARAMS: Mapping[str, Any] = {"temperature": 0, "max_tokens": 256}
"""What is sent where neither the caller, nor the prompt, nor the model says otherwise."""
CHARACTERS_PER_TOKEN = 4
"""For a guess before anything is sent; models differ."""
KEY_BYTES = 32
MOST_KEPT = 5_000
"""Rendered prompts that a plan keeps; with more of them each is rendered a second time when its turn comes."""
_NUMBERS = frozenset(
    {"temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "n", "seed", "presence_penalty", "frequency_penalty"}
)
Render = Callable[[Mapping[str, Any]], tuple[Message, ...]]


@dataclass(frozen=True)
class Variant:
    """One prompt of a grid: how a row becomes messages, and what its version fixes (parameters, output schema).

    ``extract`` reads the answer out of a reply's text; ``vote`` gives the answer that most repeats of a row end in, and its share.
    """

    label: str
    render: Render
    params: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    extract: Callable[[str], str] | None = None
    vote: Callable[[Sequence[str]], tuple[str, float]] | None = None


@dataclass(frozen=True)
class Target:
    """One model of a grid. ``identity`` is what enters the call key; ``params`` override the prompt's and the grid's."""

    label: str
    identity: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cell lies in its plan: four numbers."""

    row: int
    replicate: int
    prompt: int
    model: int


class Plan:
    """What a grid will ask. ``redact`` is applied to what is hashed, so that a key never depends on a secret."""

    def __init__(
        self,
        variants: Sequence[Variant],
        targets: Sequence[Target],
        rows: Rows,
        *,
        repeats: int = 1,
        params: Mapping[str, Any] | None = None,
        redact: Callable[[str], str] = str,
    ) -> None:
        self.variants, self.targets, self.rows, self.repeats = variants, targets, rows, repeats
        self._redact = redact
        self._params = [[_merged(params or {}, v.params, t.params) for t in targets] for v in variants]
        self._heads = [
            [hashlib.sha256(redact(canonical([t.identity, self._params[i][j], v.schema])).encode()) for j, t in enumerate(targets)]
            for i, v in enumerate(variants)
        ]
        self._keys = bytearray()
        self._rendered: list[tuple[Message, ...]] = []  # row by row; empty for a large plan, which is rendered again cell by cell
        self.input_characters = [0] * len(variants)
        """For each prompt, the characters of all rows' messages together; known once ``prepare`` has run."""

    def __len__(self) -> int:
        """The number of cells."""
        return len(self.rows.items) * self.repeats * len(self.variants) * len(self.targets)

    def place(self, cell: int) -> Place:
        """The row, replicate, prompt and model of a cell."""
        rest, model = divmod(cell, len(self.targets))
        rest, prompt = divmod(rest, len(self.variants))
        row, replicate = divmod(rest, self.repeats)
        return Place(row, replicate, prompt, model)

    def request(self, cell: int) -> Request:
        """What is sent for a cell. A ``seed`` parameter is counted up with the replicate, or repeats would be copies."""
        at = self.place(cell)
        variant, params = self.variants[at.prompt], self._params[at.prompt][at.model]
        if at.replicate and params.get("seed") is not None:
            params = {**params, "seed": params["seed"] + at.replicate}
        messages = self._rendered[at.row * len(self.variants) + at.prompt] if self._rendered else variant.render(self.rows.items[at.row])
        return Request(messages, params, variant.schema)

    def most_output(self, prompt: int, model: int) -> int:
        """The token limit of a reply; 0 where none is set."""
        return output_limit(self._params[prompt][model])

    def key(self, cell: int) -> str:
        """The call key of a cell, 64 hex digits. ``prepare`` must have run."""
        return self._keys[cell * KEY_BYTES : (cell + 1) * KEY_BYTES].hex()

    def keys(self) -> Iterator[str]:
        """All call keys in the order of the cells."""
        return (self.key(cell) for cell in range(len(self)))

    def prepare(self) -> None:
        """Render every prompt for every row once: finds all template errors before the first call, and gives the keys.

        Raises BadInput naming the rows whose template cannot be rendered.
        """
        if self._keys:
            return
        seen: dict[bytes, int] = {}
        keys = bytearray()
        problems: dict[str, list[str]] = {}
        for number, row in enumerate(self.rows.items):
            bodies = [self._body(index, row, self.rows.called(number), problems) for index in range(len(self.variants))]
            if problems:
                continue
            for _ in range(self.repeats):
                for heads, body in zip(self._heads, bodies, strict=True):
                    for head in heads:
                        keys += _numbered(head, body, seen)
        if problems:
            raise BadInput(_problem_text(problems))
        self._keys = keys

    def _body(self, index: int, row: Mapping[str, Any], row_id: str, problems: dict[str, list[str]]) -> bytes:
        variant = self.variants[index]
        try:
            messages = variant.render(row)
        except LabError as error:
            text = str(error)
            problems.setdefault(text if repr(variant.label) in text else f"prompt {variant.label!r}: {text}", []).append(row_id)
            return b""
        if len(self.rows.items) * len(self.variants) <= MOST_KEPT:
            self._rendered.append(messages)
        text = json.dumps([[message.role, message.content] for message in messages], sort_keys=True)
        self.input_characters[index] += len(text)
        return self._redact(text).encode("ascii", "backslashreplace")


def _numbered(head: Any, body: bytes, seen: dict[bytes, int]) -> bytes:
    # The occurrence stands in the hash, so that equal requests of one plan get different keys, the same ones every time.
    hashed = head.copy()
    hashed.update(body)
    first = hashed.digest()
    occurrence = seen[first] = seen.get(first, -1) + 1
    hashed.update(b"#%d" % occurrence)
    key: bytes = hashed.digest()
    return key


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        if not isinstance(layer, Mapping) or not all(isinstance(name, str) for name in layer):
            raise BadInput(f"params are names with values, such as {{'temperature': 0}}, not {layer!r:.80}.")
        merged.update(layer)
    try:
        canonical(merged)
    except TypeError as error:
        raise BadInput(f"params hold a value that cannot be sent: {error}.") from error
    for name in _NUMBERS & merged.keys():
        value = merged[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
            raise BadInput(f"the parameter {name} must be a number, not {value!r}.")
    return {name: value for name, value in merged.items() if value is not None}


def _problem_text(problems: Mapping[str, Sequence[str]]) -> str:
    lines = []
    for text, ids in problems.items():
        where = f"row {ids[0]}" if len(ids) == 1 else f"{len(ids)} rows: {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''}"
        lines.append(f"{text} ({where})")
    return " ".join(lines)
