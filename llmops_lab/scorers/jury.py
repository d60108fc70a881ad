"""Several judges vote on the reply, by majority or by mean.

``judges`` are scorers. ``vote="majority"``: the score that most members gave; "mean": the mean of their scores, true counting as 1.
Members are asked side by side, from several threads.
More than half of the members must have given a score, and a majority must be one: else the reply is unscored. Every member's vote is in
``detail``, and members that gave none are named.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Literal

from llmops_lab.errors import BadInput
from llmops_lab.records import Reply, Score, digest
from llmops_lab.scorers._judge import totals
from llmops_lab.scorers._run import Scorer

higher_is_better = True
UNSCORED_TOO = True


def score(
    reply: Reply, target: Any, *, judges: Sequence[Scorer], vote: Literal["majority", "mean"] = "majority", row: Mapping[str, Any]
) -> Score:
    """The members' verdict; their votes, reasons and bills are in the detail."""
    with ThreadPoolExecutor(len(judges), thread_name_prefix="llmops_lab-jury") as threads:
        asked = [threads.submit(copy_context().run, judge, reply, target, row) for judge in judges]  # a cancel reaches them too
    given = {judge.name: each.result() for judge, each in zip(judges, asked, strict=True)}
    votes = {name: each.value for name, each in given.items() if each.value is not None}
    silent = [name for name in given if name not in votes]
    calls = [call for each in given.values() for call in each.detail.get("calls", ())]
    reasons = {name: each.reason or each.error for name, each in given.items() if each.reason or each.error}
    detail: dict[str, Any] = {"votes": votes, "unscored": silent, "reasons": reasons, "calls": calls}
    told = ", ".join(f"{name} {_shown(value)}" for name, value in votes.items())
    told += f"{'; ' if told else ''}without a score: {', '.join(silent)}" if silent else ""
    if len(votes) * 2 <= len(judges):
        return Score(None, reason=f"not enough members gave a score ({told})", detail=detail)
    if vote == "mean":
        return Score(sum(map(float, votes.values())) / len(votes), reason=told, detail=detail)
    (most, count), *rest = Counter(votes.values()).most_common()
    if rest and rest[0][1] == count:
        return Score(None, reason=f"no majority ({told})", detail=detail)
    return Score(most, reason=told, detail=detail)


def check(*, judges: Any, vote: str = "majority") -> None:
    """Raise BadInput unless there are two judges or more, with names of their own and one direction."""
    if not isinstance(judges, Sequence) or len(judges) < 2 or not all(isinstance(each, Scorer) for each in judges):
        raise BadInput(f"a jury has two judges or more: judges=[lab.judge(...), lab.judge(...)], not {judges!r:.80}.")
    names = [each.name for each in judges]
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise BadInput(f"two members of the jury are called {twice!r}: give each a label: lab.judge(..., label='...').")
    if len({each.higher_is_better for each in judges}) > 1:
        raise BadInput("the members of a jury must agree on which end of their scores is the good one.")


def completed(scorer: Scorer, options: Mapping[str, Any], resources: Mapping[str, Any]) -> Scorer:
    """The jury with what follows from its members: direction, bounds, version, and how many replies it can judge at once."""
    judges: Sequence[Scorer] = options["judges"]
    bounds = [each.bounds for each in judges if each.bounds is not None]
    prints = {each.name: each.fingerprint for each in judges}
    return dataclasses.replace(
        scorer,
        higher_is_better=judges[0].higher_is_better,
        needs_target=any(each.needs_target for each in judges),
        bounds=(min(low for low, _ in bounds), max(high for _, high in bounds)) if len(bounds) == len(judges) else None,
        fingerprint=None if None in prints.values() else digest({"jury": prints, "vote": options["vote"]}),
        at_once=max(each.at_once for each in judges),
        check_columns=lambda columns: [each.check_columns(columns) for each in judges if each.check_columns is not None],
        model=" + ".join(dict.fromkeys(each.model for each in judges if each.model)),
    )


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """The members' calls, tokens and cost, and on which share of the replies all members that voted said the same."""
    votes = [list(score.detail["votes"].values()) for score in scores if len(score.detail.get("votes", ())) > 1]
    agreed = sum(len(set(each)) == 1 for each in votes)
    return {**totals(scores), "unanimous": agreed / len(votes) if votes else None}


def _shown(value: bool | float) -> str:
    return str(value) if isinstance(value, bool) else f"{value:g}"
