"""The rating queue that a person holds: hand out, save, read back, settle, close."""

from __future__ import annotations

import getpass
import html
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api import shown
from llmops_lab.api.display import literal, table
from llmops_lab.api.export import export_queue, is_page
from llmops_lab.api.rated import picked
from llmops_lab.errors import BadInput
from llmops_lab.escapes import inert
from llmops_lab.flows import rate_import, rate_item, rate_results, rate_settle
from llmops_lab.flows.export import export
from llmops_lab.flows.rate import add_items
from llmops_lab.flows.rate_item import OpenQueue, open_queue, rater_of
from llmops_lab.flows.rate_mlflow import Sent, settle, to_mlflow
from llmops_lab.ratings.rubric import Rubric
from llmops_lab.store import reviews
from llmops_lab.store.ledger import Ledger, open_ledger

_PANEL = "llmops_lab.api.views.rating"  # it holds a queue, and so knows this module


def queue(name: str) -> Queue:
    """Open a rating queue again by its name. Raises UnknownName with close matches."""
    if not isinstance(name, str):
        raise BadInput(f"a queue is named by a text, not {name!r:.60}.")
    return Queue(open_ledger(_settings.load()), name)


class Preferences(list[dict[str, Any]]):
    """Preference pairs, a list of dicts. ``left_out`` says how many pairs are not in it, by reason."""

    def __init__(self, pairs: list[dict[str, Any]], left_out: dict[str, int]) -> None:
        super().__init__(pairs)
        self.left_out = left_out

    def frame(self) -> Any:
        """The pairs as a DataFrame."""
        import pandas

        return pandas.DataFrame(list(self), columns=["prompt", "chosen", "rejected"])

    def to_jsonl(self, path: str | Path) -> Path:
        """Write one JSON object a line; returns the absolute path. Raises BadInput for another ending than .jsonl."""
        if Path(path).suffix.lower() != ".jsonl":
            raise BadInput(f"{path} does not end in .jsonl. Name the file so: its lines are what load_dataset('json', ...) reads.")
        return export(self, path)

    def __repr__(self) -> str:
        out = "; ".join(f"{number:,} left out: {reason}" for reason, number in self.left_out.items())
        return f"{len(self):,} preference pairs{'; ' + out if out else ''}"


