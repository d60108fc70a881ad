"""Rows become a rating queue in the ledger; the same again opens the same queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.flows.rate_item import OpenQueue
from llmops_lab.ratings.items import Found, Item, Spec, build, extend
from llmops_lab.records import digest
from llmops_lab.redact import Redactor
from llmops_lab.store import reviews
from llmops_lab.store.ledger import Ledger


def make_queue(ledger: Ledger, name: str | None, spec: Spec, found: Sequence[Found], *, limit: int | None, repeats: int) -> str:
    """Draw the items and store them with their queue; returns its name. Raises BadInput where another queue has the name."""
    spec, items = build(spec, found, limit=limit, repeats=repeats)
    mask = Redactor().tree
    data = mask(spec.to_data())
    data["mark"] = digest({**data, "grid": None})  # a row that is forgotten later changes the rest; a grid that is run again has a new id
    bodies = [mask(item.to_data()) for item in items]
    wanted = name or f"rating-{data['mark'][:8]}"
    record = reviews.create(ledger, wanted, data, [(body["item"], body["row_id"], body) for body in bodies])
    if record.spec["mark"] != data["mark"]:
        raise BadInput(
            f"a queue called {wanted!r} is there already, with {_difference(Spec.from_data(record.spec), spec)}. Its ratings are kept. "
            f"Give this one another name, or open that one: lab.queue({wanted!r})."
        )
    return record.name


def add_items(opened: OpenQueue, variants: Sequence[str], found: Sequence[Found]) -> int:
    """Add further items to a queue that is open, those that it does not hold yet; returns how many. Raises BadInput."""
    spec, mask = replace(opened.spec, variants=tuple(variants)), Redactor().tree

    def make(there: list[dict[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
        bodies = [mask(item.to_data()) for item in extend(spec, found, [Item.from_data(body) for body in there])]
        return [(body["item"], body["row_id"], body) for body in bodies]

    return reviews.extend(opened.ledger, opened.queue, make)


def _difference(old: Spec, new: Spec) -> str:
    said = {"mode": "another mode", "rubric": "another rubric", "items": "other items", "variants": "other sides"}
    said |= {"raters": "other raters", "overlap": "another number of raters", "seed": "another seed", "repeats": "other repeats"}
    found = [text for name, text in said.items() if getattr(old, name) != getattr(new, name)]
    if replace(old, seed=new.seed) == new:  # items are drawn from the seed
        found = ["another seed"]
    return " and ".join(found) or "other settings"
