"""``lab.judge``: a scorer that asks a model."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops_lab import plugins
from llmops_lab import settings as _settings
from llmops_lab.api.display import money
from llmops_lab.api.progress import view_for
from llmops_lab.errors import BadInput
from llmops_lab.flows.judge import JudgeModel
from llmops_lab.grids.run import Progress
from llmops_lab.ratings.rubric import Rubric
from llmops_lab.records import ModelSpec
from llmops_lab.scorers._run import Scorer, bind
from llmops_lab.scorers.pairwise import PairScorer

if TYPE_CHECKING:
    from llmops_lab.api.contest import Contest


def judge(
    kind: str,
    *,
    model: str | ModelSpec | None = None,
    criteria: str | Rubric | None = None,
    label: str | None = None,
    budget: float | None = None,
    **options: Any,
) -> Scorer:
    """A scorer that asks a model: ``lab.judge("rubric", model="openai:NAME@URL", criteria="The reply is polite.")``.

    ``kind``: "rubric" (a criterion, with ``levels`` or ``bounds``), "pairwise" (which of two is better), "jury" (``judges=[...]``,
    ``vote=``), "deepeval:METRIC" or "mlflow:SCORER" with that library's options. ``criteria`` is a text or a ``lab.Rubric``. ``model``
    is any model, and parameters go with it: ``lab.model("...", max_tokens=900)``. ``budget`` is a cap in USD on what this judge spends.

    For ``lab.grid(scorers=[...])``, or called as ``judge(reply, target, row)``. Its calls are recorded in the ledger, and a verdict of
    the same judge about the same text is never bought again. Raises UnknownName, MissingExtra or BadInput.
    """
    if criteria is not None:
        options |= {"criteria": criteria} if not isinstance(criteria, Rubric) else _of_rubric(kind, criteria, options)
    if kind == "jury":
        if model is not None or budget is not None:
            raise BadInput("a jury has no model and no budget of its own: its judges have theirs.")
        return bind(kind, label=label, **options)
    if model is None:
        raise BadInput(f"say which model judges: lab.judge({kind!r}, model='...').")
    asked = JudgeModel(model if isinstance(model, ModelSpec) else ModelSpec(model), _settings.load(), budget=budget)
    made = bind(kind, label=label, resources={"ask": asked}, **options)
    if not made.model:
        raise BadInput(f"{kind} asks no model. Write it as lab.scorer({kind!r}, ...).")
    return PairwiseJudge(**_fields(made)) if isinstance(made, PairScorer) else made


@dataclass(frozen=True, eq=False, kw_only=True)
class PairwiseJudge(PairScorer):
    """Says which of two replies is better. ``judge.prefer(a, b, row)`` asks about two texts, ``compare`` about two variants of a grid."""

    def compare(
        self, grid: Any, *, a: str, b: str, by: str = "prompt", model: str | None = None, prompt: str | None = None, alpha: float = 0.05,
        progress: Any = None,
    ) -> Contest:  # fmt: skip
        """Judge two prompts (or models, ``by="model"``) of a grid against each other, row by row.

        What is not fixed by ``model`` or ``prompt`` is paired with its like. ``progress`` as in ``lab.grid``. An interrupt ends it;
        what was said so far is on record. Raises UnknownName, BadInput or DoesNotPair.
        """
        from llmops_lab.api.contest import Contest
        from llmops_lab.flows.compare import side
        from llmops_lab.flows.judge_pairs import compare_pairs

        check_ended(grid)
        records = grid.records()
        for column, value in (("model", model), ("prompt", prompt)):
            if value is not None:
                records = side(records, column, value)
        sides = side(records, by, a), side(records, by, b)
        with told_by(progress) as told:
            return Contest(compare_pairs(self, *sides, rows_of(grid), names=(a, b), alpha=alpha, told=told), (a, b))


def asks_a_model(kind: str) -> bool:
    """Whether a scorer of ours needs a model that judges. Raises UnknownName."""
    score = getattr(plugins.find("scorers", kind.partition(":")[0]), "score", None)
    return score is not None and "ask" in inspect.signature(score).parameters


def rows_of(grid: Any) -> dict[str, dict[str, Any]]:
    """Row id -> columns of a grid's rows, as far as the ledger has them."""
    from llmops_lab.store.ledger import open_ledger
    from llmops_lab.store.rows import rows_of as recorded

    found = grid.dataset.get("digest")
    return dict(recorded(open_ledger(_settings.load()), found)) if found else {}


def bills(lines: Sequence[Mapping[str, Any]], scorers: Sequence[str]) -> list[str]:
    """Of the lines of a summary: for each scorer that asked a model, how many calls that took and what they cost."""
    told = []
    for name in scorers:
        asked = [line for line in lines if line.get(f"{name}_judge_calls")]
        costs = [line[f"{name}_judge_cost_usd"] for line in asked]
        if asked:
            count = sum(line[f"{name}_judge_calls"] for line in asked)
            told.append(f"{name} took {count:,} calls of a judge, {money(None if None in costs else sum(costs))}")
    return told


@contextmanager
def told_by(progress: Any) -> Iterator[Callable[[Progress], None] | None]:
    """What shows how far it is, as ``progress=`` says; its end is left standing."""
    view, last = view_for(progress), list[Progress]()

    def tell(now: Progress) -> None:
        last[:] = [now]
        if view is not None:
            view.show(now)

    yield None if view is None else tell
    if view is not None and last:
        view.close(last[0])


def check_ended(grid: Any) -> None:
    """Raise BadInput for what is no grid, or one that goes on."""
    if not hasattr(grid, "judges"):
        raise BadInput(f"give the grid itself, as lab.grid(...) or lab.load('NAME') returns it, not {grid!r:.80}.")
    if grid.state in ("planned", "running"):
        raise BadInput(f"the grid is still {grid.state}: a verdict now would be on what happened to be ready. Wait for it (g.wait()).")


def _of_rubric(kind: str, rubric: Rubric, options: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {"criteria": rubric.question, "guide": rubric.guide}
    if kind == "rubric":
        given |= {"levels": dict(rubric.levels) or None, "examples": [list(each) for each in rubric.examples]}
    twice = sorted(given.keys() & options.keys())
    if twice:
        raise BadInput(f"{', '.join(twice)} stand in the rubric already; give them in one place.")
    return given


def _fields(scorer: PairScorer) -> dict[str, Any]:
    return {each.name: getattr(scorer, each.name) for each in dataclasses.fields(scorer)}
