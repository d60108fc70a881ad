"""What a queue comes to: how far raters agree, where they do not, what was settled, and what is preferred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from llmops_lab.errors import BadInput
from llmops_lab.flows.rate_item import OpenQueue
from llmops_lab.ratings.items import Item
from llmops_lab.ratings.settle import Said, beats, by_item, consistency, disagreements, gold_hits, votes
from llmops_lab.store import reviews

if TYPE_CHECKING:  # they bring numpy, which handing out and saving ratings does not need
    from llmops_lab.stats.agreement import Agreement
    from llmops_lab.stats.bradley_terry import BradleyTerry


def said(opened: OpenQueue) -> list[Said]:
    """The ratings that hold, oldest first: neither skips nor what was taken back."""
    rows = reviews.history(opened.ledger, opened.queue)
    held = [row for row in rows if row.superseded_by is None and row.kind == "rating"]
    return [Said(row.item, row.rater, row.body["value"], row.body.get("comment")) for row in held]


def items_of(opened: OpenQueue) -> dict[str, Item]:
    """All items by name."""
    return {body["item"]: Item.from_data(body) for body in reviews.items(opened.ledger, opened.queue)}


def table(opened: OpenQueue) -> Any:
    """A DataFrame of what holds: one line an item, one column a rater; for a ranking one line an item and pair of sides."""
    import pandas

    lines: dict[Any, dict[str, Any]] = {}
    letters = {name: item.letters for name, item in items_of(opened).items()} if opened.spec.mode == "ranking" else {}
    for name, ratings in by_item(opened.spec, said(opened)).items():
        for each in ratings:
            if opened.spec.mode != "ranking":
                lines.setdefault(name, {})[each.rater] = each.value
                continue
            for number, first in enumerate(letters[name]):
                for second in letters[name][number + 1 :]:
                    lines.setdefault((name, first, second), {})[each.rater] = beats("ranking", each.value, first, second)
    raters = list(dict.fromkeys(rater for line in lines.values() for rater in line))
    return pandas.DataFrame([[line.get(rater) for rater in raters] for line in lines.values()], list(lines), raters, dtype=object)


def agree(opened: OpenQueue, metric: str | None, level: str | None, alpha: float) -> Agreement:
    """How far the raters agree. By itself: Krippendorff's alpha, ordinal where the values have an order, else nominal."""
    from llmops_lab.stats.agreement import agreement

    order = None
    if opened.spec.mode == "single":
        order = list(opened.spec.rubric.levels)
        numeric = all(isinstance(each, int | float) and not isinstance(each, bool) for each in order)
        order = sorted(order, key=float) if numeric else order
    ordered = opened.spec.mode == "ranking" or (order is not None and len(order) > 2)
    chosen = level or ("ordinal" if ordered and metric in (None, "krippendorff", "weighted") else "nominal")
    return agreement(table(opened), metric or "krippendorff", chosen, order=order if chosen == "ordinal" else None, alpha=alpha)  # type: ignore[arg-type]


def raters(opened: OpenQueue, counts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One dict a rater: what ``counts`` has, and how often they said the same again, and gave a known answer, with Wilson's interval."""
    held = said(opened)
    again, gold = consistency(opened.spec, held), gold_hits(opened.spec, held)
    return [{**line, **_share("same", again.get(line["rater"], [])), **_share("gold", gold.get(line["rater"], []))} for line in counts]


def _share(name: str, hits: Sequence[bool]) -> dict[str, Any]:
    from llmops_lab.stats.intervals import wilson

    found = wilson(sum(hits), len(hits))
    return {f"{name}_n": len(hits), name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def open_disagreements(opened: OpenQueue) -> list[dict[str, Any]]:
    """One dict an item on which raters differ and nothing is settled yet: what was shown, and each rater's value and comment."""
    settled, items = reviews.settled(opened.ledger, opened.queue), items_of(opened)
    found = disagreements(by_item(opened.spec, said(opened)))
    return [_disagreement(items[name], ratings) for name, ratings in found.items() if name not in settled and name in items]


def _disagreement(item: Item, ratings: Sequence[Said]) -> dict[str, Any]:
    return {
        "item": item.item,
        "row_id": item.row_id,
        "prompt": item.prompt,
        "sides": {side.side: side.text for side in item.sides},
        "values": {each.rater: each.value for each in ratings},
        "comments": {each.rater: each.comment for each in ratings if each.comment},
    }


def strengths(opened: OpenQueue, alpha: float) -> BradleyTerry:
    """How strong each variant is, from all that was preferred; what was settled counts in place of an item's votes. Raises BadInput."""
    from llmops_lab.stats.bradley_terry import bradley_terry

    if opened.spec.mode == "single":
        raise BadInput("strengths come from comparisons. Rate pairs: lab.rate(..., mode='pairwise', a=..., b=...), or mode='ranking'.")
    if opened.closed is None:
        raise BadInput("strengths name prompts and models, and those are hidden while people rate. Close the queue first: q.close().")
    items = items_of(opened)
    settled = {name: body["value"] for name, body in reviews.settled(opened.ledger, opened.queue).items()}
    first: list[str] = []
    second: list[str] = []
    outcome: list[int] = []
    about: list[str] = []
    for name, ratings in by_item(opened.spec, said(opened)).items():
        for value in [settled[name]] if name in settled else [each.value for each in ratings]:
            for left, right in combinations(items[name].sides, 2):
                first.append(left.variant)
                second.append(right.variant)
                outcome.append(beats(opened.spec.mode, value, left.side, right.side))
                about.append(name)
    return bradley_terry(first, second, outcome, items=about, alpha=alpha)


def preferences(opened: OpenQueue, min_agreement: float, conversational: bool) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Pairs in the form that TRL's DPOTrainer reads, and how many were left out for which reason."""
    if opened.spec.mode == "single":
        raise BadInput(
            "levels of single replies are no preferences. Rate pairs: lab.rate(..., mode='pairwise', a=..., b=...), or mode='ranking'."
        )
    if isinstance(min_agreement, bool) or not isinstance(min_agreement, int | float) or not 0 <= min_agreement <= 1:
        raise BadInput(f"min_agreement is a share of the raters from 0 to 1, not {min_agreement!r:.60}.")
    items = items_of(opened)
    settled = {name: body["value"] for name, body in reviews.settled(opened.ledger, opened.queue).items()}
    made = votes(opened.spec, items, by_item(opened.spec, said(opened)), settled)
    left_out = {"no side is preferred": 0, "too little agreement": 0, "no prompt is known": 0, "both replies are the same": 0}
    pairs = []
    for vote in made:
        item = items[vote.item]
        texts = {side.side: side.text for side in item.sides}
        first_wins = vote.for_first > vote.for_second
        chosen, rejected = (vote.first, vote.second) if first_wins else (vote.second, vote.first)
        if vote.for_first == vote.for_second:
            left_out["no side is preferred"] += 1
        elif vote.agreement < min_agreement:
            left_out["too little agreement"] += 1
        elif not item.prompt:
            left_out["no prompt is known"] += 1
        elif texts[chosen] == texts[rejected]:
            left_out["both replies are the same"] += 1
        else:
            pairs.append(_pair(item.prompt, texts[chosen], texts[rejected], conversational))
    return pairs, {reason: number for reason, number in left_out.items() if number}


def _pair(prompt: str, chosen: str, rejected: str, conversational: bool) -> dict[str, Any]:
    if not conversational:
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    replies = {"chosen": chosen, "rejected": rejected}
    shown = {name: [{"role": "assistant", "content": text}] for name, text in replies.items()}
    return {"prompt": [{"role": "user", "content": prompt}], **shown}
