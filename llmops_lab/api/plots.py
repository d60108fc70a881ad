"""The figures of a grid. Each takes the lines of its tables and gives a plotly figure; what cannot be drawn is named in the title."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.escapes import inert

_OUTLIERS = 50
Lines = Sequence[Mapping[str, Any]]
_PLAIN = {"template": "plotly_white", "showlegend": False, "margin": {"l": 10, "r": 10, "t": 50, "b": 10}}


def graph_objects() -> Any:
    """``plotly.graph_objects``, safe to use beside a live view."""
    # Plotly looks for pandas among the loaded modules and uses it, even while another thread (a live view's) is still loading it.
    import pandas  # noqa: F401 - so whole, or not at all
    import plotly.graph_objects

    return plotly.graph_objects


def scores(lines: Lines, scorer: str) -> Any:
    """The mean of a scorer with its 95 % interval, a dot for each (prompt, model), the first one on top."""
    figures = graph_objects()

    drawn = [line for line in lines if line[scorer] is not None]
    _need(drawn, f"no cell has a score in {scorer}")
    dots = figures.Scatter(
        x=[line[scorer] for line in drawn],
        y=[_label(line) for line in drawn],
        mode="markers",
        marker={"size": 10},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [line[f"{scorer}_high"] - line[scorer] for line in drawn],
            "arrayminus": [line[scorer] - line[f"{scorer}_low"] for line in drawn],
        },
        customdata=[[line[f"{scorer}_n"], line["n"]] for line in drawn],
        hovertemplate="%{y}: %{x:.3f}<br>%{customdata[0]} of %{customdata[1]} cells scored<extra></extra>",
    )
    title = _title(f"{_text(scorer)}, mean with 95 % interval", lines, drawn, "without a score")
    axis = {"autorange": "reversed", "automargin": True}
    return figures.Figure([dots], {**_PLAIN, "title": title, "yaxis": axis, "height": _height(len(drawn))})


def frontier(lines: Lines, scorer: str, *, higher_is_better: bool) -> Any:
    """USD for 1,000 replies against the mean score; a dotted line joins the variants that no other beats in both, drawn in blue."""
    figures = graph_objects()

    drawn = [line for line in lines if line[scorer] is not None and line["cost_usd"] is not None]
    _need(drawn, "no (prompt, model) has both a score and a known cost. Set prices in [tool.llmops_lab.prices]")
    points = [(1000 * line["cost_usd"] / line["n_ok"], line[scorer]) for line in drawn]
    best = efficient(points, higher_is_better=higher_is_better)
    labels = [_label(line) for line in drawn]
    dots = figures.Scatter(
        x=[cost for cost, _ in points],
        y=[score for _, score in points],
        mode="markers+text",
        text=labels,
        textposition=_apart(points),
        cliponaxis=False,
        marker={"size": 10, "color": ["#1f77b4" if number in best else "#b0b0b0" for number in range(len(points))]},
        hovertemplate="%{text}<br>%{y:.3f} for $%{x:.4g} per 1,000 replies<extra></extra>",
    )
    line = figures.Scatter(
        x=[points[number][0] for number in best],
        y=[points[number][1] for number in best],
        mode="lines",
        line={"dash": "dot"},
        hoverinfo="skip",
    )
    title = _title(f"cost against {_text(scorer)}, and the frontier", lines, drawn, "without a known cost or a score")
    room = 1.15 * max(cost for cost, _ in points) or 1.0
    axes = {
        "xaxis": {"title": {"text": "USD for 1,000 replies"}, "range": [-0.15 * room, room]},
        "yaxis": {"title": {"text": _text(scorer)}, "range": _with_room([score for _, score in points])},
    }
    return figures.Figure([line, dots], {**_PLAIN, "title": title, **axes})


def efficient(points: Sequence[tuple[float, float]], *, higher_is_better: bool = True) -> list[int]:
    """Numbers of the (cost, score) points that no other point beats in one and equals or beats in the other, cheapest first."""
    sign = 1.0 if higher_is_better else -1.0
    order = sorted(range(len(points)), key=lambda number: (points[number][0], -sign * points[number][1]))
    kept: list[int] = []
    for number in order:
        if not kept or sign * points[number][1] > sign * points[kept[-1]][1] or points[number] == points[kept[-1]]:
            kept.append(number)
    return kept


def latency(cells: Lines) -> Any:
    """Seconds of the replies, a box for each (prompt, model): the whiskers end at the last value within 1.5 quartile ranges.

    Of the values beyond them at most 50 are drawn, the furthest among them.
    """
    figures = graph_objects()

    drawn = [cell for cell in cells if cell["latency_s"] is not None]
    _need(drawn, "no cell has a reply")
    times: dict[str, list[float]] = {}
    for cell in drawn:
        times.setdefault(_label(cell), []).append(cell["latency_s"])
    boxes = [_box(figures, label, values) for label, values in times.items()]
    title = _title("latency", cells, drawn, "cells without a reply")
    axes = {"xaxis": {"title": {"text": "seconds"}, "rangemode": "tozero"}, "yaxis": {"autorange": "reversed", "automargin": True}}
    return figures.Figure(boxes, {**_PLAIN, "title": title, **axes, "height": _height(len(boxes))})


def differences(suites: Sequence[Any]) -> Any:
    """Each suite of a gate: candidate minus champion with its interval, right is better, and how much loss its margin bears."""
    figures = graph_objects()

    drawn = [each for each in suites if each.measured.verdict is not None]
    _need(drawn, "no suite was compared with a champion")
    names = [_text(each.suite.name) for each in drawn]
    ends = [_oriented(each.measured.verdict) for each in drawn]
    dots = figures.Scatter(
        x=[middle for middle, _, _ in ends],
        y=names,
        mode="markers",
        marker={"size": 10, "color": ["#1a7f37" if each.passed else "#cf222e" for each in drawn]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [high - middle for middle, _, high in ends],
            "arrayminus": [middle - low for middle, low, _ in ends],
        },
        customdata=[_text(each.outcome) for each in drawn],
        hovertemplate="%{y}: %{x:+.3f}, %{customdata}<extra></extra>",
    )
    bears = [(-each.suite.margin, name) for each, name in zip(drawn, names, strict=True) if each.suite.margin]
    marks = figures.Scatter(
        x=[margin for margin, _ in bears],
        y=[name for _, name in bears],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 22, "color": "#6e7781"},
        hovertemplate="%{y}: a loss up to %{x:.3f} is borne<extra></extra>",
    )
    axes = {"xaxis": {"title": {"text": "candidate minus champion, right is better"}, "zeroline": True, "zerolinecolor": "#57606a"}}
    axes |= {"yaxis": {"autorange": "reversed", "automargin": True}}
    title = "difference with its interval; a bar marks the loss that the margin bears"
    return figures.Figure([marks, dots], {**_PLAIN, "title": {"text": title}, **axes, "height": _height(len(drawn)) + 40})


def _oriented(verdict: Any) -> tuple[float, float, float]:
    """A verdict's difference and interval, turned so that more is better; an open end is drawn at the furthest that is not."""
    sign = 1 if verdict.higher_is_better else -1
    middle, low, high = (sign * each for each in (verdict.delta, verdict.ci_low, verdict.ci_high))
    low, high = min(low, high), max(low, high)
    reach = max([abs(each - middle) for each in (low, high) if math.isfinite(each)], default=abs(middle) or 1.0)
    return middle, max(low, middle - reach), min(high, middle + reach)


