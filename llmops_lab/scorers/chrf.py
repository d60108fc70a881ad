"""chrF of the reply against the expected text (0 to 100): overlap of character n-grams.

chrF2 as in Popović 2015 and in sacreBLEU: n-grams of 1 to 6 characters without whitespace, precision and recall
averaged over the orders that both texts have, F with beta 2. Works for languages without spaces. Of several
expected texts the best counts. The summary has the corpus chrF, which is not the mean of the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from llmops_lab.records import Reply, Score
from llmops_lab.scorers._text import clip, expected_texts

higher_is_better = True
NEEDS_TARGET = True
BOUNDS = (0.0, 100.0)

_ORDERS = range(1, 7)
_BETA_SQUARED = 4.0


def score(reply: Reply, target: Any, *, ignore_case: bool = False) -> Score:
    """0 to 100. An empty reply is 0, an empty reference leaves the row unscored. ``detail["counts"]`` is for the corpus score."""
    references = [clip(text)[0] for text in expected_texts(target) if text.strip()]
    if not references:
        return Score(None, reason="the expected value is empty")
    answer, reason = clip(reply.text)
    given = _grams(answer, ignore_case)
    counts = max((_counts(given, _grams(each, ignore_case)) for each in references), key=_f_score)
    return Score(_f_score(counts), reason=reason, detail={"counts": counts})


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """``corpus``: chrF over all rows together (0 to 100)."""
    if not scores:
        return {}
    columns = zip(*(each.detail["counts"] for each in scores), strict=True)
    return {"corpus": _f_score([[sum(part) for part in zip(*order, strict=True)] for order in columns])}


def _grams(text: str, ignore_case: bool) -> list[Counter[str]]:
    solid = "".join((text.lower() if ignore_case else text).split())
    return [Counter(solid[start : start + order] for start in range(len(solid) - order + 1)) for order in _ORDERS]


def _counts(given: list[Counter[str]], wanted: list[Counter[str]]) -> list[list[int]]:
    """For each order: n-grams of the reply, of the reference, and common ones. None of the reply's where the reference has none."""
    return [
        [
            sum(reply.values()) if reference else 0,
            sum(reference.values()),
            sum(min(count, reference[gram]) for gram, count in reply.items()),
        ]
        for reply, reference in zip(given, wanted, strict=True)
    ]


def _f_score(counts: Iterable[Sequence[int]]) -> float:
    shares = [(common / given, common / wanted) for given, wanted, common in counts if given and wanted]
    if not shares:
        return 0.0
    precision, recall = (sum(column) / len(shares) for column in zip(*shares, strict=True))
    both = _BETA_SQUARED * precision + recall
    return 100.0 * (1.0 + _BETA_SQUARED) * precision * recall / both if both else 0.0
