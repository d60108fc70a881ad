"""What the cells of a grid come to: means with intervals and a distribution for each variant, the same for groups, and the verdict."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.api.views._grid_cells import OK, STATUSES, Cells, status_name
from llmops_lab.errors import BadInput
from llmops_lab.escapes import inert
from llmops_lab.flows import compare as comparing
from llmops_lab.flows.tables import left_unscored
from llmops_lab.records import nan_as_null
from llmops_lab.stats.verdict import sentence

BINS = 12
MOST_GROUPS = 60
_DISTINCT_NUMBERS = 12
_LONGEST_LABEL = 80
NONE = "(none)"
UNJUDGED = {
    "planned": "has not begun",
    "running": "still runs",
    "cancelled": "was cancelled",
    "unreachable": "got no answer",
    "failed": "failed",
    "interrupted": "was interrupted",
}


def figures(cells: Cells, found: Any, scorer: str) -> dict[str, Any]:
    """For each variant among these cells: how many, how many with a score, the mean with its interval, and counts of the scores."""
    import numpy

    values = numpy.frombuffer(cells.scores[scorer], dtype="f8")[found]
    variant = numpy.frombuffer(cells.variant, dtype="i4")[found]
    there = values[numpy.isfinite(values)]
    low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 1.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low == high:
        low, high = low - 0.5, high + 0.5
    edges = numpy.linspace(low, high, (2 if cells.flags[scorer] else BINS) + 1)
    told = []
    for number in range(len(cells.variants)):
        mine = variant == number
        own = values[mine]
        line = _mean(cells, found[mine], own)
        own = own[numpy.isfinite(own)]
        told.append({**line, "counts": numpy.histogram(own, edges)[0].tolist()})
    return {"scorer": scorer, "edges": edges.tolist(), "variants": told, "binary": cells.flags[scorer]}


def _mean(cells: Cells, found: Any, values: Any) -> dict[str, Any]:
    import numpy

    from llmops_lab.stats.intervals import mean_interval

    finite = numpy.isfinite(values)
    told: dict[str, Any] = {"n": len(found), "scored": int(finite.sum()), "value": None, "low": None, "high": None}
    if told["scored"]:
        rows = numpy.frombuffer(cells.row, dtype="i4")[found][finite]
        clusters = rows.tolist() if len(numpy.unique(rows)) < len(rows) else None
        made = mean_interval(values[finite], clusters=clusters)
        told |= {name: nan_as_null(getattr(made, name)) for name in ("value", "low", "high")}
    return told


def grouped(cells: Cells, found: Any, labels: Sequence[str], scorer: str) -> dict[str, Any]:
    """The figures of each group: ``labels`` names the group of every cell of the grid. The largest groups; how many more there are."""
    import numpy

    values = numpy.frombuffer(cells.scores[scorer], dtype="f8") if scorer else numpy.full(len(cells), math.nan)
    variant = numpy.frombuffer(cells.variant, dtype="i4")
    mine = [labels[at] for at in found.tolist()]
    sizes = Counter(mine)
    shown = [name for name, _ in sizes.most_common(MOST_GROUPS)]
    codes = {name: number for number, name in enumerate(shown)}
    code = numpy.asarray([codes.get(name, -1) for name in mine])
    lines = []
    for name in sorted(shown, key=_natural):
        inside = found[code == codes[name]]
        per = [_mean(cells, each, values[each]) for number in range(len(cells.variants)) for each in [inside[variant[inside] == number]]]
        lines.append({"group": name, "n": sizes[name], "variants": per})
    rest = len(sizes) - len(shown)
    return {"scorer": scorer, "groups": lines, "more": rest, "more_cells": len(mine) - sum(line["n"] for line in lines)}


def _natural(label: str) -> tuple[int, float, str]:
    head = label.split(" to ")[0]
    try:
        return (0, float(head), label)
    except ValueError:
        return (2 if label == NONE else 1, 0.0, label)


def labels_of(values: Sequence[Any]) -> list[str]:
    """The group that each value falls into: texts and the like as they are, many different numbers into quarters."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(set(numbers)) > _DISTINCT_NUMBERS and len(numbers) == sum(value is not None for value in values):
        return _quarters(values)
    return [label(value) for value in values]


