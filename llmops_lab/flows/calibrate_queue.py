"""What people said in a rating queue becomes what a judge can be held against."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.flows.calibrate import Case
from llmops_lab.flows.rate_grid import variants_of
from llmops_lab.flows.rate_item import OpenQueue
from llmops_lab.flows.rate_settle import agree, items_of, said
from llmops_lab.ratings.items import Item
from llmops_lab.ratings.settle import by_item
from llmops_lab.records import Reply, Score
from llmops_lab.scorers.pairwise import PairScorer
from llmops_lab.stats.agreement import Agreement
from llmops_lab.store import reviews
from llmops_lab.store.cards import scores_of
from llmops_lab.store.ledger import Ledger
from llmops_lab.store.rows import rows_of

PAIRS: Mapping[str | None, float | None] = {"a": 0.0, "tie": 0.5, "bad": 0.5, "b": 1.0, None: None}
"""What a pairwise rating is worth: how far b is preferred."""


def cases(opened: OpenQueue, judge: Any) -> list[Case]:
    """Every item of the queue, and every other reply of its variants that the judge has scored in the queue's grid.

    Scores of the same version of the judge are taken from the ledger; the rest is asked for. Raises BadInput for a queue of rankings.
    """
    if opened.spec.mode == "ranking":
        raise BadInput("a ranking is no label of a reply. Hold the judge against single or pairwise ratings.")
    if (opened.spec.mode == "pairwise") != isinstance(judge, PairScorer):
        cure = "lab.judge('pairwise', ...)" if opened.spec.mode == "pairwise" else "a scorer of single replies"
        raise BadInput(f"the queue {opened.name} holds {opened.spec.mode} ratings: what is held against them is {cure}.")
    settled = reviews.settled(opened.ledger, opened.queue)
    found = by_item(opened.spec, said(opened))
    values = {name: tuple(each.value for each in ratings) for name, ratings in found.items()}
    values |= {name: (body["value"],) for name, body in settled.items()}
    items = [item for name, item in items_of(opened).items() if name not in opened.spec.repeats]
    if opened.spec.mode == "pairwise":
        return [_pair(item, values.get(item.item, ())) for item in items]
    grid = _Grid(opened.ledger, opened.spec.grid, judge)
    made = [grid.case(item, values.get(item.item, ())) for item in items]
    return made + grid.rest({item.sides[0].cell for item in items}, opened.spec.variants)


def _pair(item: Item, said: tuple[Any, ...]) -> Case:
    def ask(judge: Any) -> Score:
        sides = {side.side: side.text for side in item.sides}
        found = judge.prefer(sides["a"], sides["b"], _row(item))
        return Score(PAIRS[found.value], reason=found.reason, error=found.error)

    return Case(item.row_id, pair=(item.item,), said=tuple(PAIRS[each] for each in said), ask=ask)


def _row(item: Item) -> dict[str, Any]:
    # With its id, under which the judge's calls are recorded: a row that is forgotten takes them along.
    return {"prompt": item.prompt, **dict(item.sources), "id": item.row_id}


class _Grid:
    """The grid that a queue came from, as far as the ledger has it: rows, replies, and this judge's scores."""

    def __init__(self, ledger: Ledger, grid: str | None, judge: Any) -> None:
        record = ledger.grid(grid) if grid else None
        plan = record["plan"] if record else {"dataset": {}}
        self._rows = dict(rows_of(ledger, plan["dataset"]["digest"])) if plan["dataset"].get("digest") else {}
        self._expected = plan["dataset"].get("expected")
        self._cells = {each.row.cell: each for each in ledger.cells(record["grid"])} if record else {}
        found = scores_of(ledger, record["grid"], judge.name) if record else {}
        self._scores = {cell: score.value for cell, (mark, score) in found.items() if mark and mark == judge.fingerprint}

    def case(self, item: Item, said: tuple[Any, ...]) -> Case:
        side = item.sides[0]
        score = self._scores.get(side.cell) if side.cell is not None else None
        where = (item.row_id, side.replicate)
        known = None if score is None else float(score)
        return Case(item.row_id, side.variant, where, said, known, partial(self._ask, item))

    def rest(self, taken: set[int | None], variants: tuple[str, ...]) -> list[Case]:
        cells = [{"prompt": each.row.prompt, "model": each.row.model} for each in self._cells.values()]
        names = {pair: name for name, pair in variants_of(cells).items() if name in variants}
        found = []
        for cell, each in self._cells.items():
            name, score = names.get((each.row.prompt, each.row.model)), self._scores.get(cell)
            if cell not in taken and name is not None and score is not None:
                found.append(Case(each.row.row_id, name, (each.row.row_id, each.row.replicate), score=float(score)))
        return found

    def _ask(self, item: Item, judge: Any) -> Score:
        side = item.sides[0]
        state = self._cells.get(side.cell) if side.cell is not None else None
        reply = state.outcome.reply if state and state.outcome and state.outcome.reply else Reply(side.text, "stop")
        row = self._rows.get(item.row_id) or _row(item)
        score: Score = judge(reply, row.get(self._expected) if self._expected else None, row)
        return score


def people(opened: OpenQueue, alpha: float) -> Agreement | None:
    """How far the raters agree among themselves; None for one rater."""
    raters = {each.rater for each in said(opened)}
    return agree(opened, None, None, alpha) if len(raters) > 1 else None
