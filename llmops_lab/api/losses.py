"""The curve of a training while it goes on: one output of a cell, drawn anew at most once a second."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

_SECONDS = 1.0
_SECONDS_BETWEEN_LINES = 10.0  # a line printed so often, and each time that the validation rows were asked: a log shows that it goes on


class Losses:
    """Collects the lines of a training's log, and is shown as their curve; ``figure()`` is that as a figure of plotly's.

    >>> curve = Losses()
    >>> shown = display(curve, display_id=True)
    >>> tuned = tune.tune(planned, tell=curve.telling(shown.update))
    >>> shown.update(curve)
    """

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.total = 0
        self._drawn = 0.0
        self._printed = time.monotonic()

    def telling(self, show: Callable[[Any], object]) -> Callable[[Any, int], None]:
        """What a training tells each line of its log; ``show`` gets the curve, at most once a second."""

        def tell(step: Any, total: int) -> None:
            self.steps.append(step)
            self.total = total
            if time.monotonic() - self._drawn >= _SECONDS:
                self._drawn = time.monotonic()
                show(self)
            if step.validation is not None or time.monotonic() - self._printed >= _SECONDS_BETWEEN_LINES:
                self._printed = time.monotonic()
                print(repr(self), flush=True)

        return tell

    def figure(self) -> Any:
        """Training loss by step, and the loss on the validation rows where it was measured."""
        from llmops_lab.api.plots import graph_objects

        figures = graph_objects()
        trained = [step for step in self.steps if step.loss is not None]
        judged = [step for step in self.steps if step.validation is not None]
        lines = [
            figures.Scatter(x=[step.step for step in trained], y=[step.loss for step in trained], mode="lines", name="training"),
            figures.Scatter(
                x=[step.step for step in judged], y=[step.validation for step in judged], mode="lines+markers", name="validation"
            ),
        ]
        done = f", step {self.steps[-1].step:,} of {self.total:,}" if self.steps else ""
        layout = {
            "template": "plotly_white",
            "title": f"Loss of the answers' tokens{done}",
            "xaxis": {"title": "step", "range": [0, max(1, self.total)]},
            "yaxis": {"title": "loss", "rangemode": "tozero"},
            "height": 320,
            "margin": {"l": 10, "r": 10, "t": 50, "b": 10},
        }
        return figures.Figure(lines, layout)

    def __repr__(self) -> str:
        if not self.steps:
            return "no step yet"
        last = self.steps[-1]
        said = [f"{name} {value:.4g}" for name, value in (("loss", last.loss), ("validation loss", last.validation)) if value is not None]
        return f"step {last.step:,} of {self.total:,}: {', '.join(said)}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        # A figure of plotly's own shows itself as a new output each time, whatever it was to be an update of.
        return {"application/vnd.plotly.v1+json": json.loads(self.figure().to_json()), "text/plain": repr(self)}
