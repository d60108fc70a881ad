"""The functions that users call: ``lab.grid``, ``lab.compare`` and their small helpers."""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab import plugins
from llmops_lab import settings as _settings
from llmops_lab.api.progress import view_for
from llmops_lab.api.tables import judge_of
from llmops_lab.api.verdict import Verdict
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows.embedder import embedder
from llmops_lab.records import Estimate, ModelSpec
from llmops_lab.store.ledger import open_ledger


def model(spec: str, *, label: str = "", **params: Any) -> ModelSpec:
    """Name a model with parameters of its own: ``lab.model("tiny", temperature=0.7, label="hot")``.

    A registered one is ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``: it is fetched and checked, as the alias means it now.
    """
    if not isinstance(spec, str) or not spec.startswith("models:/"):
        return ModelSpec(spec, params, label)
    from llmops_lab.flows.resolve import address, resolve

    found = resolve(*address(spec), _settings.load())
    if found.kind != "model":
        raise BadInput(f"{spec} is a {found.kind}, not a model.")
    return ModelSpec(found.model, params, label or found.address)


def models() -> list[dict[str, str]]:
    """The model providers that are there: name and summary."""
    return [{"name": name, "summary": plugins.summary("models", name)} for name in plugins.names("models")]


def scorer(what: Any, *, label: str | None = None, **options: Any) -> Any:
    """Fix a scorer's options: ``lab.scorer("regex", pattern="^[0-9]+$")``. Raises UnknownName or BadInput."""
    from llmops_lab.api.judge import asks_a_model, judge
    from llmops_lab.scorers._run import bind

    if isinstance(what, Mapping):  # as a job's parameters say it: {"name": "regex", "pattern": "^[0-9]+$"}
        label, options = what.get("label", label), {**what, **options}
        what = options.pop("name", None)
        options.pop("label", None)
    if isinstance(what, str) and asks_a_model(what):
        return judge(what, label=label, **options)
    return bind(what, label=label, resources=_Resources(), **options)


def scorers() -> list[dict[str, Any]]:
    """The scorers that are there: name, summary, direction, options."""
    from llmops_lab.scorers._run import describe

    return describe()


class _Resources(Mapping[str, Any]):
    """What scorers may ask for by keyword; made only when one does."""

    def __getitem__(self, name: str) -> Any:
        if name != "embed":
            raise KeyError(name)
        return embedder(_settings.load())

    def __iter__(self) -> Any:
        return iter(("embed",))

    def __len__(self) -> int:
        return 1


def grid(
    prompts: Any,
    rows: Any,
    *,
    models: Sequence[str | ModelSpec] | str | ModelSpec = (),
    scorers: Sequence[Any] = (),
    expected: str | None = None,
    params: Mapping[str, Any] | None = None,
    repeats: int = 1,
    concurrency: int | None = None,
    timeout: float | None = None,
    retries: int | None = None,
    budget: float | None = None,
    stream: bool = False,
    reuse: bool = True,
    stop: str | None = None,
    name: str | None = None,
    track: bool = True,
    progress: Any = None,
    wait: bool = True,
) -> Any:
    """Ask every model every prompt about every row, and score the replies.

    Replies that the ledger already has are not bought again (``reuse=False`` asks anew). ``budget`` is a cap in USD;
    ``timeout`` in seconds. ``stop="decided"`` asks rows in random order and ends when the first scorer's comparison with the
    first prompt and model is decided. ``progress``: None shows a bar where one can be shown, False none; a function gets each
    ``Progress``. Raises BadInput before the first call.
    """
    from llmops_lab.api.grid import Grid

    given = dict(locals())
    view_for(progress)
    if not wait:
        importlib.import_module(
            "pandas"
        )  # its end, beside the next cells, needs it: half loaded there, it would break a cell that uses plotly
    planned = _planned(**{key: given[key] for key in _ASKED})
    handle = Grid(planned.ledger, planned.grid, planned, progress).start()
    return handle.wait() if wait else handle


def prepare(prompts: Any, rows: Any, *, progress: Any = None, **options: Any) -> Any:
    """The grid that ``grid`` with the same arguments would run, not begun: its ``estimate`` is known, ``start()`` begins it."""
    from llmops_lab.api.grid import Grid

    unknown = sorted(set(options) - set(_ASKED))
    if unknown:
        raise UnknownName("option", unknown[0], _ASKED)
    planned = _planned(**{**_DEFAULTS, **options, "prompts": prompts, "rows": rows})
    return Grid(planned.ledger, planned.grid, planned, progress)


