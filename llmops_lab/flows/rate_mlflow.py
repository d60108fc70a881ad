"""What people said goes to MLflow, through the outbox: assessments on the replies' traces; what was settled or corrected as a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.flows.deliver import deliver
from llmops_lab.flows.rate_item import OpenQueue, item_of
from llmops_lab.flows.rate_settle import items_of
from llmops_lab.flows.track import cell_trace
from llmops_lab.ratings.items import Item, Side
from llmops_lab.ratings.rubric import checked, ranks
from llmops_lab.records import Message, Request, canonical
from llmops_lab.redact import Redactor, redact
from llmops_lab.settings import Settings
from llmops_lab.store import reviews
from llmops_lab.store.ledger import CellState
from llmops_lab.store.reviews import RatingRow
from llmops_lab.store.rows import rows_of
from llmops_lab.track.traces import trace_id

_PREFERRED = {"tie": "tie", "bad": "both bad"}


@dataclass(frozen=True, slots=True)
class Sent:
    """What went to MLflow: so many ``ratings`` on so many ``traces``; ``waiting`` entries are in the outbox, for the next delivery."""

    ratings: int
    traces: int
    expectations: int
    waiting: int

    def __repr__(self) -> str:
        waits = f"; {self.waiting} entries wait for MLflow, and go with the next delivery" if self.waiting else ""
        return f"{self.ratings} ratings on {self.traces} traces, {self.expectations} expectations{waits}"


def to_mlflow(opened: OpenQueue, settings: Settings) -> Sent:
    """Queue all that holds now, and try to deliver it; sent again, a rating takes the place of its older one."""
    ledger, items = opened.ledger, items_of(opened)
    rows = [row for row in reviews.history(ledger, opened.queue) if row.superseded_by is None]
    settled = reviews.settled(ledger, opened.queue)
    cells = _cells(opened, items.values())
    by_item: dict[str, list[RatingRow]] = {}
    for row in rows:
        by_item.setdefault(row.item, []).append(row)
    entries: list[tuple[str, dict[str, Any]]] = []
    reviewed: list[dict[str, Any]] = []
    for name in dict.fromkeys([*by_item, *settled]):
        item = items.get(name)
        if item is not None and name not in opened.spec.repeats:
            traces = [_trace(opened, settings, item, side, cells) for side in item.sides]
            entries.append(("rating", _rating(opened, settings, item, traces, by_item.get(name, []), settled.get(name))))
            reviewed += [_reviewed(trace, by_item.get(name, [])) for trace in traces]
    entries.append(("review", _review(opened, settings, reviewed)))
    entries += [("dataset", entry) for entry in _corrections(opened, settings, items, rows)]
    mask = Redactor().tree
    waiting = {(kind, canonical(payload)): number for number, kind, payload in ledger.outbox_pending()}
    masked = [(kind, mask(payload)) for kind, payload in entries]
    numbers = [waiting.get((kind, canonical(payload))) or ledger.outbox_add(kind, payload) for kind, payload in masked]
    arrived = deliver(ledger, settings)
    rated = sum(row.kind == "rating" and row.item not in opened.spec.repeats for row in rows)
    expectations = len(settled) + sum(kind == "dataset" for kind, _ in entries)
    return Sent(rated, len({each["trace"] for each in reviewed}), expectations, sum(number not in arrived for number in numbers))


def settle(opened: OpenQueue, settings: Settings, item: Any, value: Any, reason: Any, by: str) -> int:
    """Store what was settled about an item, tell MLflow's dataset of it, and return its number. Raises BadInput or UnknownName."""
    found = item_of(opened, opened.spec.repeats.get(item, item) if isinstance(item, str) else item)
    if reason is not None and not isinstance(reason, str):
        raise BadInput(f"the reason is a text, not {reason!r:.60}.")
    chosen = checked(opened.spec.mode, opened.spec.rubric, found.letters, value)
    number = reviews.settle(
        opened.ledger, opened.queue, found.item, {"value": chosen, "reason": redact(reason) if reason else None, "by": by}
    )
    entry = _dataset_entry(opened, settings, found, _expected(opened, found, chosen))
    opened.ledger.outbox_add("dataset", Redactor().tree(entry))
    deliver(opened.ledger, settings)
    return number


def _dataset_entry(
    opened: OpenQueue, settings: Settings, item: Item, expectations: Mapping[str, Any], rater: str | None = None
) -> dict[str, Any]:
    # One record of the evaluation dataset ``ratings-QUEUE``: the row's fields, and what is expected of them.
    inputs = _fields(opened, item) or ({"prompt": item.prompt} if item.prompt else {"row_id": item.row_id})
    if opened.spec.mode == "single" and opened.name in expectations:
        inputs = {**inputs, "reply": item.sides[0].text}
    tags = {"row_id": item.row_id, "queue": opened.name, "item": item.item, "rater": rater}
    record = {"inputs": inputs, "expectations": dict(expectations), "tags": tags}
    return {"dataset": f"ratings-{opened.name}".replace("'", ""), "experiment": settings.experiment, "records": [record]}


def _expected(opened: OpenQueue, item: Item, value: Any) -> dict[str, Any]:
    # The value, and of several replies the text of the preferred one.
    best = [value] if opened.spec.mode == "pairwise" else ranks(value, item.letters)[0] if opened.spec.mode == "ranking" else []
    preferred = [side.text for side in item.sides if side.side in best]
    return {opened.name: value, **({"preferred": preferred[0]} if len(preferred) == 1 else {})}


