"""Groups of rows that might be slices: by metadata, by length, and by the words of inputs and replies."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_lab.flows.diff import Compared, Side
from llmops_lab.records import canonical

if TYPE_CHECKING:  # it brings numpy, which looking at a comparison does not need
    from llmops_lab.stats.slices import Group, Slice

FDR = 0.1
"""The share of false finds among the slices that a view names."""
Values = Mapping[str, Mapping[str, Any]]
FEW_VALUES = 20
"""A column of at most so many different values is metadata; of more, numbers are cut in quarters and texts searched for words."""
_LONGEST_VALUE = 80
_WORDS = re.compile(r"\w+(?:['’]\w+)*")
_MOST_WORDS, _ALL_WORDS = 300, 600_000
_MOST_GRAMS = 150
_LEAST_SHARE, _MOST_SHARE = 0.02, 0.6


def find(compared: Compared, values: Values, fdr: float) -> list[list[Slice]]:
    """Slices of each pair, those found first; the level is held over all pairs together."""
    from llmops_lab.stats.slices import find_slices

    inputs = input_groups(compared.rows, values)
    pairs = [
        (pair.a, pair.b, [*inputs, *reply_groups(compared.rows, compared.sides[0], other)])
        for pair, other in zip(compared.pairs, compared.sides[1:], strict=True)
    ]
    return find_slices(pairs, binary=all(pair.binary for pair in compared.pairs), fdr=fdr)


COLUMNS = (
    "slice",
    "kind",
    "n",
    "wins",
    "losses",
    "ties",
    "delta",
    "low",
    "high",
    "rest",
    "p_value",
    "q_value",
    "found",
    "unlike",
    "also",
)


def line(one: Slice, compared: Compared) -> dict[str, Any]:
    """A slice as a person reads it: wins are rows where the variant is better."""
    low, high = one.interval()
    wins, losses = (one.down, one.up) if compared.judge and compared.judge["higher_is_better"] is False else (one.up, one.down)
    told: dict[str, Any] = {"slice": one.group.name, "kind": one.group.kind, "n": one.n, "wins": wins, "losses": losses, "ties": one.level}
    told |= {"delta": one.delta, "low": low, "high": high, "rest": one.rest, "p_value": one.p_value, "q_value": one.q_value}
    return told | {"found": one.found, "unlike": one.unlike, "also": "; ".join(each.name for each in one.also)}


def input_groups(rows: Sequence[str], values: Values) -> list[Group]:
    """Groups by the columns of the rows; none where the ledger does not have them."""
    groups: list[Group] = []
    names = dict.fromkeys(name for row in rows for name in values.get(row, ()))
    for name in names:
        if name == "id":
            continue
        column = [values.get(row, {}).get(name) for row in rows]
        groups += _column(name, column)
    return groups


def reply_groups(rows: Sequence[str], a: Side, b: Side) -> list[Group]:
    """Groups by the replies of both sides together: what knew which side said it could not be tested in pairs."""
    texts = [" \n".join(cell["text"] for side in (a, b) for cell in side.cells[row] if cell["text"]) for row in rows]
    counts = [max(1, sum(bool(cell["text"]) for side in (a, b) for cell in side.cells[row])) for row in rows]
    lengths = [float(round(len(text) / count)) if text else None for text, count in zip(texts, counts, strict=True)]
    return [*_quarters("length", "length of the replies", lengths, " characters"), *_grams("replies", texts)]


def _column(name: str, column: Sequence[Any]) -> list[Group]:
    plain = [canonical(value) if isinstance(value, dict | list) else value for value in column]
    known = [value for value in plain if value not in (None, "")]
    texts = [str(value) for value in known]
    if 1 < len(set(texts)) <= FEW_VALUES and all(len(text) <= _LONGEST_VALUE for text in texts):
        found = dict.fromkeys(texts)
        return [_group("metadata", f"{name}: {text}", [_is(value, text) for value in plain]) for text in found]
    numbers = [_number(value) for value in plain]
    if known and all(numbers[at] is not None for at, value in enumerate(plain) if value not in (None, "")):
        return _quarters("metadata", name, numbers)
    if len(set(texts)) > FEW_VALUES and all(isinstance(value, str) for value in known):
        words = [value or "" for value in plain]
        lengths = [float(len(value)) if value else None for value in words]
        return [*_quarters("length", f"length of {name}", lengths, " characters"), *_grams(name, words)]
    return []


def _is(value: Any, text: str) -> bool:
    return value not in (None, "") and str(value) == text


def _number(value: Any) -> float | None:
    try:
        return None if value in (None, "") or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _quarters(kind: str, name: str, numbers: Sequence[float | None], unit: str = "") -> list[Group]:
    import numpy

    known = sorted(number for number in numbers if number is not None)
    if len(known) < 4 * _least() or known[0] == known[-1]:
        return []
    edges = [float(edge) for edge in dict.fromkeys(numpy.quantile(known, [0, 0.25, 0.5, 0.75, 1], method="lower"))]
    groups = []
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = [value is not None and (low < value <= high or (number == 0 and value == low)) for value in numbers]
        groups.append(_group(kind, f"{name}: {'' if number == 0 else 'above '}{low:,.6g} to {high:,.6g}{unit}", inside))
    return groups


def _grams(name: str, texts: Sequence[str]) -> list[Group]:
    """The most frequent sequences of 1 to 3 words in neither too few nor too many texts; of a long text only the beginning counts."""
    longest = max(30, min(_MOST_WORDS, _ALL_WORDS // max(1, len(texts))))
    grams = [_of_text(text, longest) for text in texts]
    counts = Counter(gram for each in grams for gram in each)
    least, most = max(_least(), _LEAST_SHARE * len(texts)), _MOST_SHARE * len(texts)
    kept = sorted((gram for gram, count in counts.items() if least <= count <= most), key=lambda gram: (-counts[gram], gram))[:_MOST_GRAMS]
    where = "the replies" if name == "replies" else name
    return [_group("words", f"“{gram}” in {where}", [gram in each for each in grams]) for gram in kept]


def _of_text(text: str, longest: int) -> set[str]:
    words = [found[0].lower() for found in _first(_WORDS.finditer(text), longest)]
    return {" ".join(words[at : at + length]) for length in (1, 2, 3) for at in range(len(words) - length + 1)}


def _first(found: Iterable[re.Match[str]], count: int) -> Iterable[re.Match[str]]:
    return (each for each, _ in zip(found, range(count), strict=False))


def _least() -> int:
    from llmops_lab.stats.slices import LEAST

    return LEAST


def _group(kind: str, name: str, inside: Sequence[bool]) -> Group:
    import numpy

    from llmops_lab.stats.slices import Group

    return Group(kind, name, numpy.array(inside, dtype=bool))
