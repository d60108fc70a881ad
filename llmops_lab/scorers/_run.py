"""How a scorer is found, checked, and applied. Everything that can be wrong before the first call is found in ``bind``.

A plugin is one file with ``score(reply, target, *, OPTIONS)`` and ``higher_is_better``. What else it may have:

``NEEDS_TARGET = True``      the expected column is required; a row without a value is unscored
``BOUNDS = (low, high)``     the range of a numeric score, None for one without end; left out: true/false or 0 to 1
``expensive = True``         worth keeping in the ledger
``PACKAGES = ("name",)``     distributions whose version changes the score
``check(*, OPTIONS)``        raises BadInput for option values that cannot work
``summarise(scores)``        extra summary columns, each joined to the scorer's column name by ``_``
``UNSCORED_TOO = True``      ``summarise`` gets the scores without a value too
``completed(scorer, options, resources)``  the Scorer with what depends on its options (bounds, fingerprint)
``adapt(what, *, options)``  for a library of metrics: makes a Scorer of ``FILE:what``, or of the library's own objects; it gets
                            ``ask`` too, where it declares it and one is there

``score`` may declare the keywords ``row`` (the row's columns), ``embed`` (list of texts -> L2-normalised rows) and ``ask`` (a model
that judges, see ``_judge.Ask``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType, ModuleType, NoneType, UnionType
from typing import Any, Literal

from llmops_lab import plugins
from llmops_lab.errors import BadInput, UnknownName, meant
from llmops_lab.records import Reply, Score, canonical, digest
from llmops_lab.scorers._text import is_missing, plain

RESOURCES: Mapping[str, str] = MappingProxyType(
    {
        "embed": "a function from a list of texts to their L2-normalised vectors",
        "ask": "the model that judges, as in lab.judge({name!r}, model='...')",
    }
)
"""Keywords that the caller's surroundings fill, not the user."""
_RESERVED = RESOURCES.keys() | {"row"}
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_LONGEST_MESSAGE = 500

Apply = Callable[[Reply, Any, Mapping[str, Any]], Any]


@dataclass(frozen=True, eq=False)
class Scorer:
    """A scorer with its options, ready to be called. ``name`` is its column.

    ``higher_is_better`` None: it has no good direction, so that a comparison needs one. ``fingerprint`` names everything that
    decides the score apart from reply and row; None: unknown (a Python function, a live object), its scores are never reused.
    ``bounds`` are the least and greatest possible score; None: there are none, or nobody knows them, so that nothing can stop early by
    it. ``plugin`` is the file that it comes from, empty for a function or another library's metric. ``at_once`` replies may be judged
    side by side, each in a thread: more than 1 for a scorer that waits for a model, which is named in ``model``.
    ``check_columns`` raises BadInput for rows whose columns it cannot use.
    """

    name: str
    apply: Apply = dataclasses.field(repr=False)
    higher_is_better: bool | None = True
    needs_target: bool = False
    expensive: bool = False
    fingerprint: str | None = None
    bounds: tuple[float, float] | None = (0.0, 1.0)
    plugin: str = ""
    at_once: int = 1
    model: str = ""
    check_columns: Callable[[Sequence[str]], Any] | None = dataclasses.field(default=None, repr=False)

    def __call__(self, reply: Reply, target: Any, row: Mapping[str, Any]) -> Score:
        """Judge one reply. Never raises: a fault is a Score without a value whose ``error`` says what broke.

        ``target`` is the row's expected value, None where there is none; a scorer that needs one then leaves the cell unscored.
        """
        try:
            target = plain(target)
            if self.needs_target and is_missing(target):
                return Score(None, reason="this row has no expected value")
            return _judged(self.apply(reply, target, row))
        except (Exception, SystemExit) as error:
            return Score(None, error=_message(error))


def bind(
    what: str | Callable[..., Any] | Scorer,
    *,
    label: str | None = None,
    higher_is_better: bool | None = None,
    resources: Mapping[str, Any] = _NOTHING,
    **options: Any,
) -> Scorer:
    """Find a scorer and fix its options.

    ``what``: the name of a plugin, ``deepeval:METRIC`` or ``mlflow:SCORER``; a function ``(reply, row) -> bool | float | None
    | Score``; a DeepEval metric or MLflow scorer object; or a Scorer. ``label`` renames its column. ``higher_is_better`` overrides
    what it declares (a function counts as True, or what its attribute of that name says). ``resources`` holds ``embed``; it is looked
    up only when the scorer declares it, so a lazy mapping builds nothing in vain.

    Raises UnknownName, MissingExtra, or BadInput naming the options that the scorer has.
    """
    if isinstance(what, Scorer):
        if options:
            raise BadInput(f"the scorer {what.name} has its options already; give {', '.join(options)} where it is made.")
        scorer = what
    elif isinstance(what, str):
        scorer = _from_name(what, options, resources)
    else:
        scorer = _from_object(what, options, resources, label)
    changes: dict[str, Any] = {}
    if label is not None:
        if not isinstance(label, str) or not label.strip():
            raise BadInput(f"a scorer's label names its column, so it is a text and cannot be empty: not {label!r}.")
        changes["name"] = label
    if higher_is_better is not None:
        changes["higher_is_better"] = higher_is_better
    return dataclasses.replace(scorer, **changes) if changes else scorer


