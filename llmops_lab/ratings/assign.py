"""Who may rate what now: from what was rated and who looks at what, the state of every item for one rater."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from llmops_lab.ratings.items import Spec
from llmops_lab.ratings.order import item_order

State = Literal["open", "rated", "skipped", "taken"]
LEASE_SECONDS = 1800.0
"""So long an item is kept for the rater who looks at it. A rating that comes later is kept all the same."""


@dataclass(frozen=True, slots=True)
class Mark:
    """That a rater said something of an item: ``kind`` is rating, skip or undo; only what holds now."""

    item: str
    rater: str
    seq: int
    kind: str


@dataclass(frozen=True, slots=True)
class Lease:
    """That a rater looks at an item now."""

    item: str
    rater: str
    slot: int


def states(spec: Spec, items: Sequence[str], rater: str, marks: Iterable[Mark], leases: Iterable[Lease]) -> list[tuple[str, State]]:
    """The items in the rater's order, each with its state. Left out: what is shown a second time before the first time was rated."""
    mine: dict[str, str] = {}
    others: dict[str, set[str]] = {}
    for mark in marks:
        if mark.rater == rater:
            mine[mark.item] = mark.kind
        elif mark.kind == "rating":
            others.setdefault(mark.item, set()).add(mark.rater)
    for lease in leases:
        if lease.rater != rater:
            others.setdefault(lease.item, set()).add(lease.rater)
    hidden = {name for name, first in spec.repeats.items() if mine.get(first) != "rating" and name not in mine}
    order = item_order(spec.seed, rater, items, spec.repeats)
    return [(item, _state(spec, item, mine.get(item), len(others.get(item, ())))) for item in order if item not in hidden]


def _state(spec: Spec, item: str, kind: str | None, others: int) -> State:
    if kind in ("rating", "skip"):
        return "rated" if kind == "rating" else "skipped"
    shared = spec.raters is None and item not in spec.gold and item not in spec.repeats
    return "taken" if shared and others >= spec.overlap else "open"


def following(found: Sequence[tuple[str, State]], after: str | None) -> str | None:
    """The first open item; with ``after``, the first one behind it, else from the beginning again."""
    names = [item for item, _ in found]
    start = names.index(after) + 1 if after in names else 0
    turned = [*found[start:], *found[:start]]
    return next((item for item, state in turned if state == "open" and item != after), None)


def free_slot(spec: Spec, item: str, rater: str, leases: Iterable[Lease]) -> int | None:
    """The place of an item that the rater takes while they look; None where an item has room for everybody."""
    if spec.raters is not None or item in spec.gold or item in spec.repeats:
        return None
    taken = {lease.slot: lease.rater for lease in leases if lease.item == item}
    held = next((slot for slot, name in taken.items() if name == rater), None)
    return held if held is not None else next((slot for slot in range(spec.overlap) if slot not in taken), None)
