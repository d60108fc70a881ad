"""The functions that users call: ``lab.grid``, ``lab.compare`` and their small helpers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmops_lab import plugins
from llmops_lab import settings as _settings
from llmops_lab.errors import BadInput, LabError, UnknownName
from llmops_lab.records import ModelSpec, Verdict
from llmops_lab.store.ledger import open_ledger

_DEFAULT_PARAMS = {"temperature": 0, "max_tokens": 256}


def model(spec: str, *, label: str = "", **params: Any) -> ModelSpec:
    """Name a model with parameters of its own: ``lab.model("tiny", temperature=0.7, label="hot")``."""
    return ModelSpec(spec, params, label)


def models() -> list[dict[str, str]]:
    """The model providers that are there: name and summary."""
    return [{"name": name, "summary": plugins.summary("models", name)} for name in plugins.names("models")]


def scorer(what: Any, *, label: str | None = None, **options: Any) -> Any:
    """Fix a scorer's options: ``lab.scorer("regex", pattern="^[0-9]+$")``. Raises UnknownName or BadInput."""
    from llmops_lab.scorers._run import bind

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
        settings = _settings.load()
        kind, _, target = settings.embedder.partition(":")
        return plugins.find("embedders", kind).connect(target, settings=settings)

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
    progress: Callable[[Any], None] | None = None,
    wait: bool = True,
) -> Any:
    """Ask every model every prompt about every row, and score the replies.

    Replies that the ledger already has are not bought again (``reuse=False`` asks anew). ``budget`` is a cap in USD;
    ``timeout`` in seconds. ``progress`` is called with records of how it stands. Raises BadInput before the first call.
    """
    from llmops_lab.api.grid import Grid
    from llmops_lab.flows.grid import GridAsk, LiveGrid
    from llmops_lab.grids.rows import read_rows
    from llmops_lab.prompts.files import load_prompts

    settings = _settings.load()
    loaded = load_prompts(prompts, fetch=lambda uri: prompts_library().get(uri))
    table = read_rows(rows)
    judges = [scorer(each) if isinstance(each, str) or not hasattr(each, "fingerprint") else each for each in scorers]
    _check_columns(judges, expected, table)
    specs = [each if isinstance(each, ModelSpec) else ModelSpec(each) for each in _listed(models or settings.model)]
    _check_labels([spec.name for spec in specs], "models", 'lab.model("...", label="...")')
    _check_labels([judge.name for judge in judges], "scorers", 'lab.scorer("...", label="...")')
    ask = GridAsk(
        prompts=loaded,
        rows=table,
        models=specs,
        judges=judges,
        expected=expected,
        params={**_DEFAULT_PARAMS, **(params or {})},
        repeats=int(_above("repeats", repeats, 1)),
        concurrency=int(_above("concurrency", settings.concurrency if concurrency is None else concurrency, 1)),
        timeout=_above("timeout", settings.timeout if timeout is None else timeout, 0.001),
        retries=int(_above("retries", settings.retries if retries is None else retries, 0)),
        budget=None if budget is None else _above("budget", budget, 1e-9),
        stream=stream,
        reuse=reuse,
        stop=_stop(stop, judges),
        name=name or "grid",
    )
    live = LiveGrid(ask, settings)
    handle = Grid(live.ledger, live.grid, settings, live, track=track).start(progress)
    return handle.wait() if wait else handle


def load(run_id: str) -> Any:
    """Open a grid again by its MLflow run id, its own id or its name. Raises UnknownName."""
    from llmops_lab.api.grid import Grid

    settings = _settings.load()
    ledger = open_ledger(settings)
    record = ledger.grid(run_id)
    if record is None:
        known = [each["run_id"] or each["grid"] for each in ledger.grids(20)]
        raise UnknownName("grid", run_id, known, f"Looked in {ledger.place}.")
    return Grid(ledger, record["grid"], settings)


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
    from llmops_lab.flows.compare import compare as judge

    first = load(grid) if isinstance(grid, str) else grid
    second = first if other is None else load(other) if isinstance(other, str) else other
    fixed = {key: value for key, value in (("model", model), ("prompt", prompt)) if value is not None}
    left, right = _chosen(first, scorer, fixed), _chosen(second, scorer, fixed)
    names = (a or "a", b or "b")
    if other is None or a or b:
        left, right = _side(left, by, a), _side(right, by, b)
    watched = None
    if "decided" in (first.state, second.state):
        watched = max(1, len({(each["prompt"], each["model"]) for each in first.records()}) - 1)
    return judge(left, right, scorer=scorer, names=names, alpha=alpha, margin=margin, higher_is_better=_direction(scorer), watched=watched)


