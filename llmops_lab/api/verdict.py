"""The verdict that a person holds: it says itself in one sentence."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from llmops_lab import records
from llmops_lab.api.display import literal
from llmops_lab.errors import BadInput

_COLOURS = {  # of JupyterLab's theme, so that they can be read on a dark page too
    "better": "var(--jp-success-color0,#1a7f37)",
    "worse": "var(--jp-error-color1,#cf222e)",
    "equivalent": "var(--jp-info-color0,#0969da)",
    "inconclusive": "var(--jp-content-font-color2,#6e7781)",
}


class Verdict(records.Verdict):
    """As ``records.Verdict``, and shown as a sentence; ``show()`` shows the rows that it is about."""

    __slots__ = ("_rows",)

    @classmethod
    def of(cls, found: records.Verdict, rows: Callable[[Verdict], Any] | None = None) -> Verdict:
        """The same verdict, to be held. ``rows`` makes of it what shows its rows."""
        held = cls(**{field.name: getattr(found, field.name) for field in fields(found)})
        object.__setattr__(held, "_rows", rows)
        return held

    def show(self) -> None:
        """Show the rows that this verdict is about side by side, those that got worse first. Raises BadInput for a copy of a verdict."""
        rows = getattr(self, "_rows", None)  # it belongs to this object: a copy out of a pickle or of replace() has none
        if rows is None:
            raise BadInput("this verdict is a copy and no longer knows its rows. Compare again, or call lab.diff on the grid.")
        rows(self).show()

    @property
    def sentence(self) -> str:
        """Outcome, names, difference with interval, test, p-value and rows, in a line."""
        from llmops_lab.stats.verdict import sentence

        return sentence(self)

    def __str__(self) -> str:
        return self.sentence

    def __repr__(self) -> str:
        return f"verdict: {self.sentence}"

    def _repr_html_(self) -> str:
        outcome, _, rest = self.sentence.partition(":")
        return literal(f'<p>verdict: <b style="color: {_COLOURS[self.outcome]}">{html.escape(outcome)}</b>:{html.escape(rest)}</p>')