def has_summary(plugin: str) -> bool:
    """Whether a scorer adds columns of its own to a summary. False for one that is not installed here."""
    return _summary(plugin) is not None


def summarise(plugin: str, scores: Sequence[Score]) -> dict[str, Any]:
    """Extra summary columns over the scores of one (prompt, model): names without the scorer's own; plain JSON values.

    Scores without a value are left out, unless the plugin counts them. Empty for a scorer that has none, is not installed here, or
    has no score. Never raises: a fault of the plugin is under ``summary_error``.
    """
    summary = _summary(plugin)
    if summary is None:
        return {}
    too = getattr(plugins.find("scorers", plugin), "UNSCORED_TOO", False)
    given = [score for score in scores if too or score.value is not None]
    if not given:
        return {}
    try:
        extra: dict[str, Any] = json.loads(canonical(dict(summary(given))))  # what no store can hold is as good as an error
        return extra
    except Exception as error:  # a plugin's own code: the rest of the table stands
        return {"summary_error": _message(error)}


def _summary(plugin: str) -> Callable[[Sequence[Score]], Mapping[str, Any]] | None:
    try:
        return getattr(plugins.find("scorers", plugin), "summarise", None) if plugin else None
    except (UnknownName, ImportError):
        return None


def describe() -> list[dict[str, Any]]:
    """One dict a scorer plugin: ``name``, ``summary``, ``higher_is_better``, ``needs_target`` and ``options``.

    ``options`` maps each option to its default as code, or to "required". Imports no heavy package. A third party's
    plugin that cannot be imported is listed with the error as its summary.
    """
    return [_description(name) for name in plugins.names("scorers")]


def _description(name: str) -> dict[str, Any]:
    try:
        module = plugins.find("scorers", name)
    except Exception as error:
        return {
            "name": name,
            "summary": f"cannot be used: {_message(error)}",
            "higher_is_better": None,
            "needs_target": False,
            "options": {},
        }
    score = getattr(module, "score", None)
    return {
        "name": name,
        "summary": plugins.summary("scorers", name),
        "higher_is_better": getattr(module, "higher_is_better", None),
        "needs_target": getattr(module, "NEEDS_TARGET", False),
        "options": {
            key: "required" if parameter.default is parameter.empty else repr(parameter.default)
            for key, parameter in (_keywords(score) if score else {}).items()
            if key not in _RESERVED
        },
    }


def _from_name(what: str, options: Mapping[str, Any], resources: Mapping[str, Any]) -> Scorer:
    name, colon, inner = what.partition(":")
    module = plugins.find("scorers", name)
    if hasattr(module, "adapt"):
        if not inner:
            raise BadInput(f"the scorer {name} needs the name of a metric: {name}:NAME.")
        judge = {"ask": resources["ask"]} if "ask" in _keywords(module.adapt) and "ask" in resources else {}
        adapted: Scorer = module.adapt(inner, options=options, **judge)
        return adapted
    if colon:
        raise BadInput(
            f"the scorer {name} takes nothing after a colon; its options go to scorer({name!r}, ...). {_known(name, module.score)}"
        )
    chosen = _options(name, module.score, options)
    filled = _resources(name, module.score, options, resources)
    if hasattr(module, "check"):
        module.check(**chosen)
    scorer = Scorer(
        name=name,
        apply=_applied(module.score, {**chosen, **filled}),
        higher_is_better=module.higher_is_better,
        needs_target=getattr(module, "NEEDS_TARGET", False),
        expensive=getattr(module, "expensive", False),
        fingerprint=_fingerprint(name, module, chosen, filled),
        bounds=getattr(module, "BOUNDS", (0.0, 1.0)),
        plugin=name,
    )
    return module.completed(scorer, chosen, filled) if hasattr(module, "completed") else scorer


def _from_object(what: Any, options: Mapping[str, Any], resources: Mapping[str, Any], label: str | None) -> Scorer:
    """A library's own object goes to the adapter file that has the library's name; all else must be a function."""
    if isinstance(what, type):
        raise BadInput(f"{what.__name__} is a class; give an object of it: {what.__name__}(...).")
    libraries = {cls.__module__.partition(".")[0] for cls in type(what).__mro__}
    for name in libraries.intersection(plugins.names("scorers")):
        module = plugins.find("scorers", name)
        if hasattr(module, "adapt"):
            adapted: Scorer = module.adapt(what, options=options)
            return adapted
    return _from_function(what, options, resources, label)


