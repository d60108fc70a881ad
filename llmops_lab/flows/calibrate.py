"""A judge is held against what people said; what comes out is its card, kept in the ledger under the judge's version."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.flows.judge_many import many
from llmops_lab.records import Score
from llmops_lab.stats.agreement import Agreement
from llmops_lab.stats.calibration import Calibration
from llmops_lab.stats.calibration import calibrate as held_against
from llmops_lab.stats.corrected import (
    Corrected,
    Rates,
    moved_mean,
    powered_difference,
    rogan_gladen,
    rogan_gladen_difference,
)
from llmops_lab.stats.intervals import Interval
from llmops_lab.store.cards import keep_card
from llmops_lab.store.ledger import Ledger

ENOUGH = 10
"""So many labels on each side, and a difference is corrected by the side's own labels, not by error rates taken as the same on both."""
_SAID = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


@dataclass(frozen=True)
class Case:
    """One thing that a judge scores. ``said`` is what people said of it, none where nobody did.

    ``row`` is what it is about: cases of one row are not independent. ``pair`` finds its partner of another ``variant``. ``score`` is the
    judge's where it is on record, else ``ask(judge)`` gets it.
    """

    row: str
    variant: str = ""
    pair: tuple[Any, ...] = ()
    said: tuple[Any, ...] = ()
    score: float | None = None
    ask: Callable[[Any], Score] | None = None


@dataclass(frozen=True)
class Held:
    """A case as it went into a calibration: numbers, NaN where there is none."""

    variant: str
    pair: tuple[Any, ...]
    label: float
    score: float


@dataclass(frozen=True)
class Made:
    """What a card says, as it is kept. ``pairs`` are label and score of each labelled item; ``within`` is what ``needed`` labels are for.

    ``tied`` items had as many raters for true as for false and are left out.
    """

    judge: str
    model: str
    source: str
    found: Calibration
    people: Agreement | None
    tied: int
    within: float
    needed: int | None
    pairs: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Made:
        """The record that ``dataclasses.asdict`` wrote."""
        found = dict(body["found"])
        for name, kind in (("agreement", Agreement), ("sensitivity", Interval), ("specificity", Interval), ("rates", Rates)):
            found[name] = None if found[name] is None else kind(**found[name])
        found |= {"error": Interval(**found["error"]), "corrected": Corrected(**found["corrected"])}
        people = None if body["people"] is None else Agreement(**body["people"])
        kept = {"found": Calibration(**found), "people": people, "pairs": tuple((y, f) for y, f in body["pairs"])}
        return cls(**{**body, **kept})


@dataclass(frozen=True, slots=True)
class Terms:
    """How labels become numbers, and what is wanted. ``order``: the labels from least to most; ``threshold``: the least that is true."""

    order: Sequence[Any] | None = None
    threshold: float | None = None
    within: float | None = None
    alpha: float = 0.05
    seed: int = 0


def calibrate(
    ledger: Ledger, judge: Any, cases: Sequence[Case], people: Agreement | None, source: str, terms: Terms
) -> tuple[Made, list[Held], float]:
    """Hold the judge against the cases and keep the card. Returns it, the cases as numbers, and when it was made.

    Raises BadInput for labels that cannot be held against the judge's scores.
    """
    if not any(case.said for case in cases):
        raise BadInput(f"nobody has labelled anything in {source}, so there is nothing to hold {judge.name} against.")
    said = _numbers(cases, terms.order)
    scores = _scores(judge, cases)
    said, scores = _alike(said, scores, terms, judge.name)
    binary = _true_or_false([*scores, *(each for values in said for each in values)])
    labels = [_label(values, binary) for values in said]
    tied = sum(math.isnan(label) and bool(values) for label, values in zip(labels, said, strict=True))
    found = held_against(labels, scores, clusters=_repeated([case.row for case in cases]), alpha=terms.alpha, seed=terms.seed)
    within = terms.within if terms.within is not None else 0.05 * _span(judge, labels, binary)
    pairs = tuple((y, f) for y, f in zip(labels, scores, strict=True) if not math.isnan(y) and not math.isnan(f))
    needed = found.corrected.needed(within)
    made = Made(judge.name, judge.model, source, found, people, tied, within, needed, pairs)
    held = [Held(case.variant, case.pair or (case.row,), y, f) for case, y, f in zip(cases, labels, scores, strict=True)]
    return made, held, keep_card(ledger, judge.name, judge.fingerprint, dataclasses.asdict(made))


def _scores(judge: Any, cases: Sequence[Case]) -> list[float]:
    def score(case: Case) -> Score:
        return Score(case.score) if case.ask is None or case.score is not None else case.ask(judge)

    found = many(judge.at_once, score, cases)
    if all(each.value is None for each in found):
        why = next((each.error or each.reason for each in found if each.error or each.reason), "no score is on record")
        raise BadInput(f"{judge.name} scored none of {len(found):,} items: {why}")
    return [math.nan if each.value is None else float(each.value) for each in found]


