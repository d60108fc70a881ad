"""What a pairwise judge found between two variants: counts, verdict, and how much the order of the replies decided."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.api.display import literal, money, table
from llmops_lab.api.verdict import Verdict
from llmops_lab.errors import clipped
from llmops_lab.escapes import inert
from llmops_lab.flows.judge_pairs import Found
from llmops_lab.records import Score
from llmops_lab.scorers._judge import totals
from llmops_lab.stats.intervals import Interval

_SHOWN = 20


class Contest:
    """Wins, losses and ties of b against a, row by row; shown as a verdict with a table."""

    def __init__(self, found: Found, names: tuple[str, str]) -> None:
        self._found, self.a, self.b = found, *names

    @property
    def verdict(self) -> Verdict:
        """B against a: the exact sign test on rows won and lost."""
        return Verdict.of(self._found.verdict)

    @property
    def outcomes(self) -> Mapping[str, str | None]:
        """Row id -> "a", "b", "tie", or None where the judge gave no verdict: comparable with pairwise ratings."""
        return self._found.rows

    @property
    def wins(self) -> int:
        """Rows that b won."""
        return self._count("b")

    @property
    def losses(self) -> int:
        """Rows that a won."""
        return self._count("a")

    @property
    def ties(self) -> int:
        """Rows that neither won, among them those on which the two orders disagreed."""
        return self._count("tie")

    @property
    def unscored(self) -> int:
        """Rows without a verdict."""
        return self._count(None)

    @property
    def consistency(self) -> Interval:
        """The share of pairs on which both orders named the same."""
        return self._found.consistency

    @property
    def bill(self) -> dict[str, Any]:
        """The judge's calls, tokens and cost, and replies without a verdict."""
        return totals([Score(None, detail=each.found.detail) for each in self._found.pairs])

    def frame(self) -> Any:
        """A DataFrame with one line a pair: row, texts, verdict, what each order said, reason."""
        import pandas

        return pandas.DataFrame(self._lines())

    def _lines(self) -> list[dict[str, Any]]:
        return [
            {
                "row_id": each.row_id,
                "value": each.found.value,
                "a_first": _at(each.found.orders, 0),
                "b_first": _at(each.found.orders, 1),
                "reason": each.found.reason or each.found.error,
                "a": each.a,
                "b": each.b,
            }
            for each in self._found.pairs
        ]

    def _count(self, value: str | None) -> int:
        return sum(each == value for each in self._found.rows.values())

    @property
    def story(self) -> str:
        """Counts, position-consistency and cost in a line."""
        held, bill = self.consistency, self.bill
        parts = [f"{inert(self.b)} won {self.wins:,}, {inert(self.a)} won {self.losses:,}, {self.ties:,} ties"]
        if self.unscored:
            parts.append(f"{self.unscored:,} rows without a verdict")
        if held.n:
            parts.append(f"both orders agreed on {held.value:.0%} [{held.low:.0%}, {held.high:.0%}] of {held.n:,} pairs")
        if self._found.swayed:
            parts.append(f"of the {self._found.swayed:,} others {self._found.first:,} went to what stood first")
        if bill:
            parts.append(f"{bill['judge_calls']:,} calls of the judge, {money(bill['judge_cost_usd'])}")
        return "; ".join(parts)

    def _shown(self) -> tuple[tuple[str, str], str]:
        lines = self._lines()
        sides = {"a": self.a, "b": self.b}
        shown = [
            [line["row_id"], *(sides.get(line[name], line[name]) for name in ("value", "a_first", "b_first")), _short(line["reason"])]
            for line in lines[:_SHOWN]
        ]
        more = f" ({len(lines) - _SHOWN:,} more lines in .frame())" if len(lines) > _SHOWN else ""
        return table(("row", "better", f"with {self.a} first", f"with {self.b} first", "reason"), shown), more

    def __repr__(self) -> str:
        (plain, _), more = self._shown()
        return f"{self.verdict!r}\n{self.story}\n{plain}{more}"

    def _repr_html_(self) -> str:
        (_, page), more = self._shown()
        return self.verdict._repr_html_() + literal(f"<p>{html.escape(self.story)}</p>{page}{html.escape(more)}")


def _at(orders: Sequence[str | None], place: int) -> str | None:
    return orders[place] if place < len(orders) else None


def _short(value: Any) -> Any:
    return clipped(value, 120) if isinstance(value, str) else value
