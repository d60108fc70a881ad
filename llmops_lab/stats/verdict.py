"""From paired scores to a verdict: better, worse, equivalent or inconclusive, and the sentence that says so.

Precedence: ``p_value < alpha`` decides first, and the direction of the scorer makes it better or worse, also when the
difference is smaller than the margin (the sentence then says so). Otherwise ``equivalent`` if a margin was given and two
one-sided tests at alpha show the difference inside it (so the 90 % interval of alpha 0.05 lies inside). Else
``inconclusive``. The numbers never flip: ``delta`` is mean(b) - mean(a) whatever the direction.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from llmops_lab.records import OutcomeName, Verdict
from llmops_lab.stats._check import check_margin
from llmops_lab.stats.anytime import PairedSequence
from llmops_lab.stats.multiple import holm, holm_levels
from llmops_lab.stats.paired import paired_test
from llmops_lab.stats.power import minimum_detectable_effect, needed_rows


def compare(
    a: ArrayLike,
    b: ArrayLike,
    *,
    binary: bool,
    alpha: float = 0.05,
    margin: float | None = None,
    higher_is_better: bool = True,
    seed: int = 0,
    a_name: str = "a",
    b_name: str = "b",
    scorer: str = "",
) -> Verdict:
    """Judge b against a from row means of shape (rows,) each, same row order, NaN = missing on that side.

    ``binary`` says that the scorer gives true or false; ``margin`` is the largest difference that does not matter, in
    the scorer's unit. ``wins`` and ``losses`` count rows where b is better and worse. ``mde`` is the smallest difference
    that this number of rows shows with 80 % power (None where none can be). ``needed_rows`` is None once decided, else
    as ``power.needed_rows`` says. Bounds are infinite for numeric scores on too few rows to reject anything (5 or fewer
    at alpha 0.05). Raises DoesNotPair and BadInput as ``paired_test`` does.
    """
    found = paired_test(a, b, binary=binary, alpha=alpha, margin=margin, seed=seed)
    outcome = _outcome(found.p_value, found.equivalence_p, found.delta, alpha, higher_is_better)
    sd = None if found.discordance is not None else found.sd or 0.0
    wins, losses = (found.up, found.down) if higher_is_better else (found.down, found.up)
    rows = None
    if outcome == "inconclusive":
        rows = needed_rows(found.n, found.delta, sd=sd, discordance=found.discordance, margin=margin, alpha=alpha)
    return Verdict(
        outcome=outcome, delta=found.delta, ci_low=found.low, ci_high=found.high, p_value=found.p_value, test=found.test,
        n_pairs=found.n, n_missing=found.n_missing, needed_rows=rows, a=a_name, b=b_name, scorer=scorer,
        mean_a=found.mean_a, mean_b=found.mean_b, alpha=alpha, margin=margin,
        mde=minimum_detectable_effect(found.n, sd=sd, discordance=found.discordance, alpha=alpha),
        wins=wins, losses=losses, ties=found.level, higher_is_better=higher_is_better,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """One of several comparisons: row means of shape (rows,) each, and the names that its verdict carries."""

    a: ArrayLike
    b: ArrayLike
    a_name: str = "a"
    b_name: str = "b"


def compare_many(
    pairs: Sequence[Pair],
    *,
    binary: bool,
    alpha: float = 0.05,
    margin: float | None = None,
    higher_is_better: bool = True,
    seed: int = 0,
    scorer: str = "",
) -> list[Verdict]:
    """Judge several pairs so that the chance of any false better or worse among them is at most ``alpha`` (Holm).

    ``p_value`` is Holm's adjusted one and decides against ``alpha``. Each interval is drawn at the level at which Holm
    judges its pair, so it excludes 0 exactly when the adjusted p-value is below alpha; equivalence is judged at that
    level too. Pairs that share no row are to be left out: they raise DoesNotPair.
    """

    def judge(pair: Pair, level: float) -> Verdict:
        return compare(
            pair.a, pair.b, binary=binary, alpha=level, margin=margin, higher_is_better=higher_is_better, seed=seed,
            a_name=pair.a_name, b_name=pair.b_name, scorer=scorer,
        )  # fmt: skip

    if len(pairs) < 2:
        return [judge(pair, alpha) for pair in pairs]
    p_values = [judge(pair, alpha).p_value for pair in pairs]
    verdicts = [judge(pair, level) for pair, level in zip(pairs, holm_levels(p_values, alpha), strict=True)]
    return [
        dataclasses.replace(each, p_value=adjusted, alpha=alpha, test=f"{each.test}, Holm of {len(pairs)}")
        for each, adjusted in zip(verdicts, holm(p_values), strict=True)
    ]


def from_sequence(
    sequence: PairedSequence,
    *,
    margin: float | None = None,
    higher_is_better: bool = True,
    n_missing: int = 0,
    a_name: str = "a",
    b_name: str = "b",
    scorer: str = "",
) -> Verdict:
    """Give the verdict of a sequence that was watched: a grid that stopped when decided must be judged by this one.

    A fixed-rows p-value would be too small after such a stop. ``equivalent`` when the anytime-valid interval lies inside
    the margin. ``needed_rows`` is for a plain comparison on that many rows. Before the first row ``delta`` is 0.0.
    """
    check_margin(margin)
    low, high = sequence.interval
    delta = sequence.estimate if sequence.n else 0.0
    inside = margin is not None and -margin < low and high < margin
    outcome = _outcome(sequence.p_value, 0.0 if inside else None, low + high, sequence.alpha, higher_is_better)
    up, down, level = sequence.counts()
    rows = None
    if outcome == "inconclusive":
        rows = needed_rows(max(sequence.n, 1), delta, sd=sequence.spread(), margin=margin, alpha=sequence.alpha)
    return Verdict(
        outcome=outcome, delta=delta, ci_low=low, ci_high=high, p_value=sequence.p_value, test="anytime-valid betting",
        n_pairs=sequence.n, n_missing=n_missing, needed_rows=rows, a=a_name, b=b_name, scorer=scorer, alpha=sequence.alpha,
        margin=margin, wins=up if higher_is_better else down, losses=down if higher_is_better else up, ties=level,
        higher_is_better=higher_is_better,
    )  # fmt: skip


def _outcome(p_value: float, equivalence_p: float | None, direction: float, alpha: float, higher_is_better: bool) -> OutcomeName:
    if p_value < alpha:
        return "better" if (direction > 0) == higher_is_better else "worse"
    if equivalence_p is not None and equivalence_p < alpha:
        return "equivalent"
    return "inconclusive"


def sentence(verdict: Verdict) -> str:
    """Say a verdict in one line: outcome, names, difference with interval, test, p-value, rows; and what an open one needs."""
    digits = _digits(verdict)
    on = f" on {verdict.scorer}" if verdict.scorer else ""
    shown = f"{_signed(verdict.delta, digits)} [{_bound(verdict.ci_low, digits)}, {_bound(verdict.ci_high, digits)}]"
    if not verdict.higher_is_better:
        shown += " (lower is better)"
    evidence = f"{verdict.test} p{_chance(verdict.p_value, verdict.alpha)}, {_rows(verdict.n_pairs)}"
    if verdict.n_missing:
        evidence += f", {verdict.n_missing:,} missing"
    if verdict.n_partial:
        evidence += f", {verdict.n_partial:,} in part"
    b, a = verdict.b or "b", verdict.a or "a"
    if verdict.outcome == "equivalent":
        return f"equivalent: {b} and {a} differ{on} by less than {verdict.margin:g}: {shown}, {evidence}"
    if verdict.outcome == "inconclusive":
        return f"inconclusive: {b} against {a}{on} {shown}, {evidence}; {_what_it_takes(verdict)}"
    small = verdict.margin is not None and max(abs(verdict.ci_low), abs(verdict.ci_high)) < verdict.margin
    note = f" (yet within the margin of {verdict.margin:g})" if small else ""
    verb = "beats" if verdict.outcome == "better" else "loses to"
    return f"{verdict.outcome}: {b} {verb} {a}{on} by {shown}{note}, {evidence}"


def _what_it_takes(verdict: Verdict) -> str:
    if verdict.needed_rows is None:
        return "more rows are needed"
    about = _about(verdict.needed_rows)
    if verdict.delta == 0 and verdict.margin is None:
        return f"no difference was seen; about {about} rows would show the smallest one that these rows could hold (80 % power)"
    return f"about {about} rows would settle it at this effect (80 % power)"


def _about(rows: int) -> str:
    # Two significant figures, rounded up: more would claim to know.
    unit = 10 ** max(0, len(str(rows)) - 2)
    return f"{-(-rows // unit) * unit:,}"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _digits(verdict: Verdict) -> int:
    # Enough decimals for two figures of the interval's half-width, and for no bound to be rounded onto 0.
    half = (verdict.ci_high - verdict.ci_low) / 2
    scale = half if 0 < half < math.inf else abs(verdict.delta)
    digits = 2 if scale == 0 else min(6, max(0, 1 - math.floor(math.log10(scale))))
    while digits < 9 and any(each != 0 and abs(each) < 0.5 * 10**-digits for each in (verdict.ci_low, verdict.ci_high)):
        digits += 1
    return digits


def _signed(value: float, digits: int) -> str:
    text = f"{value:+,.{digits}f}"
    return text if any(digit in "123456789" for digit in text) else text.lstrip("+-")


def _bound(value: float, digits: int) -> str:
    if math.isinf(value):
        return "unbounded"
    return _signed(value, digits).lstrip("+")


def _chance(p_value: float, alpha: float) -> str:
    if p_value < 1e-4:
        return "<0.0001"
    for figures in range(2, 12):
        text = f"{p_value:.{figures}g}"
        if (float(text) < alpha) == (p_value < alpha):
            return f"={text}"
    return f"={p_value!r}"
