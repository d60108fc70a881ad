"""Two or more variants of the same rows, side by side: what changed, in which rows, and whether it will last."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api import shown
from llmops_lab.api.export import export_diff, is_page
from llmops_lab.api.tables import judge_of
from llmops_lab.api.verdict import Verdict
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows import diff_plan, diff_slices
from llmops_lab.flows.diff import Compared, Pair, mean
from llmops_lab.flows.diff import diff as aligned

_VIEW = "llmops_lab.api.views.diff"  # found by name: the view knows this handle


def diff(
    grid: Any,
    other: Any = None,
    *,
    a: str | None = None,
    b: str | None = None,
    variants: Sequence[str] | None = None,
    by: str = "prompt",
    scorer: str | None = None,
    model: str | None = None,
    prompt: str | None = None,
    passes: float | None = None,
    alpha: float = 0.05,
) -> Diff:
    """Set variants of the same rows side by side: two prompts of a grid (``by="model"``: two models), several ``variants``, or two grids.

    The first variant is what the others are measured against; without names all prompts (models) of the grid are taken. ``scorer``: the
    grid's first, if none is named. ``passes``: the score from which a reply passes, for flips of a scorer that gives numbers (up to
    which, where less is better). Raises UnknownName, BadInput or DoesNotPair.
    """
    from llmops_lab.api import calls
    from llmops_lab.flows import compare as comparing

    first = calls._held(grid)
    second = first if other is None else calls._held(other)
    name = scorer or next(iter(first.scorers), None)
    judges = [_judge(each, name) for each in (first, second)]
    comparing.check_answers(first.dataset, second.dataset)
    fixed = {"model": model, "prompt": prompt}
    left, right = (_only(each.records(), fixed) for each in (first, second))
    if other is None:
        sides = [(each, comparing.side(left, by, each)) for each in _names(left, a, b, variants, by)]
    else:
        sides = _two(left, right, a, b, variants, by)
    _check_passes(passes)
    compared = aligned(sides, judges[0], by=by, passes=passes, alpha=alpha, watched=_watched(first, second))
    return Diff(compared, [first] if other is None else [first, second], by)


def _judge(grid: Any, scorer: str | None) -> dict[str, Any] | None:
    if grid.state in ("planned", "running"):
        raise BadInput(f"the grid is still {grid.state}: what is ready now is not what it will be. Wait for it (g.wait()), then compare.")
    if scorer is None:
        return None
    return judge_of(grid, scorer)


def _only(records: list[dict[str, Any]], fixed: Mapping[str, str | None]) -> list[Any]:
    from llmops_lab.flows import compare as comparing

    left: list[Any] = records
    for column, value in fixed.items():
        if value is not None:
            left = list(comparing.side(left, column, value))
    return left


def _names(records: Sequence[Mapping[str, Any]], a: str | None, b: str | None, variants: Sequence[str] | None, by: str) -> list[str]:
    if by not in ("prompt", "model"):
        raise BadInput(f"by is 'prompt' or 'model', not {by!r}.")
    known = list(dict.fromkeys(record[by] for record in records))
    if variants is not None and (a or b):
        raise BadInput("say a=... and b=..., or variants=[...], not both.")
    if isinstance(variants, str):
        raise BadInput(f"variants is a list of names, such as [{variants!r}, ...]. Known: {', '.join(known)}.")
    if (a is None) != (b is None):
        raise BadInput(f"a comparison has two sides: say a=... and b=..., each the name of a {by}. Known: {', '.join(known)}.")
    names = list(variants) if variants is not None else [str(a), str(b)] if a is not None else known
    for name in names:
        if name not in known:
            raise UnknownName(by, str(name), known)
    if len(names) < 2:
        raise BadInput(
            f"there is nothing to compare {names[0] if names else 'with'} with: name two {by}s or more. Known: {', '.join(known)}."
        )
    if len(set(names)) < len(names):
        raise BadInput(f"a {by} cannot be compared with itself: {', '.join(names)}. Known: {', '.join(known)}.")
    return names


def _two(
    left: list[Any], right: list[Any], a: str | None, b: str | None, variants: Sequence[str] | None, by: str
) -> list[tuple[str, list[Any]]]:
    from llmops_lab.flows import compare as comparing

    if variants is not None:
        raise BadInput("variants=[...] are of one grid; of two grids say a=... (in the first) and b=... (in the second), or neither.")
    if a or b:
        sides = [list(comparing.side(left, by, a)), list(comparing.side(right, by, b))]
        names = [str(a), str(b)]
    else:
        sides, names = [left, right], ["a", "b"]
        only = [{record[by] for record in side} for side in sides]
        if all(len(each) == 1 for each in only) and only[0] != only[1]:
            names = [str(each) for one in only for each in one]
    if names[0] == names[1]:
        names = [f"{names[0]} (first grid)", f"{names[1]} (second grid)"]
    return list(zip(names, sides, strict=True))


def _check_passes(passes: Any) -> None:
    if passes is not None and (isinstance(passes, bool) or not isinstance(passes, int | float) or not math.isfinite(passes)):
        raise BadInput(f"passes is the score from which a reply passes, a number, not {passes!r}.")


def _watched(first: Any, second: Any) -> int | None:
    if "decided" not in (first.state, second.state):
        return None
    return max(1, len({(each["prompt"], each["model"]) for each in first.records()}) - 1)


class Diff:
    """Variants side by side. The first is the baseline; everything is said of the others against it.

    As the last line of a cell, or with ``show()``, it is the view; ``frame``, ``flips`` and ``slices`` are the same as tables.
    """

    def __init__(self, compared: Compared, grids: Sequence[Any], by: str) -> None:
        self.compared, self.by, self._grids = compared, by, list(grids)
        self._values: dict[str, dict[str, Any]] | None = None
        self._found: dict[float, list[list[Any]]] = {}
        self._lock = threading.RLock()

    @property
    def variants(self) -> list[str]:
        """The names of the variants, the baseline first."""
        return [side.name for side in self.compared.sides]

    @property
    def scorer(self) -> str | None:
        """The scorer that the variants are compared by; None where the grid has none."""
        return str(self.compared.judge["name"]) if self.compared.judge else None

    @property
    def verdicts(self) -> list[Verdict]:
        """One verdict for each variant against the baseline; of several, the chance of any false one is at most alpha (Holm)."""
        return [Verdict.of(each, self._of) for each in self.compared.verdicts]

    @property
    def verdict(self) -> Verdict:
        """The verdict of two variants. Raises BadInput where there are more, or where nothing could be judged."""
        if self.compared.note:
            raise BadInput(self.compared.note)
        if len(self.compared.verdicts) > 1:
            raise BadInput(f"there is a verdict for each variant against {self.variants[0]}: see verdicts.")
        return self.verdicts[0]

    def judged(self, verdict: Verdict) -> Diff:
        """The same two variants under the verdict that somebody made of them, with its names (it may have a margin, or share its alpha)."""
        (a, b), (pair,) = self.compared.sides, self.compared.pairs
        sides = [dataclasses.replace(a, name=verdict.a), dataclasses.replace(b, name=verdict.b)]
        pairs = [dataclasses.replace(pair, a_name=verdict.a, b_name=verdict.b)]
        return Diff(dataclasses.replace(self.compared, sides=sides, pairs=pairs, verdicts=[verdict], note=""), self._grids, self.by)

    def _of(self, verdict: Verdict) -> Diff:
        return self

    @property
    def prompts(self) -> list[Any]:
        """What changed in the question, one diff for each variant against the baseline: of prompts, or of models and their parameters."""
        from llmops_lab.prompts import diff as words

        asked = [self.asked(number)["text"] for number in range(len(self.variants))]
        pairs = zip(self.variants[1:], asked[1:], strict=True)
        return [words.Diff(self.variants[0], name, words.word_diff(asked[0], text)) for name, text in pairs]

    def asked(self, variant: int) -> dict[str, str]:
        """What the plan has of a variant, by its number: ``text`` of the prompt (or model with parameters), ``version`` if registered."""
        plan = self._grids[min(variant, len(self._grids) - 1)].plan
        cells = self.compared.sides[variant].cells
        labels = list(dict.fromkeys(cell[self.by] for row in cells for cell in cells[row]))
        return {"text": diff_plan.asked(plan, self.by, labels), "version": diff_plan.version(plan, self.by, labels)}

    @property
    def values(self) -> Mapping[str, Mapping[str, Any]]:
        """The columns of each row, by row id, as the ledger has them; empty for a grid whose rows this machine never saw."""
        with self._lock:
            if self._values is None:
                self._values = diff_plan.row_values(_settings.load(), self._grids[0].dataset)
            return self._values

    @functools.cached_property
    def title_column(self) -> str | None:
        """The column by which a person knows a row; None where the columns are not there."""
        return diff_plan.title_column(self.values, self._grids[0].dataset)

    def frame(self) -> Any:
        """A DataFrame with one line a row, in plan order: text and score of each variant, and change, outcome, flip against the baseline.

        Where a row has several replies, the text is that of the first and the score the mean. ``change`` is over the replies that
        have a score on both sides. Of more than two variants, change, outcome and flip have the variant's name at their end.
        """
        import pandas

        return pandas.DataFrame([self._line(row) for row in range(len(self.compared.rows))])

    def _line(self, row: int) -> dict[str, Any]:
        compared = self.compared
        line: dict[str, Any] = {"row_id": compared.rows[row]}
        for side in compared.sides:
            cells = side.cells[line["row_id"]]
            line[f"text_{side.name}"] = next((cell["text"] for cell in cells if cell["text"] is not None), None)
            line[f"score_{side.name}"] = mean(cells, self.scorer)
        for pair in compared.pairs:
            end = "" if len(compared.pairs) == 1 else f"_{pair.b_name}"
            line |= {f"change{end}": pair.b[row] - pair.a[row], f"outcome{end}": pair.outcome(row), f"flip{end}": pair.flips[row] or ""}
        return line

    def flips(self) -> Any:
        """A DataFrame of the rows that pass with one variant and not with the other, regressions first.

        ``flip`` says whether it repeats: ``change``, ``noise``, or ``unknown: one replicate``. ``a`` and ``b``: how many replies
        passed. Raises BadInput for a scorer that gives numbers when no ``passes`` was given.
        """
        import pandas

        unable = self.flips_note
        if unable:
            raise BadInput(unable)
        return pandas.DataFrame(
            [
                {
                    "row_id": self.compared.rows[row],
                    "variant": pair.b_name,
                    "outcome": pair.outcome(row),
                    "flip": pair.flips[row],
                    **_passes(pair, row),
                }
                for pair in self.compared.pairs
                for row in pair.order()
                if pair.flips[row]
            ],
            columns=["row_id", "variant", "outcome", "flip", "a", "b"],
        )

    @property
    def flips_note(self) -> str:
        """Why flips cannot be told; "" where they can."""
        if self.compared.judge is None:
            return "flips are rows whose outcome changed, and the grid has no scorer."
        if any(each is not None for pair in self.compared.pairs for each in pair.passed):
            return ""
        return (
            f"flips are of replies that pass or fail, and {self.scorer} gives numbers. Say from which one a reply passes: "
            "lab.diff(..., passes=0.5)."
        )

    def slices(self, fdr: float = diff_slices.FDR) -> Any:
        """A DataFrame of groups of rows (by metadata, length, words), with wins, losses, ties, the difference and its 95 % interval.

        Those with ``found`` True are what a paired test shows at a false discovery rate of ``fdr`` over all groups tested (Benjamini and
        Hochberg): a share of ``fdr`` of them may be chance. ``rest`` is the difference in the other rows, and ``unlike`` says that the
        slice is shown to differ from them, at the same rate. Each interval is for its slice alone. Raises BadInput without a scorer,
        or for a grid that stopped when it was decided.
        """
        import pandas

        found = self.found_slices(fdr)
        lines = [
            diff_slices.line(one, self.compared) | {"variant": pair.b_name}
            for pair, each in zip(self.compared.pairs, found, strict=True)
            for one in each
        ]
        return pandas.DataFrame(lines, columns=["variant", *diff_slices.COLUMNS])

    def found_slices(self, fdr: float = diff_slices.FDR) -> list[list[Any]]:
        """The slices of each pair as records, those found first."""
        if self.slices_note:
            raise BadInput(self.slices_note)
        with self._lock:
            if fdr not in self._found:
                self._found[fdr] = diff_slices.find(self.compared, self.values, fdr)
            return self._found[fdr]

    @property
    def slices_note(self) -> str:
        """Why there are no slices; "" where there are."""
        if self.compared.judge is None:
            return "slices are groups of rows with another score, and the grid has no scorer."
        if any(grid.state == "decided" for grid in self._grids):
            return "the grid stopped when it was decided, and a test of its slices would not allow for that. Run it without stop."
        return ""

    def show(self) -> None:
        """Show the view."""
        shown.show(self.view())

    def view(self) -> Any:
        """What the view in a browser asks."""
        return importlib.import_module(_VIEW).DiffView(self)

    def export(self, path: str | Path) -> Path:
        """Write the comparison to one .html file that opens from disk, with the rows that changed most."""
        if not is_page(path):
            raise BadInput(f"a comparison is written to a page, as in d.export('{Path(path).stem}.html'). Its table is d.frame().")
        return export_diff(self.view(), path)

    def page(self) -> tuple[str, str]:
        """The view as text and as HTML without a script."""
        page: tuple[str, str] = self.view().page()
        return page

    def __repr__(self) -> str:
        return self.page()[0]

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return shown.mimebundle(self.view())


def _passes(pair: Pair, row: int) -> dict[str, str]:
    found = pair.passed[row]
    return {"a": f"{found[0]} of {found[1]}", "b": f"{found[2]} of {found[3]}"} if found else {}
