"""Rows of a validation or test set that also stand, word for word or nearly, among the training rows."""

from __future__ import annotations

from dataclasses import dataclass

from llmops_lab.training._alike import NEAR, Nearest, same
from llmops_lab.training.data import Example, Examples, asked

__all__ = ["NEAR", "Leak", "Leaks", "Trained", "without"]
_NAMED = 3  # pairs in a message


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
            return f"{self.name}: none of {self.of:,} rows was met in training"
        were = "were in training too, which were dropped there" if self.dropped else "are in training too"
        return f"{self.name}: of {self.of:,} rows {_told(self.exact)} {were}, and {_told(self.near)} nearly so"


def _told(leaks: tuple[Leak, ...]) -> str:
    if not leaks:
        return "0"
    pairs = "; ".join(f"{each.held_out} = {each.trained}" if each.likeness == 1 else _nearly(each) for each in leaks[:_NAMED])
    more = f"; and {len(leaks) - _NAMED:,} more" if len(leaks) > _NAMED else ""
    return f"{len(leaks):,} ({pairs}{more})"


def _nearly(leak: Leak) -> str:
    return f"{leak.held_out} ~ {leak.trained}, {leak.likeness:.0%} alike"


class Trained:
    """The training rows, ready to be compared with every set that is held out: without regard to case, Unicode form, spacing, punctuation.

    Questions are compared, system messages aside. Likeness is the share of 5-character pieces that both have of those that either has
    (Jaccard), without the pieces that more than a tenth of the training rows share; longer texts are compared by a sample of 256 pieces.
    """

    def __init__(self, trained: Examples) -> None:
        self._rows: dict[str, Example] = {}
        for example in trained.items:
            self._rows.setdefault(same(asked(example)), example)
        self._nearest = Nearest(list(self._rows))
        self._distinct = list(self._rows.values())

    def met(self, held_out: Examples, name: str) -> Leaks:
        """Which rows of a held-out set stand among them, each told with its nearest."""
        texts = [same(asked(each)) for each in held_out.items]
        new = [number for number, text in enumerate(texts) if text not in self._rows]
        near = [
            _leak(held_out.items[number], self._distinct[place], likeness)
            for number, (likeness, place) in zip(new, self._nearest.of([texts[number] for number in new]), strict=True)
            if place >= 0
        ]
        exact = [_leak(each, self._rows[text], 1.0) for each, text in zip(held_out.items, texts, strict=True) if text in self._rows]
        return Leaks(name, len(held_out), tuple(exact), tuple(near))


def without(trained: Examples, leaks: Leaks) -> Examples:
    """The training rows but those whose question is also held out."""
    held = {same(each.question) for each in leaks.exact}
    return trained.take([number for number, each in enumerate(trained.items) if same(asked(each)) not in held], "without leaks")


def _leak(held_out: Example, trained: Example, likeness: float) -> Leak:
    return Leak(held_out.called, trained.called, likeness, asked(held_out))