def _apart(points: Sequence[tuple[float, float]]) -> list[str]:
    """Labels above and below by turns along the cost, so that neighbours of one score do not write over each other."""
    order = sorted(range(len(points)), key=lambda number: (points[number][1], points[number][0]))
    places = {number: "bottom center" if turn % 2 else "top center" for turn, number in enumerate(order)}
    return [places[number] for number in range(len(points))]


def _with_room(values: Sequence[float]) -> list[float]:
    room = 0.2 * (max(values) - min(values)) or 0.1
    return [min(values) - room, max(values) + room]


def _box(figures: Any, label: str, values: list[float]) -> Any:
    # Its five numbers and some of the outliers: with every value in it, the figure of a large grid would fill the notebook's file.
    import numpy

    low, middle, high = (float(value) for value in numpy.percentile(values, [25, 50, 75]))
    inside = [value for value in values if low - 1.5 * (high - low) <= value <= high + 1.5 * (high - low)]
    outside = sorted(set(values) - set(inside))
    drawn = [outside[at] for at in sorted(set(numpy.linspace(0, len(outside) - 1, _OUTLIERS, dtype=int)))] if outside else []
    five = {"q1": [low], "median": [middle], "q3": [high], "lowerfence": [min(inside)], "upperfence": [max(inside)]}
    return figures.Box(**five, x=[drawn] if drawn else None, y=[label], name=label, orientation="h", boxpoints="outliers")


def _need(drawn: Lines, lack: str) -> None:
    if not drawn:
        raise BadInput(f"there is nothing to plot: {lack}.")


def _height(lines: int) -> int:
    return 110 + 40 * max(2, lines)


def _label(line: Mapping[str, Any]) -> str:
    return _text(f"{line['prompt']} / {line['model']}")


def _text(name: str) -> str:
    # Plotly reads a part of HTML in its texts, &quot; not among it; a control character breaks the picture that it makes of the figure.
    return html.escape(inert(name), quote=False)


def _title(text: str, lines: Lines, drawn: Lines, lack: str) -> dict[str, str]:
    left_out = len(lines) - len(drawn)
    return {"text": f"{text}; {left_out} left out: {lack}" if left_out else text}