def estimate(prompts: Any, rows: Any, **options: Any) -> Estimate:
    """What ``grid`` with the same arguments would take: calls, tokens, cost in USD, seconds. Sends nothing. Raises as ``grid`` does."""
    expected: Estimate = prepare(prompts, rows, **{name: value for name, value in options.items() if name != "wait"}).estimate
    return expected


_DEFAULTS: dict[str, Any] = {
    name: each.default for name, each in inspect.signature(grid).parameters.items() if name not in ("progress", "wait")
}
_ASKED = tuple(_DEFAULTS)


def _planned(*, prompts: Any, rows: Any, models: Any, scorers: Sequence[Any], expected: str | None, track: bool, **how: Any) -> Any:
    from llmops_lab.flows.plan_grid import GridAsk, plan_grid
    from llmops_lab.grids.frame import check_names
    from llmops_lab.grids.plan import DEFAULT_PARAMS
    from llmops_lab.grids.rows import read_rows
    from llmops_lab.prompts.files import load_prompts

    settings = _settings.load()
    loaded = load_prompts(prompts, fetch=lambda uri: prompts_library().get(uri))
    table = read_rows(rows)
    judges = [scorer(each) if isinstance(each, str) or not hasattr(each, "fingerprint") else each for each in _listed(scorers or ())]
    _check_columns(judges, expected, table)
    specs = [each if isinstance(each, ModelSpec) else ModelSpec(each) for each in _listed(models or settings.model)]
    _check_labels([spec.name for spec in specs], "models", 'lab.model("...", label="...")')
    _check_labels([judge.name for judge in judges], "scorers", 'lab.scorer("...", label="...")')
    check_names([judge.name for judge in judges])

    def number(name: str, least: float) -> Any:
        return _above(name, getattr(settings, name) if how[name] is None else how[name], least)

    ask = GridAsk(
        prompts=loaded,
        rows=table,
        models=specs,
        judges=judges,
        expected=expected,
        params={**DEFAULT_PARAMS, **_named_params(how["params"])},
        repeats=_whole("repeats", how["repeats"], 1),
        concurrency=_whole("concurrency", number("concurrency", 1), 1),
        timeout=number("timeout", 0.001),
        retries=_whole("retries", number("retries", 0), 0),
        budget=None if how["budget"] is None else _above("budget", how["budget"], 1e-9),
        stream=bool(how["stream"]),
        reuse=bool(how["reuse"]),
        stop=_stop(how["stop"], judges, len(loaded) * len(specs)),
        name=_name(how["name"]),
        track=track,
    )
    return plan_grid(ask, settings)


def load(run_id: str) -> Any:
    """Open a grid again by its MLflow run id, its own id or its name; a run that another machine logged is read from MLflow.

    Raises UnknownName, or LabError where MLflow does not answer.
    """
    from llmops_lab.api.grid import Grid
    from llmops_lab.api.logged import LoggedGrid

    if not isinstance(run_id, str):
        raise BadInput(f"a grid is named by its run id or its name, which are texts, not {run_id!r:.80}.")
    settings = _settings.load()
    ledger = open_ledger(settings)
    record = ledger.grid(run_id)
    if record is None and re.fullmatch("[0-9a-f]{32}", run_id):
        return LoggedGrid(run_id, settings)
    if record is None:
        known = {name for each in ledger.grids(20) for name in (each["name"], each["run_id"] or each["grid"])}
        raise UnknownName("grid", run_id, known, f"Looked in {ledger.place}.")
    return Grid(ledger, record["grid"])


def compare(
    grid: Any,
    other: Any = None,
    *,
    a: str | None = None,
    b: str | None = None,
    scorer: str = "exact",
    by: str = "prompt",
    model: str | None = None,
    prompt: str | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
) -> Verdict:
    """Judge b against a on the same rows. Two grids (or run ids) are compared whole; within one, two prompts or two models are.

    What is not fixed by ``model`` or ``prompt`` is averaged inside a row. Raises UnknownName, BadInput or DoesNotPair.
    """
    from llmops_lab.flows import compare as comparing

    first = _held(grid)
    second = first if other is None else _held(other)
    judge = _judge(first, scorer)
    _judge(second, scorer)
    comparing.check_answers(first.dataset, second.dataset)
    left, right = first.records(), second.records()
    for column, value in (("model", model), ("prompt", prompt)):
        if value is not None:
            left, right = comparing.side(left, column, value), comparing.side(right, column, value)
    if other is None or a or b:
        left, right = comparing.side(left, by, a), comparing.side(right, by, b)
    watched = None
    if "decided" in (first.state, second.state):
        watched = max(1, len({(each["prompt"], each["model"]) for each in first.records()}) - 1)
    names = (a or "a", b or "b")
    found = comparing.compare(left, right, judge=judge, names=names, alpha=alpha, margin=margin, watched=watched)
    chosen: dict[str, Any] = {"a": a, "b": b, "by": by, "scorer": scorer, "model": model, "prompt": prompt, "alpha": alpha}
    return Verdict.of(found, functools.partial(_rows_of, first, None if other is None else second, **chosen))