def label(value: Any) -> str:
    """A value as the name of a group."""
    if value is None or value == "":
        return NONE
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True, default=str)
    text = inert(" ".join(text.split()))
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"


def _quarters(values: Sequence[Any]) -> list[str]:
    import numpy

    data = numpy.asarray([math.nan if value is None else float(value) for value in values])
    edges = numpy.unique(numpy.nanquantile(data, [0, 0.25, 0.5, 0.75, 1]))
    names = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges.tolist())]
    index = numpy.clip(numpy.searchsorted(edges, data, side="right") - 1, 0, len(names) - 1)
    return [NONE if math.isnan(value) else names[number] for value, number in zip(data.tolist(), index.tolist(), strict=True)]


def verdict(cells: Cells, judges: Sequence[Mapping[str, Any]], state: str) -> dict[str, Any]:
    """The verdict on the first scorer: the first two prompts, or the first two models where there is one prompt. Says why there is none."""
    by = "prompt" if len({prompt for prompt, _ in cells.variants}) > 1 else "model"
    names = list(dict.fromkeys(variant[by == "model"] for variant in cells.variants))
    if state in UNJUDGED:
        return {"outcome": "", "text": f"No verdict: the grid {UNJUDGED[state]}."}
    if not judges:
        return {"outcome": "", "text": "No verdict: the grid has no scorer."}
    if len(names) < 2:
        return {"outcome": "", "text": "No verdict: there is one prompt and one model, nothing to compare."}
    records = cells.records([judges[0]["name"]])
    sides = [[each for each in records if each[by] == name] for name in names[:2]]
    watched = max(1, len(cells.variants) - 1) if state == "decided" else None
    try:
        found = comparing.compare(
            *sides, judge=judges[0], names=(names[0], names[1]), alpha=0.05, margin=None, watched=watched
        )  # fmt: skip
    except BadInput as error:
        return {"outcome": "", "text": f"No verdict: {inert(str(error))}"}
    others = {variant[by == "prompt"] for variant in cells.variants}
    means = f" Each row is the mean over {len(others)} {'models' if by == 'prompt' else 'prompts'}." if len(others) > 1 else ""
    more = f" {len(names) - 2} more {by}s: lab.compare_all." if len(names) > 2 else ""
    return {"outcome": found.outcome, "text": inert(sentence(found)), "note": (means + more).strip()}


def lines_of(cells: Cells, state: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines of ``summary()`` from the columns, and what the scorers left unscored."""
    import numpy

    variant, status = numpy.frombuffer(cells.variant, dtype="i4"), numpy.frombuffer(cells.status, dtype="i1")
    names = numpy.asarray([status_name(code, state) for code in range(len(STATUSES))])
    lines = []
    for number, (prompt, model) in enumerate(cells.variants):
        mine = numpy.flatnonzero(variant == number)
        said = names[status[mine]]
        line: dict[str, Any] = {"prompt": prompt, "model": model, "n": len(mine)}
        line |= {f"n_{name}": int((said == name).sum()) for name in ("ok", "failed", "cancelled", "skipped")}
        line["n_truncated"] = sum(cells.finish[at] == "length" for at in mine.tolist())
        for name in cells.scorers:
            mean = _mean(cells, mine, numpy.frombuffer(cells.scores[name], dtype="f8")[mine])
            low, high = (math.nan if mean[end] is None and mean["scored"] else mean[end] for end in ("low", "high"))
            line |= {f"{name}_n": mean["scored"], name: mean["value"], f"{name}_low": low, f"{name}_high": high}
        costs = numpy.frombuffer(cells.numbers["cost_usd"], dtype="f8")[mine]
        counted = costs[(status[mine] == OK) | ~numpy.isnan(costs)]
        line["cost_usd"] = float(counted.sum()) if len(counted) and not numpy.isnan(counted).any() else None
        times = numpy.frombuffer(cells.numbers["latency_s"], dtype="f8")[mine]
        times = numpy.sort(times[~numpy.isnan(times)])
        for name, share in (("latency_p50", 0.5), ("latency_p95", 0.95)):
            line[name] = float(times[min(len(times) - 1, int(share * len(times)))]) if len(times) else None
        lines.append(line)
    left = [left_unscored(name, len(why), next((each for each in why.values() if each), "")) for name, why in cells.unscored.items() if why]
    return lines, left
