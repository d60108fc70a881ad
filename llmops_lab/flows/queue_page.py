"""A rating queue to be read by anybody. While it is open: what is rated, and neither who made it nor what anybody said of it."""

from __future__ import annotations

from typing import Any

from llmops_lab.flows.rate_item import OpenQueue, shown
from llmops_lab.flows.rate_results import story
from llmops_lab.ratings.items import Item, Spec
from llmops_lab.ratings.order import item_order, side_order
from llmops_lab.store import reviews
from llmops_lab.store.reviews import RatingRow

_NOBODY = ""  # the drawn orders of a rater that no queue takes: no place tells which prompt or model stands there


def readable_queue(opened: OpenQueue) -> dict[str, Any]:
    """All that a reader may know, as JSON-able data."""
    spec, closed = opened.spec, opened.closed is not None
    items = {body["item"]: Item.from_data(body) for body in reviews.items(opened.ledger, opened.queue)}
    names = [name for name in items if name not in spec.repeats]
    said = _said(opened) if closed else {}
    settled = reviews.settled(opened.ledger, opened.queue) if closed else {}
    order = names if closed else item_order(spec.seed, _NOBODY, names, {})
    lines = []
    for position, name in enumerate(order, 1):
        line: dict[str, Any] = {"task": _task(spec, items[name], position, len(names), closed), "ratings": said.get(name, [])}
        if closed:
            found = settled.get(name)
            line["by"] = {side.side.upper(): side.variant for side in items[name].sides}
            line["settled"] = found and {part: found.get(part) for part in ("value", "reason", "by")}
            line["gold"] = spec.gold.get(name)
        lines.append(line)
    return {
        "name": opened.name,
        "mode": spec.mode,
        "question": spec.rubric.question,
        "levels": [{"value": level, "text": text} for level, text in spec.rubric.levels.items()],
        "guide": spec.rubric.guide,
        "closed": closed,
        "story": story(opened) if closed else f"{len(names):,} items",
        "items": lines,
    }


def _task(spec: Spec, item: Item, position: int, total: int, closed: bool) -> dict[str, Any]:
    order = "".join(item.letters) if closed else side_order(spec.seed, _NOBODY, item.item, item.letters)
    return {**shown(item, order), "position": position, "total": total}


def _said(opened: OpenQueue) -> dict[str, list[dict[str, Any]]]:
    held: dict[str, list[dict[str, Any]]] = {}
    for row in reviews.history(opened.ledger, opened.queue):
        if row.superseded_by is None and row.kind != "undo":
            held.setdefault(opened.spec.repeats.get(row.item, row.item), []).append(_rating(row, again=row.item in opened.spec.repeats))
    return held


def _rating(row: RatingRow, *, again: bool) -> dict[str, Any]:
    return {"rater": row.rater, "again": again, **row.said()}