def _fields(opened: OpenQueue, item: Item) -> dict[str, Any]:
    grid = item.sides[0].grid
    record = opened.ledger.grid(grid) if grid else None
    dataset = record["plan"]["dataset"] if record else {}
    kept = dict(rows_of(opened.ledger, dataset["digest"], [item.row_id])) if dataset.get("digest") else {}
    return {name: value for name, value in kept.get(item.row_id, {}).items() if name != dataset.get("expected")}


def _cells(opened: OpenQueue, items: Iterable[Item]) -> dict[tuple[str, int], CellState]:
    grids = {side.grid for item in items for side in item.sides if side.grid is not None}
    return {(grid, each.row.cell): each for grid in grids for each in opened.ledger.cells(grid)}


def _trace(opened: OpenQueue, settings: Settings, item: Item, side: Side, cells: Mapping[tuple[str, int], CellState]) -> dict[str, Any]:
    record = opened.ledger.grid(side.grid) if side.grid else None
    asked = tuple(Message(each["role"], _content(each["content"])) for each in side.asked) or (Message("user", item.prompt),)
    cell = cells.get((side.grid, side.cell)) if side.grid is not None and side.cell is not None else None
    if record is not None and cell is not None:
        return cell_trace(cell, Request(asked), record, settings)
    return {
        "id": f"{opened.queue}:{item.row_id}:{side.variant}:{side.replicate}",
        "name": f"{opened.name}/{side.variant}",
        "experiment": settings.experiment,
        "started": opened.created,
        "ended": opened.created,
        "inputs": [{"role": each.role, "content": each.content} for each in asked],
        "output": side.text,
        "status": "ok",
        "tags": {"row_id": item.row_id, "queue": opened.name},
    }


def _content(content: Any) -> Any:
    return content if isinstance(content, str) else tuple(content)


def _rating(
    opened: OpenQueue,
    settings: Settings,
    item: Item,
    traces: Sequence[dict[str, Any]],
    rows: Sequence[RatingRow],
    settled: Mapping[str, Any] | None,
) -> dict[str, Any]:
    sides = []
    for side, trace in zip(item.sides, traces, strict=True):
        said = [_assessment(opened, item, side, row) for row in rows]
        expected = _expectation(opened, item, side, settled) if settled else None
        sides.append({"trace": trace, "assessments": said, "expectation": expected})
    return {
        "queue": opened.queue,
        "name": opened.name,
        "experiment": settings.experiment,
        "item": item.item,
        "row_id": item.row_id,
        "sides": sides,
    }


def _assessment(opened: OpenQueue, item: Item, side: Side, row: RatingRow) -> dict[str, Any]:
    value = _of_side(opened.spec.mode, item, side.side, row.body["value"]) if row.kind == "rating" else None
    known: dict[str, Any] = {"side": side.side if len(item.sides) > 1 else None, "seconds": row.body.get("seconds"), "kind": row.kind}
    if row.kind == "rating":
        known |= {"flag": row.body.get("flag") or None, "side_order": row.body.get("side_order")}
    facts = {name: str(fact) for name, fact in known.items() if fact is not None}
    return {"row": row.seq, "rater": row.rater, "at": row.created, "value": value, "rationale": row.body.get("comment"), "facts": facts}


def _expectation(opened: OpenQueue, item: Item, side: Side, settled: Mapping[str, Any]) -> dict[str, Any]:
    value = _of_side(opened.spec.mode, item, side.side, settled["value"])
    return {"row": settled["row"], "by": settled["by"], "at": settled["created"], "value": value, "reason": settled["reason"]}


def _of_side(mode: str, item: Item, side: str, value: Any) -> Any:
    """What a rating says of one reply: its level, better or worse than the other, or its place, 1 for the best."""
    if mode == "single":
        return value
    if mode == "pairwise":
        return _PREFERRED.get(value) or ("better" if value == side else "worse")
    groups = ranks(value, item.letters)
    return 1 + sum(len(group) for group in groups[: next(place for place, group in enumerate(groups) if side in group)])


def _reviewed(trace: Mapping[str, Any], rows: Sequence[RatingRow]) -> dict[str, Any]:
    last = next((row for row in reversed(rows) if row.kind != "undo"), None)
    status = "pending" if last is None else "complete" if last.kind == "rating" else "declined"
    return {"trace": trace_id(str(trace["id"])), "status": status, "by": last.rater if last else None}


def _review(opened: OpenQueue, settings: Settings, reviewed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    rubric, spec = opened.spec.rubric, opened.spec
    return {
        "queue": opened.queue,
        "name": opened.name,
        "experiment": settings.experiment,
        "mode": spec.mode,
        "question": rubric.question,
        "guide": rubric.guide,
        "levels": [[level, anchor] for level, anchor in rubric.levels.items()],
        "sides": len(spec.variants),
        "users": list(dict.fromkeys([*(spec.raters or ()), *(each["by"] for each in reviewed if each["by"])])),
        "items": list({each["trace"]: each for each in reviewed}.values()),
    }


def _corrections(opened: OpenQueue, settings: Settings, items: Mapping[str, Item], rows: Sequence[RatingRow]) -> list[dict[str, Any]]:
    newest = {items[row.item].row_id: row for row in rows if row.body.get("correction") and row.item in items}
    return [
        _dataset_entry(opened, settings, items[row.item], {"expected_response": row.body["correction"]}, row.rater)
        for row in newest.values()
    ]
