"""One rater's way through a queue: what comes next, what is shown, what is saved, how far it is."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.ratings import assign, order
from llmops_lab.ratings.assign import Lease, Mark, State
from llmops_lab.ratings.entry import entry
from llmops_lab.ratings.items import LETTERS, Item, Spec
from llmops_lab.store import reviews
from llmops_lab.store.ledger import Ledger
from llmops_lab.store.reviews import QueueRecord, RatingRow


@dataclass(frozen=True)
class OpenQueue:
    """A queue of the ledger, with what was fixed when it was made."""

    ledger: Ledger
    queue: str
    name: str
    spec: Spec
    created: float

    @property
    def closed(self) -> float | None:
        """When it was closed, in epoch seconds; None while it is open."""
        return _record(self.ledger, self.name).closed


def open_queue(ledger: Ledger, name: str) -> OpenQueue:
    """The queue of this name. Raises UnknownName."""
    record = _record(ledger, name)
    return OpenQueue(ledger, record.queue, record.name, Spec.from_data(record.spec), record.created)


def _record(ledger: Ledger, name: str) -> QueueRecord:
    record = reviews.find(ledger, name)
    if record is None:
        raise UnknownName("queue", name, reviews.names(ledger)[:50], f"Looked in {ledger.place}.")
    return record


def rater_of(opened: OpenQueue, rater: Any) -> str:
    """The rater's name as it is stored. Raises BadInput, or UnknownName where the raters of a queue are named."""
    if not isinstance(rater, str) or not rater.strip() or len(rater) > 200 or not rater.isprintable():
        raise BadInput(f"a rater is a name of at most 200 characters, not {rater!r:.60}.")
    name: str = rater.strip()
    if opened.spec.raters is not None and name not in opened.spec.raters:
        hint = f"Who rates in a notebook is the setting reviewer: lab.configure(reviewer={opened.spec.raters[0]!r})."
        raise UnknownName("rater of this queue", name, opened.spec.raters, hint)
    return name


def states(opened: OpenQueue, rater: str) -> list[tuple[str, State]]:
    """Every item that the rater may see, in their order, with its state."""
    ledger, queue = opened.ledger, opened.queue
    return _states(opened, rater, reviews.marks(ledger, queue), reviews.leases(ledger, queue))


def _states(opened: OpenQueue, rater: str, marks: list[Any], leases: list[Any]) -> list[tuple[str, State]]:
    names = reviews.item_names(opened.ledger, opened.queue)
    return assign.states(opened.spec, names, rater, [Mark(*mark) for mark in marks], [Lease(*lease) for lease in leases])


def next_item(opened: OpenQueue, rater: str, after: str | None) -> str | None:
    """The rater's next open item, kept for them for a while; None when there is none."""

    def choose(marks: list[Any], leases: list[Any]) -> tuple[str, int | None] | None:
        item = assign.following(_states(opened, rater, marks, leases), after)
        held = [Lease(*lease) for lease in leases]
        return None if item is None else (item, assign.free_slot(opened.spec, item, rater, held))

    return reviews.take(opened.ledger, opened.queue, rater, choose, assign.LEASE_SECONDS)


def item_of(opened: OpenQueue, item: Any) -> Item:
    """One item. Raises UnknownName."""
    found = reviews.items(opened.ledger, opened.queue, item) if isinstance(item, str) else []
    if not found:
        raise UnknownName("item", str(item), reviews.item_names(opened.ledger, opened.queue)[:50])
    return Item.from_data(found[0])


def task(opened: OpenQueue, rater: str, name: str) -> dict[str, Any]:
    """What a rater sees of an item: no name of a prompt or model, and nobody else's rating."""
    item = item_of(opened, name)
    found = [each for each, state in states(opened, rater) if state != "taken" or each == name]
    history = reviews.history(opened.ledger, opened.queue, item=name, rater=rater)
    return {
        **shown(item, order.side_order(opened.spec.seed, rater, item.item, item.letters)),
        "position": found.index(name) + 1 if name in found else 0,
        "total": len(found),
        "mine": mine(history[-1]) if history else None,
        "suggestion": item.suggestion if opened.spec.suggestions else None,
    }


def shown(item: Item, side_order: str) -> dict[str, Any]:
    """What is to be read of an item, its sides in this order under letters of their own."""
    sides = {side.side: side for side in item.sides}
    return {
        "item": item.item,
        "prompt": item.prompt,
        "images": list(item.images),
        "sources": [{"name": name, "text": text} for name, text in item.sources],
        "sides": [
            {"side": letter.upper(), "text": sides[at].text, "images": list(sides[at].images)}
            for letter, at in zip(LETTERS, side_order, strict=False)
        ],
        "side_order": side_order,
    }


def mine(row: RatingRow) -> dict[str, Any] | None:
    """A rater's own rating as a view gets it; None for one that was taken back."""
    return None if row.kind == "undo" else row.said()


def submit(opened: OpenQueue, item: Any, rater: str, value: Any, given: Mapping[str, Any]) -> int:
    """Check and store a rating or a skip; returns its number after the commit. Raises BadInput, UnknownName, Conflict or StoreError."""
    found = item_of(opened, item)
    body = entry(opened.spec, found.letters, value, given)
    body["side_order"] = order.side_order(opened.spec.seed, rater, found.item, found.letters)
    kind = "skip" if body["skip"] is not None else "rating"
    return _add(opened, found.item, rater, kind, body, given)


def undo(opened: OpenQueue, item: Any, rater: str, given: Mapping[str, Any]) -> int:
    """Take back what the rater said of an item, by a row of its own; returns its number after the commit."""
    return _add(opened, item_of(opened, item).item, rater, "undo", {"value": None}, given)


def _add(opened: OpenQueue, item: str, rater: str, kind: str, body: dict[str, Any], given: Mapping[str, Any]) -> int:
    ident, expects = given.get("id"), given.get("expects")
    if ident is not None and (not isinstance(ident, str) or not 8 <= len(ident) <= 100):
        raise BadInput(f"the id of a rating is a text of 8 to 100 characters, best a uuid, not {ident!r:.60}.")
    if expects is not None and (not isinstance(expects, int) or isinstance(expects, bool)):
        raise BadInput(f"expects is the number of the rating that you believe to hold, or 0 for none, not {expects!r:.60}.")
    row = reviews.add(
        opened.ledger, opened.queue, item, rater, ident=ident or str(uuid.uuid4()), kind=kind, body=body, expects=expects
    )  # fmt: skip
    return row.seq


def progress(opened: OpenQueue, rater: str) -> dict[str, Any]:
    """How far a rater is: counts of items, the median of their seconds, and whether the queue is closed."""
    found = [state for _, state in states(opened, rater)]
    rows = [row for row in reviews.history(opened.ledger, opened.queue, rater=rater) if row.superseded_by is None and row.kind != "undo"]
    seconds = [row.body["seconds"] for row in rows if row.body.get("seconds") is not None]
    count = {state: found.count(state) for state in ("open", "rated", "skipped")}
    return {
        "queue": opened.name,
        "mode": opened.spec.mode,
        "rater": rater,
        "total": sum(count.values()),
        "done": count["rated"],
        "skipped": count["skipped"],
        "left": count["open"],
        "flagged": sum(bool(row.body.get("flag")) for row in rows),
        "seconds": statistics.median(seconds) if seconds else None,
        "closed": opened.closed is not None,
    }
