"""``lab.calibrate``: a judge is held against people, and gets a card that says how far it can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api.calls import scorer as bind
from llmops_lab.store.ledger import open_ledger


def calibrate(
    judge: Any,
    labels: Any = None,
    *,
    text: str = "text",
    label: str = "label",
    score: str | None = None,
    expected: str | None = None,
    order: Sequence[Any] | None = None,
    threshold: float | None = None,
    within: float | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Any:
    """Hold a judge against what people said, and keep the result as its card; without labels, open the newest card again.

    ``judge``: a scorer, with a model or without, its name, or a function. ``labels``: a rating queue, or a table (a DataFrame, a file, a
    list of dicts) with a column ``label`` and the judged ``text``, or the judge's ``score`` on record. Lines of one ``item`` (and
    ``variant``) are several raters of it; lines without a label count for the corrected mean alone. The labelled ones are taken as a
    random sample of all. ``order``: labels that are words, from least to most. ``threshold``: from which number on a label or score
    counts as true. ``within``: ``needed_labels`` are for a corrected mean that is known to about so much, 0.05 of the scale by itself.

    Raises BadInput, or UnknownName where a judge has no card yet.
    """
    from llmops_lab.api.card import Card, opened
    from llmops_lab.api.queue import Queue
    from llmops_lab.flows import calibrate as flow
    from llmops_lab.flows import calibrate_queue, calibrate_rows
    from llmops_lab.grids.rows import read_rows

    bound = bind(judge) if isinstance(judge, str) or not hasattr(judge, "fingerprint") else judge
    ledger = open_ledger(_settings.load())
    if labels is None:
        return opened(ledger, bound)
    if isinstance(labels, Queue):
        queue = labels.opened
        order = list(queue.spec.rubric.levels) if order is None and queue.spec.mode == "single" else order
        cases, people = calibrate_queue.cases(queue, bound), calibrate_queue.people(queue, alpha)
        source = f"queue {labels.name}"
    else:
        rows, columns = read_rows(labels), calibrate_rows.Columns(text, label, score=score, expected=expected)
        cases, people = calibrate_rows.cases(rows, columns), calibrate_rows.people(rows, columns, alpha)
        source = rows.source
    made, held, when = flow.calibrate(ledger, bound, cases, people, source, flow.Terms(order, threshold, within, alpha, seed))
    return Card(made, bound.fingerprint, when, bound.fingerprint, fresh=True, held=held)
