"""Two variants of a grid before a pairwise judge: every pair of replies in both orders, a verdict, and how much the order decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import DoesNotPair
from llmops_lab.flows.judge_many import Told, many
from llmops_lab.records import Verdict
from llmops_lab.scorers.pairwise import PairScorer, Preference
from llmops_lab.stats import verdict as verdicts
from llmops_lab.stats.intervals import Interval, wilson

Records = Sequence[Mapping[str, Any]]
_WITHIN_A_ROW = ("prompt", "model", "replicate")
_SIGN = {"a": -1, "tie": 0, "b": 1}


@dataclass(frozen=True)
class Pair:
    """One pair of replies to the same row, and what the judge said of it."""

    row_id: str
    where: tuple[Any, ...]
    a: str
    b: str
    found: Preference


@dataclass(frozen=True)
class Found:
    """All pairs, the row's outcome each ("a", "b", "tie" or None), the verdict on b against a, and the share of pairs on which
    both orders agreed. ``first`` of the ``swayed`` pairs went to whatever stood first.
    """

    pairs: tuple[Pair, ...]
    rows: Mapping[str, str | None]
    verdict: Verdict
    consistency: Interval
    swayed: int
    first: int


def compare_pairs(
    judge: PairScorer, a: Records, b: Records, rows: Mapping[str, Mapping[str, Any]], *, names: tuple[str, str], alpha: float,
    told: Told | None = None,
) -> Found:  # fmt: skip
    """Judge b against a, pair by pair, and row by row: a row is won by the side that won more of its pairs.

    The test is McNemar's on rows won and lost: the exact sign test, ties left out. Raises DoesNotPair where no row has both replies.
    """
    wanted = paired(a, b, names)
    said = many(judge.at_once, lambda pair: judge.prefer(pair[2], pair[3], rows.get(pair[0], {})), wanted, told)
    pairs = tuple(Pair(*pair, found) for pair, found in zip(wanted, said, strict=True))
    held: dict[str, list[Preference]] = {}
    for pair in pairs:
        held.setdefault(pair.row_id, []).append(pair.found)
    outcomes = {row: outcome(given) for row, given in held.items()}
    everything = dict.fromkeys(record["row_id"] for record in (*a, *b))
    left, right = ([_won(outcomes.get(row), side) for row in everything] for side in "ab")
    found = verdicts.compare(left, right, binary=True, alpha=alpha, a_name=names[0], b_name=names[1], scorer=judge.name)
    agreed = [pair.found.consistent for pair in pairs if pair.found.consistent is not None]
    swayed = [pair.found.orders for pair in pairs if pair.found.consistent is False]
    first = sum(leaning(orders) > 0 for orders in swayed)
    return Found(pairs, {row: outcomes.get(row) for row in everything}, found, wilson(sum(agreed), len(agreed), alpha), len(swayed), first)


def paired(a: Records, b: Records, names: tuple[str, str]) -> list[tuple[str, tuple[Any, ...], str, str]]:
    """``(row, where, text of a, text of b)`` of the replies that have a partner: same row, and same replicate and the rest alike."""
    same = [name for name in _WITHIN_A_ROW if {each[name] for each in a} == {each[name] for each in b}]
    left, right = ({(each["row_id"], *(each[name] for name in same)): each["text"] for each in side if each["text"]} for side in (a, b))
    both = [key for key in left if key in right]
    if not both:
        raise DoesNotPair(f"{names[0]} and {names[1]} have no row to which both gave a reply.")
    return [(key[0], key[1:], left[key], right[key]) for key in both]


def outcome(found: Sequence[Preference]) -> str | None:
    """Who won most of a row's pairs; "tie" where as many, None where none has a verdict."""
    given = [_SIGN[each.value] for each in found if each.value is not None]
    if not given:
        return None
    total = sum(given)
    return "tie" if total == 0 else "b" if total > 0 else "a"


def leaning(orders: Sequence[str | None]) -> float:
    """1 where both orders named what stood first, -1 where both named what stood second, 0 where the order did not decide."""
    first = [0.0 if said in ("tie", None) else 1.0 if said == shown else -1.0 for said, shown in zip(orders, "ab", strict=False)]
    return sum(first) / 2


def _won(outcome: str | None, side: str) -> float:
    return math.nan if outcome is None else float(outcome == side)
