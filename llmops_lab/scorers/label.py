"""The reply names the expected class; precision, recall, F1 and a confusion matrix come with the summary.

Case, outer whitespace, quotes and final punctuation do not count. With ``labels`` a longer reply is searched for
them, and it is right only when exactly one of them occurs, as a whole word; without ``labels`` the whole reply is
the answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.records import Reply, Score
from llmops_lab.scorers._text import expected_text

higher_is_better = True
NEEDS_TARGET = True
OTHER = "(other)"
"""How an answer that is none of the expected labels is called in the confusion matrix."""

_MARGIN = " \t\r\n\"'`*_.,:;!?()[]{}“”‘’"


def check(*, labels: Sequence[str] | None = None) -> None:
    """Raises BadInput for an empty list of labels, or one in which two are the same."""
    if labels is None:
        return
    if not all(isinstance(each, str) and _tidy(each) for each in labels) or not labels:
        raise BadInput(f"the scorer label: labels must be a list of texts, not {labels!r:.80}.")
    twice = [each for each, count in Counter(map(_tidy, labels)).items() if count > 1]
    if twice:
        raise BadInput(f"the scorer label: {twice[0]!r} is given twice (case does not count).")


def score(reply: Reply, target: Any, *, labels: Sequence[str] | None = None) -> Score:
    """True or False; detail: ``predicted`` (empty when no single label was found) and ``true``."""
    if isinstance(target, (list, tuple)):
        raise TypeError("a row has one label, not a list")
    true = _tidy(expected_text(target))
    answer = _tidy(reply.text)
    predicted = answer if labels is None else _only(answer, [_tidy(each) for each in labels])
    reason = "" if predicted or not answer else "no single label in the reply"
    return Score(predicted == true, reason=reason, detail={"predicted": predicted[:100], "true": true[:100]})


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """``precision``, ``recall``, ``f1`` (each label weighs alike), ``per_label``, and ``confusion`` (true -> predicted -> count).

    The means go over the labels that are true of some row. A label that was never predicted has precision 0. Predictions that are no
    true label of any row are gathered under ``(other)``; they count against recall, and have no row of their own.
    """
    pairs = [(each.detail["true"], each.detail["predicted"]) for each in scores]
    names = sorted({true for true, _ in pairs})
    counts = Counter((true, predicted if predicted in names else OTHER) for true, predicted in pairs)
    per_label = {}
    for name in names:
        hits = counts[name, name]
        support = sum(count for (true, _), count in counts.items() if true == name)
        claimed = sum(count for (_, predicted), count in counts.items() if predicted == name)
        precision, recall = hits / claimed if claimed else 0.0, hits / support
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        per_label[name] = {"precision": precision, "recall": recall, "f1": f1, "n": support}
    if not names:
        return {}
    confusion = {true: {each: counts[true, each] for each in (*names, OTHER) if counts[true, each]} for true in names}
    means = {key: sum(each[key] for each in per_label.values()) / len(names) for key in ("precision", "recall", "f1")}
    return {**means, "per_label": per_label, "confusion": confusion}


def _tidy(text: str) -> str:
    return text.strip(_MARGIN).casefold()


def _only(answer: str, labels: list[str]) -> str:
    if answer in labels:
        return answer
    found = [each for each in labels if re.search(rf"(?<!\w){re.escape(each)}(?!\w)", answer)]
    longest = [each for each in found if not any(each != other and each in other for other in found)]
    return longest[0] if len(longest) == 1 else ""
