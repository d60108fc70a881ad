"""Rows of a validation or test set that also stand, word for word or nearly, among the training rows."""

from __future__ import annotations

import heapq
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from llmops_lab.training.data import Example, Examples

NEAR = 0.8  # of two questions' pieces shared, from which they count as near duplicates
_PIECE = 5  # characters; one word changed in a short sentence changes few of them
_SKETCH = 256  # so many pieces stand for a text that is longer: the smallest hashes, a fair sample
_COMMON = 0.1  # a piece in more than this share of the training rows is the instruction, which all rows share


@dataclass(frozen=True)
class Leak:
    """A row held out, its twin in training, and how alike they are: 1.0 is the same question."""

    held_out: str
    trained: str
    likeness: float
    question: str


@dataclass(frozen=True)
class Leaks:
    """What of one held-out set was met in training. ``of`` is how many rows it has, ``name`` what it is for."""

    name: str
    of: int
    exact: tuple[Leak, ...]
    near: tuple[Leak, ...]
    dropped: bool = False  # whether those in ``exact`` were left out of training

    def __str__(self) -> str:
        if not self.exact and not self.near:
            return f"{self.name}: none of {self.of} rows was met in training"
        named = "; ".join(f"{each.held_out} ~ {each.trained} ({each.likeness:.2f})" for each in (*self.exact, *self.near)[:3])
        were = "were in training too, which were dropped there," if self.dropped else "are in training too"
        return f"{self.name}: of {self.of} rows {len(self.exact)} {were} and {len(self.near)} nearly so: {named}"


def find(trained: Examples, held_out: Examples, name: str) -> Leaks:
    """Compare questions (system messages aside) without regard to case, spacing and punctuation; each held-out row with its nearest.

    Likeness is the share of 5-character pieces that both have of those that either has (Jaccard), without the pieces that more than a
    tenth of the training rows share; longer texts are compared by a sample of 256 pieces.
    """
    texts = [_plain(each) for each in trained.items]
    same = {text: number for number, text in reversed(list(enumerate(texts)))}
    index = _Index(texts)
    exact, near = [], []
    for each in held_out.items:
        text = _plain(each)
        if text in same:
            exact.append(Leak(each.id, trained.items[same[text]].id, 1.0, _asked(each)))
            continue
        likeness, number = index.nearest(text)
        if likeness >= NEAR:
            near.append(Leak(each.id, trained.items[number].id, likeness, _asked(each)))
    return Leaks(name, len(held_out), tuple(exact), tuple(near))


def without(trained: Examples, leaks: Leaks) -> Examples:
    """The training rows but those whose question is also held out, word for word."""
    held = {_folded(each.question) for each in leaks.exact}
    return trained.take([number for number, each in enumerate(trained.items) if _plain(each) not in held], "without leaks")


class _Index:
    """Which training rows have a piece."""

    def __init__(self, texts: list[str]) -> None:
        pieces = [set(_pieces(text)) for text in texts]
        often = Counter(piece for each in pieces for piece in each)
        most = max(3, _COMMON * len(texts))
        self._common = {piece for piece, count in often.items() if count > most}
        self._rows = [_sketch(each - self._common) for each in pieces]
        self._at: dict[int, list[int]] = {}
        for number, each in enumerate(self._rows):
            for piece in each:
                self._at.setdefault(piece, []).append(number)

    def nearest(self, text: str) -> tuple[float, int]:
        asked = _sketch(set(_pieces(text)) - self._common)
        shared = Counter(number for piece in asked for number in self._at.get(piece, ()))
        best = (0.0, -1)
        for number, _ in shared.most_common(5):
            best = max(best, (_likeness(asked, self._rows[number]), number))
        return best


def _likeness(a: frozenset[int], b: frozenset[int]) -> float:
    either = _sketch(set(a | b))  # of two samples, only the smallest hashes of both together are a fair sample again
    return len(either & a & b) / len(either) if either else 0.0


def _sketch(pieces: set[int]) -> frozenset[int]:
    return frozenset(pieces if len(pieces) <= _SKETCH else heapq.nsmallest(_SKETCH, pieces))


def _pieces(text: str) -> Iterator[int]:
    for at in range(max(1, len(text) - _PIECE + 1)):
        yield zlib.crc32(text[at : at + _PIECE].encode())


def _asked(example: Example) -> str:
    return " ".join(text for role, text in example.turns if role not in ("system", "developer"))


def _plain(example: Example) -> str:
    return _folded(_asked(example))


def _folded(text: str) -> str:
    """Letters and digits only, in lower case, one space between words."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(mark if mark.isalnum() else " " for mark in folded).split()) or folded
