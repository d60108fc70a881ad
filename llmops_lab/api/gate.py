"""``lab.gate``: a candidate against the champion on the same rows, suite by suite; it passes on verdicts, not on means."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api import calls
from llmops_lab.api.gated import Gate
from llmops_lab.errors import BadInput, BudgetReached, Cancelled, LabError, UnknownName, Unreachable
from llmops_lab.governance.gate import Side, Suite
from llmops_lab.records import ModelSpec
from llmops_lab.store.ledger import open_ledger

_ADDRESS = re.compile(r"(?:(?:models|prompts):/)?(?P<name>[\w.\-]{1,200})(?:@(?P<alias>[\w\-]{1,100})|/(?P<version>\d{1,9}))", re.ASCII)
_OPTIONS = ("prompt", "model", "slot", "scorer", "expected", "margin", "floor", "min_rows", "max_missing", "params")
_ENDS = {"budget": BudgetReached, "unreachable": Unreachable, "cancelled": Cancelled}


@dataclass(frozen=True)
class _Contender:
    """A side with what a grid is asked with for it; no ``model`` or no ``prompts`` (by slot) where the suite says it."""

    side: Side
    model: ModelSpec | None = None
    prompts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def gate(
    candidate: Any,
    champion: Any = None,
    rows: Any = None,
    *,
    prompt: Any = None,
    model: str | ModelSpec | None = None,
    slot: str | None = None,
    scorer: Any = "exact",
    expected: str | None = None,
    margin: float | None = None,
    floor: float | None = None,
    min_rows: int = 20,
    max_missing: float = 0.05,
    params: Mapping[str, Any] | None = None,
    name: str = "main",
    suites: Sequence[Mapping[str, Any]] = (),
    alias: str = "",
    first_release: bool = False,
    alpha: float = 0.05,
    concurrency: int | None = None,
    reuse: bool = True,
    progress: Any = None,
) -> Gate:
    """Judge a candidate against the champion on the same rows and keep the result as evidence for ``lab.promote``.

    With a ``prompt`` (here or in every suite) the two are models; without, they are prompts, asked of ``model``. A model that a job has
    tuned may be named by that job's folder (its ``out``), what is registered by ``NAME/VERSION`` or ``NAME@ALIAS``; of a bundle with
    several prompts ``slot`` names one (else ``main``).

    ``rows`` make the suite called ``name``; ``suites`` are more of them, each a mapping with ``name``, ``data`` and what differs from
    the options here. A suite passes when the verdict is better or equivalent, or when its interval shows no loss beyond ``margin``.
    ``floor`` must be cleared by the candidate's own interval. ``alias`` names the release; suites that settings require for it must be
    there. Without a champion a suite needs a floor, unless it is a ``first_release``. Raises BadInput before the first call;
    ``check()`` raises GateFailed.
    """
    from llmops_lab.flows import gate as flow

    settings = _settings.load()
    given = {"prompt": prompt, "model": model, "slot": slot, "scorer": scorer, "expected": expected, "margin": margin, "floor": floor}
    asked = _suites(rows, name, suites, {**given, "min_rows": min_rows, "max_missing": max_missing, "params": params})
    how = {"concurrency": concurrency, "reuse": reuse, "progress": progress}
    as_models = all(each["prompt"] is not None for each in asked)
    sides = [_contender(each, "candidate" if not number else "champion", as_models) for number, each in enumerate((candidate, champion))]
    if sides[0] is None:
        raise BadInput("a gate needs a candidate: a model, a prompt, or what is registered.")
    prepared = [(_suite(each), [_prepared(each, side, how) for side in sides if side is not None]) for each in asked]
    held = [(suite, [_run(grid) for grid in grids]) for suite, grids in prepared]
    ran = [flow.Ran(suite, _asked(grids[0]), _asked(grids[1]) if len(grids) > 1 else None) for suite, grids in held]
    first, second = (_identified(side, held, number) for number, side in enumerate(sides))
    result = flow.gate(
        ran, first, second, ledger=open_ledger(settings), settings=settings, alias=alias, alpha=alpha, first_release=first_release
    )
    return Gate(result, {suite.name: grids for suite, grids in held})


def _suites(rows: Any, name: str, suites: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [{**given, "name": name, "data": rows}] if rows is not None else []
    for each in suites:
        if not isinstance(each, Mapping):
            raise BadInput(
                f"a suite is a mapping such as {{'name': 'safety', 'data': 'safety.csv', 'scorer': 'refusal'}}, not {each!r:.80}."
            )
        for key in each:
            if key not in (*_OPTIONS, "name", "data"):
                raise UnknownName("option of a suite", str(key), (*_OPTIONS, "name", "data"))
        for key in ("name", "data"):
            if each.get(key) is None or each[key] == "":
                raise BadInput(f"the suite {each.get('name') or dict(each)!r:.80} has no {key!r}.")
        found.append({**given, **each})
    if not found:
        raise BadInput("a gate needs rows: lab.gate(candidate, champion, 'rows.csv', ...), or suites=[{'name': ..., 'data': ...}].")
    names = [str(each["name"]) for each in found]
    twice = next((each for each in names if names.count(each) > 1), None)
    if twice is not None:
        raise BadInput(f"two suites are called {twice!r}. Give them names of their own.")
    return found


def _suite(asked: Mapping[str, Any]) -> Suite:
    from llmops_lab.flows.compare import direction

    margin, floor = (None if asked[each] is None else calls._above(each, asked[each], 0) for each in ("margin", "floor"))
    missing = calls._above("max_missing", asked["max_missing"], 0)
    if missing >= 1:
        raise BadInput(f"max_missing is a share of the rows, below 1, not {missing!r}.")
    judge = _judge(asked["scorer"])
    direction({each: getattr(judge, each) for each in ("name", "plugin", "higher_is_better")})
    return Suite(str(asked["name"]), judge.name, margin, floor, calls._whole("min_rows", asked["min_rows"], 1), missing)


def _judge(scorer: Any) -> Any:
    if isinstance(scorer, Mapping):  # as a job's parameters or a file say it: {"name": "regex", "pattern": "..."}
        options = dict(scorer)
        return calls.scorer(options.pop("name", None), **options)
    return calls.scorer(scorer) if isinstance(scorer, str) or not hasattr(scorer, "fingerprint") else scorer


def _contender(given: Any, role: str, as_models: bool) -> _Contender | None:
    if given is None or given == "":
        return None
    found = _tuned(given) or _registered(given)
    if found is not None:
        return found
    if isinstance(given, ModelSpec) or (as_models and isinstance(given, str)):
        spec = given if isinstance(given, ModelSpec) else ModelSpec(given)
        return _Contender(Side("model", spec.name, ""), model=spec)
    prompt = _prompt(given)
    name = role if prompt.name in ("", "prompt") else prompt.name
    return _Contender(Side("prompt", name, prompt.sha256), prompts={prompt.name: prompt})


def _tuned(given: Any) -> _Contender | None:
    """The model that a job has tuned, by the job's folder or its run.json; None for anything else. Raises BadInput where it tuned none."""
    from llmops_lab.flows.deploy import contender

    path = os.path.expanduser(given) if isinstance(given, str | os.PathLike) else ""
    record = path if os.path.basename(path) == "run.json" else os.path.join(path, "run.json")
    if not path or not os.path.isfile(record):  # which is False too for a prompt that no path can be
        return None
    name = Path(record).absolute().parent.name
    return _Contender(Side("model", name, ""), model=ModelSpec(contender(record).spec, label=name))