def compare_all(grid: Any, *, baseline: str, scorer: str = "exact", by: str = "prompt", alpha: float = 0.05) -> list[Verdict]:
    """Judge every other prompt (or model) against ``baseline``; the chance of any false verdict is at most alpha (Holm).

    A grid that stopped when it was decided is judged by its confidence sequences, alpha shared among them.
    """
    from llmops_lab.flows import compare as comparing

    grid = _held(grid)
    options: dict[str, Any] = {"judge": _judge(grid, scorer), "baseline": baseline, "by": by, "alpha": alpha, "state": grid.state}
    made = comparing.compare_all(grid.records(), **options)
    chosen: dict[str, Any] = {"a": baseline, "by": by, "scorer": scorer, "alpha": alpha}
    return [Verdict.of(each, functools.partial(_rows_of, grid, None, b=each.b, **chosen)) for each in made]


def _rows_of(grid: Any, other: Any, verdict: Verdict, **chosen: Any) -> Any:
    return importlib.import_module("llmops_lab.api.diff").diff(grid, other, **chosen).judged(verdict)  # by name: it calls this module


def prompts_library() -> Any:
    """The prompt library of this project, in MLflow's registry."""
    from llmops_lab.flows.prompts import library

    return library(_settings.load())


class _Prompts:
    """``lab.prompts``: the library, opened when it is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(prompts_library(), name)


prompts = _Prompts()


def _held(grid: Any) -> Any:
    return grid if hasattr(grid, "judges") else load(grid)


def _judge(grid: Any, scorer: str) -> dict[str, Any]:
    if grid.state in ("planned", "running"):
        raise BadInput(
            f"the grid is still {grid.state}: a verdict now would be on what happened to be ready. Wait for it (g.wait()); "
            "stop='decided' ends it as soon as there is a verdict."
        )
    return judge_of(grid, scorer)


def _check_columns(judges: Sequence[Any], expected: str | None, table: Any) -> None:
    if expected is not None:
        table.require(str(expected))
    for judge in judges:
        if judge.needs_target and expected is None:
            raise BadInput(f"the scorer {judge.name} compares with an expected answer. Say which column holds it: expected='...'.")
        if getattr(judge, "check_columns", None) is not None:
            judge.check_columns(table.columns)


def _check_labels(labels: Sequence[str], what: str, cure: str) -> None:
    for label in labels:
        if labels.count(label) > 1:
            raise BadInput(f"two {what} are called {label!r}. Give them names of their own: {cure}.")


def _listed(given: Any) -> list[Any]:
    return [given] if isinstance(given, str | ModelSpec) or callable(given) else list(given)


def _above(name: str, value: Any, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value) or value < least:
        raise BadInput(
            f"{name} must be a number above 0, not {value!r}." if least else f"{name} must be a number, 0 or more, not {value!r}."
        )
    return value if isinstance(value, int | float) else float(value)  # a number of numpy's


def _named_params(params: Any) -> Mapping[str, Any]:
    if params is not None and not isinstance(params, Mapping):
        raise BadInput(f"params are names with values, such as {{'temperature': 0}}, not {params!r:.80}.")
    return params or {}


def _name(name: Any) -> str:
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise BadInput(f"a grid's name is a text, not {name!r}.")
    return name or "grid"


def _whole(name: str, value: Any, least: int) -> int:
    number = _above(name, value, least)
    if int(number) != number:
        raise BadInput(f"{name} must be a whole number, not {value!r}.")
    return int(number)


def _stop(stop: str | None, judges: Sequence[Any], variants: int) -> str | None:
    if stop not in (None, "decided"):
        raise BadInput(f"stop is None or 'decided', not {stop!r}.")
    if stop and not judges:
        raise BadInput("stop='decided' needs a scorer: without scores nothing can be decided.")
    if stop and variants < 2:
        raise BadInput("stop='decided' needs two prompts or models or more: there is nothing to decide about one.")
    if stop and judges[0].bounds is None:
        raise BadInput(
            f"stop='decided' goes by the first scorer, and {judges[0].name} has no bounds, which the interval needs. "
            "Name a true/false or bounded scorer first, or leave stop out."
        )
    return stop
