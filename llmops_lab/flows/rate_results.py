"""What raters said, read back: tables, counts, and a line on how far a queue is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_lab.flows.export import export
from llmops_lab.flows.rate_item import OpenQueue
from llmops_lab.ratings.items import Item
from llmops_lab.records import canonical
from llmops_lab.store import reviews
from llmops_lab.store.reviews import RatingRow

COLUMNS = ("item", "rater", "value", "comment", "seconds", "side_order", "created", "superseded_by")


def ratings(opened: OpenQueue) -> Any:
    """A DataFrame of all ratings, skips and undos, oldest first, with the row's number as index."""
    import pandas

    rows = reviews.history(opened.ledger, opened.queue)
    table = pandas.DataFrame([_line(row) for row in rows], columns=list(COLUMNS), index=pandas.Index([row.seq for row in rows], name="row"))
    table["value"] = pandas.Series([row.body.get("value") for row in rows], index=table.index, dtype=object)
    table["created"] = pandas.to_datetime(table["created"], unit="s", utc=True)
    return table.astype({"seconds": "float64", "superseded_by": "Int64"})


def _line(row: RatingRow) -> dict[str, Any]:
    said = {name: row.body.get(name) for name in ("value", "comment", "seconds", "side_order")}
    return {"item": row.item, "rater": row.rater, **said, "created": row.created, "superseded_by": row.superseded_by}


def records(opened: OpenQueue) -> list[dict[str, Any]]:
    """One dict a stored row with all fields. ``sides`` (letter -> variant) is None while the queue is open."""
    closed = opened.closed is not None
    items = {body["item"]: Item.from_data(body) for body in reviews.items(opened.ledger, opened.queue)}
    return [_record(row, items.get(row.item), closed, opened.spec.repeats) for row in reviews.history(opened.ledger, opened.queue)]


def _record(row: RatingRow, item: Item | None, closed: bool, repeats: Any) -> dict[str, Any]:
    said = {name: row.body.get(name) for name in ("value", "comment", "seconds", "flag", "skip", "correction", "side_order")}
    return {
        "row": row.seq,
        "item": row.item,
        "row_id": item.row_id if item else None,
        "repeats": repeats.get(row.item),
        "rater": row.rater,
        "kind": row.kind,
        **said,
        "created": row.saved_at,
        "supersedes": row.supersedes or None,
        "superseded_by": row.superseded_by,
        "id": row.id,
        "sides": {side.side: side.variant for side in item.sides} if closed and item else None,
    }


def export_records(opened: OpenQueue, path: str | Path) -> Path:
    """Write ``records`` to a file; in a table the sides stand as JSON, and values of several kinds as texts. Raises BadInput."""
    lines = records(opened)
    if Path(path).suffix.lower() not in (".json", ".jsonl"):
        mixed = len({type(line["value"]) for line in lines if line["value"] is not None}) > 1
        for line in lines:
            line["sides"] = canonical(line["sides"]) if line["sides"] else None
            line["value"] = str(line["value"]) if mixed and line["value"] is not None else line["value"]
    return export(lines, path, also=(".html",))


def settled(opened: OpenQueue) -> Any:
    """A DataFrame of what was settled."""
    import pandas

    found = [{"item": item, **body} for item, body in reviews.settled(opened.ledger, opened.queue).items()]
    table = pandas.DataFrame(found, columns=["item", "value", "reason", "by", "created", "row"]).astype({"value": object})
    table["created"] = pandas.to_datetime(table["created"], unit="s", utc=True)
    return table


def counts(opened: OpenQueue) -> list[dict[str, Any]]:
    """One dict a rater: name, and how many items are rated, skipped and flagged."""
    found = {name: {"rater": name, "rated": 0, "skipped": 0, "flagged": 0} for name in opened.spec.raters or ()}
    for row in reviews.history(opened.ledger, opened.queue):
        line = found.setdefault(row.rater, {"rater": row.rater, "rated": 0, "skipped": 0, "flagged": 0})
        if row.superseded_by is None and row.kind != "undo":
            line["rated" if row.kind == "rating" else "skipped"] += 1  # type: ignore[operator]
            line["flagged"] += bool(row.body.get("flag"))  # type: ignore[operator]
    return list(found.values())


def story(opened: OpenQueue) -> str:
    """How far a queue is, in a line."""
    names = [item for item in reviews.item_names(opened.ledger, opened.queue) if item not in opened.spec.repeats]
    done: dict[str, int] = {}
    for item, _, _, kind in reviews.marks(opened.ledger, opened.queue):
        done[item] = done.get(item, 0) + (kind == "rating")
    enough = sum(done.get(item, 0) >= opened.spec.overlap for item in names)
    wanted = "a rating" if opened.spec.overlap == 1 else f"{opened.spec.overlap} ratings"
    parts = ["closed" if opened.closed is not None else "open", f"{enough:,} of {len(names):,} items have {wanted}"]
    if opened.spec.repeats:
        parts.append(f"{len(opened.spec.repeats):,} are shown twice")
    if opened.spec.left_out:
        parts.append(f"{opened.spec.left_out:,} row{'s were' if opened.spec.left_out > 1 else ' was'} left out: a reply is missing")
    return "; ".join(parts)
