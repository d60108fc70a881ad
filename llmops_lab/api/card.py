"""The card of a judge that a person holds: how far it can be believed, and what is left when its errors are taken out."""

from __future__ import annotations

import dataclasses
import html
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api.calls import load
from llmops_lab.api.display import WARNING, literal, note, table
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.escapes import inert
from llmops_lab.flows import calibrate as flow
from llmops_lab.flows.calibrate import Held, Made
from llmops_lab.flows.rate_grid import variants_of
from llmops_lab.stats.agreement import Agreement
from llmops_lab.stats.corrected import Corrected
from llmops_lab.stats.intervals import Interval
from llmops_lab.store.cards import carded, newest_card, scores_of
from llmops_lab.store.ledger import Ledger, open_ledger


def opened(ledger: Ledger, judge: Any) -> Card:
    """The newest card of this version of a judge, else of any version. Raises UnknownName."""
    found = newest_card(ledger, judge.name, judge.fingerprint)
    if found is None:
        raise UnknownName("card of a judge", judge.name, carded(ledger), "Make one: lab.calibrate(judge, labels).")
    fingerprint, body, when = found
    return Card(Made.of(body), fingerprint, when, judge.fingerprint)


class Card:
    """How far a judge can be believed. What it says was measured with one version of the judge; with another one it is ``stale``."""

    def __init__(
        self, made: Made, fingerprint: str | None, when: float, now: str | None, *, fresh: bool = False, held: Sequence[Held] = ()
    ) -> None:
        self._made, self._held, self._found = made, held, made.found
        self.fingerprint, self.created = fingerprint, when
        self.stale_because = "" if fresh or (now and now == fingerprint) else _changed(fingerprint, now)

    @property
    def judge(self) -> str:
        """The judge's name."""
        return self._made.judge

    @property
    def stale(self) -> bool:
        """Whether the judge is another one than was measured, or nobody can tell; ``stale_because`` says which."""
        return bool(self.stale_because)

    @property
    def agreement(self) -> Agreement:
        """Judge against people beyond chance: Cohen's kappa for true/false, else weighted by squared differences."""
        return self._found.agreement

    @property
    def kappa(self) -> float:
        """The value of ``agreement``."""
        return self._found.agreement.value

    @property
    def low(self) -> float:
        """The lower bound of ``kappa``."""
        return self._found.agreement.low

    @property
    def high(self) -> float:
        """The upper bound of ``kappa``."""
        return self._found.agreement.high

    @property
    def people(self) -> Agreement | None:
        """How far people agree among themselves; None where there was one rater."""
        return self._made.people

    @property
    def sensitivity(self) -> Interval | None:
        """Of what people call true, how much the judge calls true; None for a judge that gives numbers."""
        return self._found.sensitivity

    @property
    def specificity(self) -> Interval | None:
        """Of what people call false, how much the judge calls false; None for a judge that gives numbers."""
        return self._found.specificity

    @property
    def error(self) -> Interval:
        """By how much the judge's scores lie above the labels on average."""
        return self._found.error

    @property
    def corrected(self) -> Corrected:
        """The mean label of all items: value, low, high, the judge's own mean (``raw``), and how it was made."""
        return self._found.corrected

    @property
    def raw_mean(self) -> float:
        """The judge's own mean over all items."""
        return self._found.corrected.raw

    @property
    def corrected_mean(self) -> float:
        """The mean as people would give it; NaN where it cannot be known."""
        return self._found.corrected.value

    @property
    def needed_labels(self) -> int | None:
        """How many labels more make the corrected mean known to about ``within``; 0 when it is, None when no number does."""
        return self._made.needed

    @property
    def within(self) -> float:
        """What ``needed_labels`` are for."""
        return self._made.within

    @property
    def n(self) -> int:
        """The labelled items that the judge scored."""
        return self._found.agreement.n

    def difference(self, a: str, b: str, *, grid: Any = None, alpha: float = 0.05) -> Corrected:
        """Variant b minus variant a over the same rows, as people would see it, with its interval.

        Of what the card was made from; or of a ``grid`` that this version of the judge has scored. Where each side has ten labels they
        correct it; else the judge's error rates do, taken as the same on both sides. Raises BadInput, UnknownName.
        """
        held = self._held if grid is None else self._of_grid(grid)
        if not held:
            raise BadInput("this card was opened again, without what it was made from. Say which grid: card.difference(a, b, grid=g).")
        known = sorted({case.variant for case in held})
        for name in (a, b):
            if name not in known:
                raise UnknownName("variant", str(name), known)
        return flow.difference(self._made, held, a, b, alpha)

    def correct(self, grid: Any, variant: str | None = None, *, alpha: float = 0.05) -> Corrected:
        """The mean of a grid that this version of the judge has scored, or of a list of its scores, its errors taken out.

        Assumes that the judge errs there as it did on the labelled items. Raises BadInput, UnknownName.
        """
        if isinstance(grid, Sequence) and not isinstance(grid, str):
            return flow.corrected(self._made, grid, None, alpha)
        held = self._of_grid(grid)
        known = sorted({case.variant for case in held})
        if variant is not None and variant not in known:
            raise UnknownName("variant", variant, known)
        of_it = [case for case in held if variant in (None, case.variant) and not math.isnan(case.score)]
        return flow.corrected(self._made, [case.score for case in of_it], [case.pair[0] for case in of_it], alpha)

    def _of_grid(self, grid: Any) -> list[Held]:
        held = grid if hasattr(grid, "judges") else load(grid)
        ledger = open_ledger(_settings.load())
        found = scores_of(ledger, getattr(held, "grid_id", ""), self.judge)
        if not found:
            raise BadInput(f"{self.judge} has scored nothing of this grid that the ledger knows. Its score columns: {held.scorers}.")
        if self.fingerprint is None or {mark for mark, _ in found.values()} != {self.fingerprint}:
            raise BadInput(f"this grid was scored by another version of {self.judge} than the card is about. Calibrate that one.")
        cells = [each.row for each in ledger.cells(held.grid_id)]
        names = {pair: name for name, pair in variants_of([{"prompt": each.prompt, "model": each.model} for each in cells]).items()}
        scores = {cell: score.value for cell, (_, score) in found.items() if score.value is not None}
        return [
            Held(names[each.prompt, each.model], (each.row_id, each.replicate), math.nan, float(scores.get(each.cell, math.nan)))
            for each in cells
        ]

    # -- showing -----------------------------------------------------------------------------------------------------------
    @property
    def _columns(self) -> tuple[str, ...]:
        return "", "value", f"{100 * (1 - self._found.corrected.alpha):g} %", "n"

    def _lines(self) -> list[tuple[str, str, str, str]]:
        found = self._found
        lines = [_line("agreement with people (kappa)", found.agreement)]
        if self.people is not None:
            lines.append(_line("people among themselves (alpha)", self.people))
        if found.sensitivity is not None and found.specificity is not None:
            lines.append(_line("says true where people do (sensitivity)", found.sensitivity))
            lines.append(_line("says false where people do (specificity)", found.specificity))
        else:
            lines.append(_line("score above label", found.error))
        lines.append(("the judge's own mean", f"{found.corrected.raw:.3f}", "", f"{found.corrected.scored:,}"))
        whole = found.corrected.n == found.corrected.scored
        return [*lines, _line("mean of the labels" if whole else f"corrected mean ({found.corrected.method})", found.corrected)]

    def _notes(self) -> list[str]:
        made, found = self._made, self._found
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.created))
        notes = [
            f"{made.model + ', ' if made.model else ''}version {(self.fingerprint or 'unknown')[:12]}, held against {made.source}, {when}"
        ]
        notes.append(_needed(made.needed, made.within, found.corrected.scored - found.corrected.n))
        if found.unscored:
            notes.append(f"{found.unscored:,} labelled items without a score are left out")
        if made.tied:
            notes.append(f"{made.tied:,} items on which raters are split are left out")
        return [*notes, *filter(None, (found.agreement.reason, found.corrected.reason))]

    def __repr__(self) -> str:
        head = f"STALE: {self.stale_because}\n" if self.stale else ""
        return f"{head}{inert(self.judge)} against people\n{table(self._columns, self._lines())[0]}\n{'; '.join(map(inert, self._notes()))}"

    def _repr_html_(self) -> str:
        head = f'<p style="{WARNING}">STALE: {html.escape(self.stale_because)}</p>' if self.stale else ""
        name = f"<p><b>{html.escape(inert(self.judge))}</b> against people</p>"
        return literal(head + name + table(self._columns, self._lines())[1] + note(self._notes()))

    def to_dict(self) -> Mapping[str, Any]:
        """All of it as plain data."""
        own = {"fingerprint": self.fingerprint, "created": self.created, "stale": self.stale, "stale_because": self.stale_because}
        return {**dataclasses.asdict(self._made), **own}


def _changed(then: str | None, now: str | None) -> str:
    if then and now:
        return (
            "the judge's prompt, model, options or code are not those that were measured. Calibrate it again: lab.calibrate(judge, labels)."
        )
    return "nobody can tell whether the judge is the one that was measured: a Python function or live object has no version."


def _line(name: str, found: Any) -> tuple[str, str, str, str]:
    if math.isnan(found.value):
        return name, "undefined", "", f"{found.n:,}"
    bounds = "" if math.isnan(found.low) else f"{found.low:.3f} to {found.high:.3f}"
    return name, f"{found.value:.3f}", bounds, f"{found.n:,}"


def _needed(needed: int | None, within: float, left: int) -> str:
    if needed is None:
        return f"no number of labels makes the corrected mean known to ±{within:g}: more scores are needed"
    if needed == 0:
        return f"the corrected mean is known to ±{within:g}: no more labels are needed"
    unit = 10 ** max(0, len(str(needed)) - 2)
    there = "" if needed <= left else f" ({left:,} are left here: take new rows too)" if left else " (of new rows)"
    return f"label about {-(-needed // unit) * unit:,} more{there} for a corrected mean known to ±{within:g}"