class Queue:
    """A rating queue. All of it lies in the ledger, so any number of kernels, servers and people may hold the same one at once."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self.opened: OpenQueue = open_queue(ledger, name)
        """The same as the flows take it."""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.opened.name

    @property
    def mode(self) -> str:
        """``single``, ``pairwise`` or ``ranking``."""
        return self.opened.spec.mode

    @property
    def rubric(self) -> Rubric:
        """What raters are asked."""
        return self.opened.spec.rubric

    @property
    def assigned(self) -> tuple[str, ...] | None:
        """The names of those who each rate all; None where whoever comes may rate."""
        return self.opened.spec.raters

    @property
    def closed(self) -> bool:
        """Whether it takes no more ratings; only then it says who made what."""
        return self.opened.closed is not None

    @property
    def rater(self) -> str:
        """Who rates in this kernel: the setting ``reviewer``, else the system's user."""
        return _settings.load().reviewer or getpass.getuser()

    # -- a rater's way -----------------------------------------------------------------------------------------------------
    def progress(self, rater: str | None = None) -> dict[str, Any]:
        """How far a rater is: total, done, skipped, left, flagged, median seconds, and whether the queue is closed."""
        return rate_item.progress(self.opened, self._who(rater))

    def next(self, rater: str | None = None, after: str | None = None) -> dict[str, Any] | None:
        """The rater's next open item as a task (the one behind ``after``), kept for them for half an hour; None when nothing is left."""
        who = self._who(rater)
        item = rate_item.next_item(self.opened, who, after)
        return None if item is None else rate_item.task(self.opened, who, item)

    def task(self, rater: str | None = None, item: str = "") -> dict[str, Any]:
        """What the rater sees of one item, with their own rating of it. Raises UnknownName."""
        return rate_item.task(self.opened, self._who(rater), item)

    def items(self, rater: str | None = None) -> list[tuple[str, str]]:
        """``(item, state)`` in the rater's order; a state is open, rated, skipped or taken (others rate it)."""
        return list(rate_item.states(self.opened, self._who(rater)))

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
        return rate_item.submit(self.opened, item, self._who(rater), value, given)

    def undo(self, *, item: str, rater: str | None = None, id: str | None = None, expects: int | None = None) -> int:
        """Take a rating or skip back. Nothing is deleted: a row that says so is added, and its number returned."""
        return rate_item.undo(self.opened, item, self._who(rater), {"id": id, "expects": expects})

    def import_ratings(self, path: str | Path) -> list[int]:
        """Take in the file that a panel offers for what it could not save (a line each); their rows' numbers. Nothing is doubled.

        Raises BadInput that names the refused lines; all others are saved.
        """
        return rate_import.import_ratings(self.opened, path)

    # -- the owner's side --------------------------------------------------------------------------------------------------
    def ratings(self) -> Any:
        """A DataFrame of all ratings ever saved: item rater value comment seconds side_order created superseded_by.

        What holds has no ``superseded_by``; a skip or an undo has no ``value``.
        """
        return rate_results.ratings(self.opened)

    def records(self) -> list[dict[str, Any]]:
        """One dict a saved rating with all its fields; once the queue is closed also who made the sides."""
        return rate_results.records(self.opened)

    def agreement(self, metric: str | None = None, level: str | None = None, *, alpha: float = 0.05) -> Any:
        """How far the raters agree, with an interval: as ``lab.agreement``, whose metrics and levels it takes.

        By itself Krippendorff's alpha, ordinal where the rubric has three levels or more (and for rankings), else nominal. Skips, what was
        taken back and what was shown a second time do not count.
        """
        return rate_settle.agree(self.opened, metric, level, alpha)

    def consistency(self) -> Any:
        """A DataFrame, one line a rater: counts, how often they said the same again (``same``) and gave a known answer (``gold``).

        The last two are shares with Wilson's interval, of ``same_n`` items that were shown twice and ``gold_n`` with a known answer.
        """
        import pandas

        return pandas.DataFrame(rate_settle.raters(self.opened, rate_results.counts(self.opened)))

    def adjudicate(self, *, item: str | None = None, value: Any = None, reason: str | None = None) -> Any:
        """Without an item: a DataFrame of the disagreements that nobody has settled. With one: settle it, and return the row's number.

        What is settled counts in ``preferences``, and becomes an expectation in MLflow's dataset ``ratings-QUEUE``.
        """
        import pandas

        if item is None:
            columns = ["item", "row_id", "prompt", "sides", "values", "comments"]
            return pandas.DataFrame(rate_settle.open_disagreements(self.opened), columns=columns)
        return settle(self.opened, _settings.load(), item, value, reason, self.rater)

    def settled(self) -> Any:
        """A DataFrame of what was settled: item, value, reason, who settled it, when, and the row's number."""
        return rate_results.settled(self.opened)

    def preferences(self, *, min_agreement: float = 0.5, conversational: bool = False) -> Preferences:
        """Preference pairs in the form that TRL's DPOTrainer reads: prompt, chosen, rejected; as texts, or as messages.

        Of each pair of replies the one that most raters prefer is chosen, where they are at least ``min_agreement`` of the item's raters;
        what was settled counts as all of them. Ties and equal replies are left out, and ``left_out`` says how many.
        """
        return Preferences(*rate_settle.preferences(self.opened, min_agreement, conversational))

    def strengths(self, *, alpha: float = 0.05) -> Any:
        """How strong each variant is (Bradley-Terry with ties), with intervals, from a closed queue of pairs or rankings."""
        return rate_settle.strengths(self.opened, alpha)

    def export(self, path: str | Path) -> Path:
        """Write ``records`` to a .csv, .tsv, .json, .jsonl or .parquet file; in the first two no text is run as a formula.

        To a .html file goes a page to be read, which opens from disk; of an open queue without names and without what was said.
        """
        if is_page(path):
            return export_queue(self.opened, path, self.page)
        return rate_results.export_records(self.opened, path)

    def to_mlflow(self) -> Sent:
        """Tell MLflow what holds: assessments (source HUMAN) on the replies' traces, label schema, review queue, corrections as a dataset.

        Told again, a rating takes the place of its older one and nothing is doubled. What cannot be sent waits in the outbox.
        """
        return to_mlflow(self.opened, _settings.load())

    def add(self, grid: Any, cells: Sequence[int]) -> int:
        """Add these cells of a grid, by their numbers, to the queue (in a queue that compares: their rows); returns how many were new."""
        return add_items(self.opened, *picked(grid, self.opened.spec, cells))

    def close(self) -> Queue:
        """Take no more ratings. From now on records say which prompt and model made which side."""
        reviews.close(self.opened.ledger, self.opened.queue)
        return self

    # -- showing -----------------------------------------------------------------------------------------------------------
    def show(self) -> None:
        """Show the panel; where none can be shown, the table that says how far the queue is."""
        shown.show(self._panel, of=self)

    def page(self) -> tuple[str, str]:
        """The queue as plain text and as HTML: what is asked, and how far its raters are."""
        counts = rate_results.counts(self.opened)
        plain, page = table(("rater", "rated", "skipped", "flagged"), [list(line.values()) for line in counts])
        story = rate_results.story(self.opened)
        title = inert(f"{self.name}: {self.rubric.question}")
        return f"{title}\n{plain}\n{story}", f"<p><b>{html.escape(title)}</b></p>{page}<p>{html.escape(inert(story))}</p>"

    def __repr__(self) -> str:
        return self.page()[0]

    def _repr_html_(self) -> str:
        return literal(self.page()[1])

    def _ipython_display_(self) -> None:
        shown.display(self._panel, of=self)

    @property
    def _panel(self) -> Any:
        return importlib.import_module(_PANEL).Rating(self, rater=self.rater)

    def _who(self, rater: str | None) -> str:
        return rater_of(self.opened, self.rater if rater is None else rater)