def _from_function(what: Any, options: Mapping[str, Any], resources: Mapping[str, Any], label: str | None) -> Scorer:
    if not callable(what):
        raise BadInput(f"a scorer is a name, a function (reply, row), or a scorer object, not {type(what).__name__} {what!r:.80}.")
    name = label or str(getattr(getattr(what, "func", what), "__name__", type(what).__name__))
    if name == "<lambda>":
        raise BadInput("a lambda has no name for its column: give it a label, or use def.")
    if inspect.iscoroutinefunction(what) or inspect.iscoroutinefunction(getattr(what, "__call__", None)):  # noqa: B004 - its kind, not whether
        raise BadInput(f"the scorer {name} is an async function; give a plain one.")
    fixed = {**_options(name, what, options), **_resources(name, what, options, resources)}
    try:
        inspect.signature(what).bind(None, None, **fixed)
    except TypeError as error:
        raise BadInput(f"the scorer {name} is called with (reply, row): {error}.") from error
    except ValueError:  # a builtin without a signature; it shows when it is called
        pass
    direction, bounds = getattr(what, "higher_is_better", True), getattr(what, "bounds", (0.0, 1.0))
    return Scorer(name, lambda reply, target, row: what(reply, dict(row), **fixed), direction, bounds=bounds)


def _applied(score: Callable[..., Any], fixed: dict[str, Any]) -> Apply:
    call = partial(score, **fixed)
    if "row" in _keywords(score):
        return lambda reply, target, row: call(reply, target, row=row)
    return lambda reply, target, row: call(reply, target)


def _keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def _known(name: str, function: Callable[..., Any]) -> str:
    known = sorted(set(_keywords(function)) - _RESERVED)
    return f"Options of {name}: {', '.join(known) if known else 'none'}."


def _options(name: str, function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options to call with: each known, each of the right type, none missing. Defaults included."""
    keywords = {key: parameter for key, parameter in _keywords(function).items() if key not in _RESERVED}
    for key in given:
        if key not in keywords and not (key in RESOURCES and key in _keywords(function)):
            raise BadInput(f"the scorer {name} has no option {key!r}.{meant(key, keywords)} {_known(name, function)}")
    missing = [key for key, parameter in keywords.items() if parameter.default is parameter.empty and key not in given]
    if missing:
        raise BadInput(f"the scorer {name} needs the option {missing[0]}: scorer({name!r}, {missing[0]}=...). {_known(name, function)}")
    hints = _hints(function)
    for key, value in given.items():
        if key in keywords and not _fits(value, hints.get(key, Any)):
            raise BadInput(f"the scorer {name}: {key} must be {_words(hints[key])}, not {value!r:.80}.")
    return {key: given.get(key, parameter.default) for key, parameter in keywords.items()}


def _resources(name: str, function: Callable[..., Any], given: Mapping[str, Any], resources: Mapping[str, Any]) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for key in RESOURCES.keys() & _keywords(function).keys():
        if key in given or key in resources:
            filled[key] = given[key] if key in given else resources[key]
            if not callable(filled[key]):
                raise BadInput(f"the scorer {name}: {key} must be a function, not {filled[key]!r:.80}.")
        elif _keywords(function)[key].default is inspect.Parameter.empty:
            raise BadInput(f"the scorer {name} needs {key}: {RESOURCES[key].format(name=name)}.")
    return filled


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations that only a type checker can read
        return {}


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in typing.get_args(hint))
    if origin in (typing.Union, UnionType):
        return any(_fits(value, each) for each in typing.get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(origin, type):
        return isinstance(value, origin) and not isinstance(value, str)
    return isinstance(value, hint) if hint in (bool, str, NoneType) else True


def _words(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, typing.get_args(hint)))}"
    return {bool: "True or False", int: "a whole number", float: "a number", str: "text"}.get(hint, str(hint))


def _fingerprint(name: str, module: ModuleType, options: Mapping[str, Any], filled: Mapping[str, Any]) -> str | None:
    identities = {key: getattr(resource, "identity", None) for key, resource in filled.items()}
    if None in identities.values():
        return None
    try:
        return digest(
            {
                "scorer": name,
                "options": dict(options),
                "resources": identities,
                "source": hashlib.sha256(inspect.getsource(module).encode("utf-8", "replace")).hexdigest(),
                "versions": versions("llmops-lab", *getattr(module, "PACKAGES", ())),
            }
        )
    except (TypeError, ValueError, OSError):  # an option that is no JSON, or a plugin without a source
        return None


def versions(*packages: str) -> dict[str, str]:
    """The installed version of each distribution; empty for one that runs from a source folder."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def _judged(result: Any) -> Score:
    """What a scorer returned, as a Score that can be stored: a bool stays a bool, any other number becomes a float."""
    if isinstance(result, Score):
        if result.detail:
            canonical(dict(result.detail))  # raises TypeError for what no store can hold
        value = None if result.error else _number(result.value)
        return result if value is result.value else dataclasses.replace(result, value=value)
    return Score(_number(result))


def _number(value: Any) -> bool | float | None:
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, (int, float)) and hasattr(value, "item"):  # a numpy or torch scalar
        value = value.item()
        if isinstance(value, bool):
            return value
    if not isinstance(value, (int, float)):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError(f"a scorer returns bool, float, None or Score, not {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"the score is {number}")
    return number


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be read)"
    return f"{type(error).__name__}: {text}"[:_LONGEST_MESSAGE].rstrip(": ")
