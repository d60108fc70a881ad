"""The rating queue that a person holds: hand out, save, read back, settle, close."""

from __future__ import annotations

import getpass
import html
import importlib
import importlib.util
import sys
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api import shown
from llmops_lab.api.display import literal, table
from llmops_lab.errors import BadInput
from llmops_lab.escapes import inert
from llmops_lab.flows import rate_item, rate_results
from llmops_lab.flows.rate_item import OpenQueue, open_queue, rater_of
from llmops_lab.ratings.rubric import Rubric
from llmops_lab.store import reviews
from llmops_lab.store.ledger import Ledger, open_ledger

_PANEL = "llmops_lab.api.views.rating"


def queue(name: str) -> Queue:
    """Open a rating queue again by its name. Raises UnknownName with close matches."""
    if not isinstance(name, str):
        raise BadInput(f"a queue is named by a text, not {name!r:.60}.")
    return Queue(open_ledger(_settings.load()), name)


class Queue:
    """A rating queue. All of it lies in the ledger, so any number of kernels, servers and people may hold the same one at once."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._opened: OpenQueue = open_queue(ledger, name)

    @property
    def name(self) -> str:
        """What it is called."""
        return self._opened.name

    @property
    def mode(self) -> str:
        """``single``, ``pairwise`` or ``ranking``."""
        return self._opened.spec.mode

    @property
    def rubric(self) -> Rubric:
        """What raters are asked."""
        return self._opened.spec.rubric

    @property
    def raters(self) -> tuple[str, ...] | None:
        """The names of those who each rate all; None where whoever comes may rate."""
        return self._opened.spec.raters

    @property
    def closed(self) -> bool:
        """Whether it takes no more ratings; only then it says who made what."""
        return self._opened.closed is not None

    @property
    def rater(self) -> str:
        """Who rates in this kernel: the setting ``reviewer``, else the system's user."""
        return _settings.load().reviewer or getpass.getuser()

    # -- a rater's way -----------------------------------------------------------------------------------------------------
    def progress(self, rater: str | None = None) -> dict[str, Any]:
        """How far a rater is: total, done, skipped, left, flagged, median seconds, and whether the queue is closed."""
        return rate_item.progress(self._opened, self._who(rater))

    def next(self, rater: str | None = None, after: str | None = None) -> dict[str, Any] | None:
        """The rater's next open item as a task (the one behind ``after``), kept for them for half an hour; None when nothing is left."""
        who = self._who(rater)
        item = rate_item.next_item(self._opened, who, after)
        return None if item is None else rate_item.task(self._opened, who, item)

    def task(self, rater: str | None = None, item: str = "") -> dict[str, Any]:
        """What the rater sees of one item, with their own rating of it. Raises UnknownName."""
        return rate_item.task(self._opened, self._who(rater), item)

    def items(self, rater: str | None = None) -> list[tuple[str, str]]:
        """``(item, state)`` in the rater's order; a state is open, rated, skipped or taken (others rate it)."""
        return list(rate_item.states(self._opened, self._who(rater)))

    def submit(
        self,
        *,
        item: str,
        rater: str | None = None,
        value: Any = None,
        comment: str | None = None,
        id: str | None = None,
        seconds: float | None = None,
        flag: bool = False,
        skip: str | None = None,
        correction: str | None = None,
        expects: int | None = None,
    ) -> int:
        """Save a rating, or a skip with its reason; returns the row's number once it is on disk.

        ``value``: a level; "a", "b", "tie" or "bad"; or a ranking such as "b>a=c", in terms of the queue's sides, however they were
        shown. The same ``id`` twice is one rating. ``expects``: the row that you believe to hold (0: none); where another one does,
        Conflict is raised and nothing is overwritten. Raises BadInput or UnknownName for what the queue does not take.
        """
        given = {"comment": comment, "id": id, "seconds": seconds, "flag": flag, "skip": skip, "correction": correction, "expects": expects}
        return rate_item.submit(self._opened, item, self._who(rater), value, given)

    def undo(self, *, item: str, rater: str | None = None, id: str | None = None, expects: int | None = None) -> int:
        """Take a rating or skip back. Nothing is deleted: a row that says so is added, and its number returned."""
        return rate_item.undo(self._opened, item, self._who(rater), {"id": id, "expects": expects})

    # -- the owner's side --------------------------------------------------------------------------------------------------
    def ratings(self) -> Any:
        """A DataFrame of all ratings ever saved: item rater value comment seconds side_order created superseded_by.

        What holds has no ``superseded_by``; a skip or an undo has no ``value``.
        """
        return rate_results.ratings(self._opened)

    def records(self) -> list[dict[str, Any]]:
        """One dict a saved rating with all its fields; once the queue is closed also who made the sides."""
        return rate_results.records(self._opened)

    def close(self) -> Queue:
        """Take no more ratings. From now on records say which prompt and model made which side."""
        reviews.close(self._opened.ledger, self._opened.queue)
        return self

    # -- showing -----------------------------------------------------------------------------------------------------------
    def show(self) -> None:
        """Show the panel; where none can be shown, the table that says how far the queue is."""
        show(self)

    def page(self) -> tuple[str, str]:
        """The queue as plain text and as HTML: what is asked, and how far its raters are."""
        counts = rate_results.counts(self._opened)
        plain, page = table(("rater", "rated", "skipped", "flagged"), [list(line.values()) for line in counts])
        story = rate_results.story(self._opened)
        title = inert(f"{self.name}: {self.rubric.question}")
        return f"{title}\n{plain}\n{story}", f"<p><b>{html.escape(title)}</b></p>{page}<p>{html.escape(inert(story))}</p>"

    def __repr__(self) -> str:
        return self.page()[0]

    def _repr_html_(self) -> str:
        return literal(self.page()[1])

    def _who(self, rater: str | None) -> str:
        return rater_of(self._opened, self.rater if rater is None else rater)


def show(queue: Queue) -> None:
    """Show the panel of a queue; where none can be shown, its static twin."""
    if importlib.util.find_spec(_PANEL) is None:
        sys.stdout.write(f"{queue.page()[0]}\n")
        return
    shown.show(importlib.import_module(_PANEL).Rating(queue, rater=queue.rater))