def _registered(given: Any) -> _Contender | None:
    """What stands in the registry under this name and version; None for anything that is not named so."""
    from llmops_lab.flows.resolve import resolve

    if isinstance(given, str):
        named = _ADDRESS.fullmatch(given)
        name, version = (named["name"], named["alias"] or named["version"]) if named else ("", "")
    else:  # a version of the registry that somebody holds: a prompt, a bundle, what register_model gave
        name, version = (getattr(given, each, None) or "" for each in ("name", "version"))
    if not name or not version:
        return None
    found = resolve(name, version, _settings.load())
    side = Side(found.kind, found.address, found.digest, found.name, str(found.version))
    model = ModelSpec(found.model, label=found.address) if found.model else None
    return _Contender(side, model, found.prompts, found.params)


def _prompt(given: Any) -> Any:
    from llmops_lab.prompts.files import load_prompts

    found = list(load_prompts(given, fetch=lambda uri: calls.prompts_library().get(uri)).values())
    if len(found) != 1:
        raise BadInput(f"a suite is asked with one prompt, and {len(found)} were given.")
    return found[0]


def _prepared(asked: Mapping[str, Any], side: _Contender, how: Mapping[str, Any]) -> Any:
    prompt = _asked_with(asked, side)
    model = side.model if side.model is not None else asked["model"] or _settings.load().model
    grid = f"gate {asked['name']}: {side.side.name}"
    params = {**side.params, **(asked["params"] or {})}
    options: dict[str, Any] = {"models": [model], "scorers": [_judge(asked["scorer"])], "expected": asked["expected"], "params": params}
    return calls.prepare({prompt.name or "prompt": prompt}, asked["data"], **options, name=grid, **how)


def _asked_with(asked: Mapping[str, Any], side: _Contender) -> Any:
    """The prompt of a suite for this side: the side's own, else the suite's. Raises BadInput where there is none, or two."""
    from llmops_lab.flows.serve_release import MAIN

    name, slot = side.side.name, asked["slot"]
    if side.prompts and asked["prompt"] is not None:
        raise BadInput(f"{name} brings a prompt of its own, and the suite {asked['name']!r} has one too. Leave one of them out.")
    if not side.prompts:
        if asked["prompt"] is None:
            raise BadInput(f"{name} is a model, so the suite {asked['name']!r} needs a prompt: prompt='... {{{{ column }}}}'.")
        return _prompt(asked["prompt"])
    if slot and slot not in side.prompts:
        raise UnknownName(f"prompt of {name}", str(slot), side.prompts)
    if not slot and len(side.prompts) > 1 and MAIN not in side.prompts:
        raise BadInput(f"{name} has the prompts {', '.join(side.prompts)}. Say which one the suite {asked['name']!r} is about: slot='...'.")
    return side.prompts[slot or (MAIN if MAIN in side.prompts else next(iter(side.prompts)))]


def _run(grid: Any) -> Any:
    """The grid, run to its end. Raises BudgetReached, Unreachable, Cancelled or LabError where it did not get there."""
    held = grid.start().wait()
    if held.state != "done":
        raise _ENDS.get(held.state, LabError)(f"nothing was decided: {repr(held).splitlines()[-1]}")
    return held


def _asked(grid: Any) -> Any:
    from llmops_lab.flows.gate import Asked

    rows = grid._planned.plan.rows
    called = {row: name if (name := rows.called(number)) == row else f"row {name}" for number, row in enumerate(rows.ids)}
    return Asked(grid.grid_id, grid.run_id, grid.records(), grid.plan, called)


def _identified(contender: _Contender | None, held: Sequence[tuple[Suite, Sequence[Any]]], number: int) -> Any:
    """A model is known by what it was when it was asked."""
    if contender is None or contender.side.digest:
        return contender.side if contender else None
    return dataclasses.replace(contender.side, digest=str(held[0][1][number].plan["models"][0]["identity"]))