def _numbers(cases: Sequence[Case], order: Sequence[Any] | None) -> list[list[float]]:
    """What people said, as numbers: numbers as they are, true and false as 1 and 0, words by their place in ``order``."""
    if order is not None and not all(_is_number(each) for each in order):
        places = {each: float(at) for at, each in enumerate(order)}
        unknown = sorted({str(each) for case in cases for each in case.said if each not in places})
        if unknown:
            raise BadInput(f"order={list(order)!r:.200} does not list {unknown[0]!r}, which somebody said.")
        return [[places[each] for each in case.said] for case in cases]
    return [[number(each) for each in case.said] for case in cases]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def number(value: Any, what: str = "label", cure: str = "Say what its words are worth, from least to most: order=[...].") -> float:
    """A label or score as a number, true and false as 1 and 0. Raises BadInput for another word, saying ``what`` it is and the ``cure``."""
    text = str(value).strip().lower()
    try:
        found = _SAID[text] if text in _SAID else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise BadInput(f"the {what} {value!r:.60} is no number. {cure}")
    return found


def _true_or_false(values: Sequence[float]) -> bool:
    return all(each in (0.0, 1.0) for each in values if not math.isnan(each))


def _alike(said: list[list[float]], scores: list[float], terms: Terms, judge: str) -> tuple[list[list[float]], list[float]]:
    """Labels and scores on one scale: both true/false, or both numbers."""
    if terms.threshold is not None:
        least = terms.threshold
        judged = [each if math.isnan(each) else float(each >= least) for each in scores]
        return [[float(each >= least) for each in line] for line in said], judged
    of_judge, of_people = _true_or_false(scores), _true_or_false([each for line in said for each in line])
    if of_judge and not of_people and terms.order is not None and len(terms.order) == 2:
        top = max(number(each) for each in terms.order)
        return [[float(each == top) for each in line] for line in said], scores
    if of_judge != of_people:
        first, second = ("people say", f"{judge} gives") if of_people else (f"{judge} says", "people give")
        raise BadInput(f"{first} true or false and {second} numbers. Say from which number on that counts as true: threshold=....")
    return said, scores


def _label(values: Sequence[float], binary: bool) -> float:
    """One label of an item: most raters' true or false (NaN where as many say one as the other), else the raters' mean."""
    if not values:
        return math.nan
    mean = statistics.fmean(values)
    return (math.nan if mean == 0.5 else float(mean > 0.5)) if binary else mean


def _span(judge: Any, labels: Sequence[float], binary: bool) -> float:
    told = [each for each in labels if not math.isnan(each)]
    if binary or not told:
        return 1.0
    return judge.bounds[1] - judge.bounds[0] if judge.bounds else (max(told) - min(told)) or 1.0


# -- with a card ---------------------------------------------------------------------------------------------------------------
def corrected(made: Made, scores: Sequence[float], rows: Sequence[Any] | None, alpha: float) -> Corrected:
    """The mean of other scores of the same judge, its errors taken out. ``rows``: what each score is about, where that is known."""
    clusters = _repeated(rows) if rows is not None else None
    if made.found.rates is not None:
        return rogan_gladen(made.found.rates, scores, clusters=clusters, alpha=alpha)
    return moved_mean([f - y for y, f in made.pairs], scores, clusters=clusters, alpha=alpha)


def _repeated(rows: Sequence[Any]) -> Sequence[Any] | None:
    """The rows as clusters where some occur more than once, else None."""
    return rows if len(set(rows)) < len(rows) else None


def difference(made: Made, held: Sequence[Held], a: str, b: str, alpha: float) -> Corrected:
    """Variant b minus variant a over what was asked of both. Raises BadInput where that cannot be corrected."""
    sides = [{case.pair: case for case in held if case.variant == name and not math.isnan(case.score)} for name in (a, b)]
    both = [pair for pair in sides[0] if pair in sides[1]]
    if not both:
        raise BadInput(f"{a} and {b} share no row that {made.judge} scored on both sides, so there is no paired difference.")
    (labels_a, scores_a), (labels_b, scores_b) = (
        ([side[pair].label for pair in both], [side[pair].score for pair in both]) for side in sides
    )
    rows = _repeated([pair[0] for pair in both])
    least = min(sum(not math.isnan(each) for each in labels) for labels in (labels_a, labels_b))
    if least >= ENOUGH:
        return powered_difference(labels_a, labels_b, scores_a, scores_b, clusters=rows, alpha=alpha)
    if made.found.rates is None:
        raise BadInput(
            f"a corrected difference of numbers needs {ENOUGH} labels on each side, and there are {least}. Have people label more."
        )
    return rogan_gladen_difference(made.found.rates, scores_a, scores_b, clusters=rows, alpha=alpha)
