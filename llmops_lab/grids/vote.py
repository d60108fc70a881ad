"""Which text of a reply is judged: the whole, the answer read out of it, or what most repeats of the row answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from llmops_lab.grids.plan import Plan
from llmops_lab.records import Reply

Finished = tuple[int, Reply | None]
"""A cell and its reply; None when the cell failed."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A cell that can be judged now. ``reply`` carries the text to judge; ``share`` of the repeats agree on it (None: no vote).

    ``reply`` None: the vote is still open, because some repeats have not been answered.
    """

    cell: int
    reply: Reply | None
    share: float | None = None


@dataclass(slots=True)
class _Ballot:
    missing: int
    replies: list[tuple[int, Reply]] = field(default_factory=list)


class Votes:
    """Feed it cells as they end; it gives back those that can be judged. A row's repeats come together once the last has ended."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ballots: dict[tuple[int, int, int], _Ballot] = {}

    def read(self, cells: Iterable[Finished]) -> Iterator[Heard]:
        """What can be judged after these cells."""
        for cell, reply in cells:
            at = self._plan.place(cell)
            variant = self._plan.variants[at.prompt]
            if variant.vote is not None:
                yield from self._cast((at.row, at.prompt, at.model), cell, reply)
            elif reply is not None:
                yield Heard(cell, _with_answer(reply, variant.extract))

    def open(self) -> Iterator[Heard]:
        """At the end: the cells whose vote never closed."""
        for ballot in self._ballots.values():
            yield from (Heard(cell, None) for cell, _ in ballot.replies)
        self._ballots.clear()

    def _cast(self, race: tuple[int, int, int], cell: int, reply: Reply | None) -> Iterator[Heard]:
        variant = self._plan.variants[race[1]]
        ballot = self._ballots.setdefault(race, _Ballot(self._plan.repeats))
        ballot.missing -= 1
        if reply is not None:
            ballot.replies.append((cell, _with_answer(reply, variant.extract)))
        if ballot.missing or variant.vote is None:
            return
        del self._ballots[race]
        replies = sorted(ballot.replies, key=_cell)  # a tie goes to the earliest repeat, whichever reply came home first
        if replies:
            winner, share = variant.vote([each.text for _, each in replies])
            yield from (Heard(number, dataclasses.replace(each, text=winner), share) for number, each in replies)


def _cell(item: tuple[int, Reply]) -> int:
    return item[0]


def _with_answer(reply: Reply, extract: Callable[[str], str] | None) -> Reply:
    text = extract(reply.text) if extract else reply.text
    return reply if text is reply.text else dataclasses.replace(reply, text=text)