def compare_all(grid: Any, *, baseline: str, scorer: str = "exact", by: str = "prompt", alpha: float = 0.05) -> list[Verdict]:
    """Judge every other prompt (or model) against ``baseline``; the chance of any false verdict is at most alpha (Holm)."""
    from llmops_lab.flows.compare import row_means
    from llmops_lab.stats.verdict import Pair, compare_many

    records = _chosen(grid, scorer, {})
    base = row_means(_side(records, by, baseline), scorer)
    others = [name for name in dict.fromkeys(record[by] for record in records) if name != baseline]
    sides = {name: row_means(_side(records, by, name), scorer) for name in others}
    binary = all(flag for side in (base, *sides.values()) for _, flag in side.values())
    pairs = [Pair([base[r][0] for r in base], [side[r][0] for r in base], baseline, name) for name, side in sides.items()]
    return compare_many(pairs, binary=binary, alpha=alpha, higher_is_better=_direction(scorer), scorer=scorer)


def prompts_library() -> Any:
    """The prompt library of this project, in MLflow's registry."""
    from llmops_lab.prompts.library import Library
    from llmops_lab.track.prompts import Registry

    return Library(Registry(_settings.load()))


class _Prompts:
    """``lab.prompts``: the library, opened when it is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(prompts_library(), name)


prompts = _Prompts()


def _chosen(grid: Any, scorer: str, fixed: Mapping[str, str]) -> list[dict[str, Any]]:
    if scorer not in grid.scorers:
        raise UnknownName("score column", scorer, grid.scorers)
    records: list[dict[str, Any]] = grid.records()
    for key, value in fixed.items():
        records = _side(records, key, value)
    return records


def _side(records: list[dict[str, Any]], by: str, name: str | None) -> list[dict[str, Any]]:
    if by not in ("prompt", "model"):
        raise BadInput(f"by is 'prompt' or 'model', not {by!r}.")
    known = list(dict.fromkeys(record[by] for record in records))
    if name not in known:
        raise UnknownName(by, str(name), known)
    return [record for record in records if record[by] == name]


def _direction(scorer: str) -> bool:
    if scorer not in plugins.names("scorers"):
        return True
    direction = plugins.find("scorers", scorer).higher_is_better
    if direction is None:
        raise BadInput(f"{scorer} has no better direction, so a comparison of it has no verdict.")
    return bool(direction)


def _check_columns(judges: Sequence[Any], expected: str | None, table: Any) -> None:
    if expected is not None:
        table.require(expected)
    for judge in judges:
        if judge.needs_target and expected is None:
            raise BadInput(f"the scorer {judge.name} compares with an expected answer. Say which column holds it: expected='...'.")


def _check_labels(labels: Sequence[str], what: str, cure: str) -> None:
    for label in labels:
        if labels.count(label) > 1:
            raise BadInput(f"two {what} are called {label!r}. Give them names of their own: {cure}.")


def _listed(models: Any) -> list[Any]:
    return [models] if isinstance(models, str | ModelSpec) else list(models)


def _above(name: str, value: Any, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise BadInput(
            f"{name} must be a number above 0, not {value!r}." if least else f"{name} must be a number, 0 or more, not {value!r}."
        )
    return value


def _stop(stop: str | None, judges: Sequence[Any]) -> str | None:
    if stop not in (None, "decided"):
        raise BadInput(f"stop is None or 'decided', not {stop!r}.")
    if stop and not judges:
        raise BadInput("stop='decided' needs a scorer: without scores nothing can be decided.")
    return stop


__all__ = ["LabError", "compare", "compare_all", "grid", "load", "model", "models", "prompts", "scorer", "scorers"]
