"""Any DeepEval metric: ``deepeval:NAME`` with its options, or a metric object.

Single-turn metrics only. The test case is made of the row: ``actual_output`` is the reply, ``expected_output`` the
expected value, ``input`` the row's column of that name, else ``question``, ``query`` or ``prompt``, else all its
columns but ``id`` as ``name: value`` lines; ``context``, ``retrieval_context``, ``tools_called`` and ``expected_tools`` are
columns of the same name. ``columns={"context": "passage"}`` says otherwise.

With ``lab.judge("deepeval:NAME", model=...)`` any of our models judges, with our retries and record of each call. DeepEval words the
questions itself, without marks around the text under judgement. Else the metric's own ``model`` does.

DeepEval's telemetry, its reading of ``.env`` files and of its old key file are switched off unless the environment
says otherwise. A judge's price is in ``detail["judge_cost_usd"]``. An empty reply is an error: DeepEval does not judge one.
"""

from __future__ import annotations

import copy
import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from llmops_lab.errors import BadInput, MissingExtra, UnknownName
from llmops_lab.records import Message, Reply, Request, Score
from llmops_lab.scorers._judge import Ask, Call, Unjudged, bill, fingerprint, kinds, objects, question, totals
from llmops_lab.scorers._run import Scorer
from llmops_lab.scorers._text import expected_texts, well_formed

higher_is_better = True
expensive = True
UNSCORED_TOO = True
PARAMS = {"temperature": 0, "max_tokens": 2048}

_QUIET = {"DEEPEVAL_TELEMETRY_OPT_OUT": "1", "DEEPEVAL_DISABLE_DOTENV": "1", "DEEPEVAL_DISABLE_LEGACY_KEYFILE": "1"}
_INPUTS = ("input", "question", "query", "prompt")
_LISTS = ("context", "retrieval_context")
_COLUMNS = ("input", *_LISTS, "tools_called", "expected_tools")


def adapt(what: Any, *, options: Mapping[str, Any], ask: Ask | None = None) -> Scorer:
    """A Scorer of a metric's name (with or without ``Metric``) and its constructor's options, or of a metric object. ``ask`` judges.

    Raises UnknownName, MissingExtra, or BadInput for options that the metric refuses (for example no key for its judge).
    """
    metrics = _metrics()
    columns = options.get("columns", {})
    _check_columns(columns)
    rest = {key: value for key, value in options.items() if key != "columns"}
    if isinstance(what, str):
        metric, mark = _made(metrics, what, rest, ask)
    elif rest:
        raise BadInput(f"{type(what).__name__} has its options already; give {', '.join(rest)} where it is made.")
    else:
        metric, mark = what, None
    if not isinstance(metric, metrics.BaseMetric):
        raise BadInput(f"{type(metric).__name__} judges a conversation or a contest; a grid's cell is one reply.")

    def apply(reply: Reply, target: Any, row: Mapping[str, Any]) -> Score:
        case = _case(reply, target, row, columns)
        return _measured(metric, case) if ask is None else _judged(metric, case, ask, row)

    needed = [getattr(each, "value", str(each)) for each in getattr(metric, "_required_params", None) or ()]
    return Scorer(
        name=getattr(metric, "name", None) or type(metric).__name__.removesuffix("Metric"),
        apply=apply,
        needs_target="expected_output" in needed,
        expensive=ask is None,  # else each call is on record, under all that it asked
        fingerprint=None if columns and ask is None else mark,
        bounds=(0.0, 1.0) if type(metric).__module__.startswith("deepeval.") else None,
        plugin="" if ask is None else "deepeval",
        at_once=1 if ask is None else ask.at_once,
        model="" if ask is None else ask.model,
    )


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """The judge's calls, tokens and cost, and its replies that are not what the metric asked for."""
    return totals(scores)


def _metrics() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import deepeval.metrics
    except ImportError as error:
        raise MissingExtra("deepeval", "judges") from error
    return deepeval.metrics


def _check_columns(columns: Any) -> None:
    if not isinstance(columns, Mapping):
        raise BadInput(f"deepeval: columns must map a field to a column, not {columns!r:.80}.")
    for field in columns:
        if field not in _COLUMNS:
            raise UnknownName("test case field", str(field), _COLUMNS)


def _made(metrics: Any, name: str, options: Mapping[str, Any], ask: Ask | None) -> tuple[Any, str | None]:
    classes = {each.removesuffix("Metric"): found for each, found in kinds(metrics, metrics.BaseMetric).items()}
    name = name.removesuffix("Metric")
    if name not in classes:
        raise UnknownName("DeepEval metric", name, classes, hint="Metrics of whole conversations cannot score a cell.")
    given = dict(options) if ask is None else {**_typed(options), "model": _judge_class()(ask, {})}
    try:
        with warnings.catch_warnings():  # of some metrics it says that more is better by now, as it is for all that are scored here
            warnings.filterwarnings("ignore", ".*now scores in the same direction", DeprecationWarning)
            metric = classes[name](**given)
    except Exception as error:
        raise BadInput(f"the scorer deepeval:{name} cannot be made: {error}") from error
    judge = getattr(metric, "evaluation_model", None) if ask is None else ask.identity
    return metric, fingerprint("deepeval", judge, {"metric": name, "options": dict(options)})


def _typed(options: Mapping[str, Any]) -> dict[str, Any]:
    # As in a call from a command line: GEval's parameters may be named by text.
    from deepeval.test_case import SingleTurnParams

    named = options.get("evaluation_params")
    if named is None:
        return dict(options)
    known = [each.value for each in SingleTurnParams]
    for each in named:
        if isinstance(each, str) and each not in known:
            raise UnknownName("test case field", each, known)
    return {**options, "evaluation_params": [SingleTurnParams(each) if isinstance(each, str) else each for each in named]}


def _case(reply: Reply, target: Any, row: Mapping[str, Any], columns: Mapping[str, str]) -> Any:
    from deepeval.test_case import LLMTestCase

    fields: dict[str, Any] = {"input": _input(row, columns.get("input")), "actual_output": well_formed(reply.text)}
    for field in _COLUMNS[1:]:
        value = row.get(columns.get(field, field))
        if value is not None:
            fields[field] = [str(value)] if field in _LISTS and not isinstance(value, (list, tuple)) else list(value)
    expected = expected_texts(target)
    if len(expected) > 1:
        raise TypeError("DeepEval takes one expected value, not a list")
    if expected:
        fields["expected_output"] = well_formed(expected[0])
    return LLMTestCase(**fields)


def _input(row: Mapping[str, Any], column: str | None) -> str:
    name = column or next((each for each in _INPUTS if each in row), None)
    if name is not None:
        return well_formed(str(row[name]))
    return well_formed("\n".join(f"{key}: {value}" for key, value in row.items() if key != "id"))


def _measured(metric: Any, case: Any) -> Score:
    """One measurement on a copy: a metric keeps its last result in itself, and cells are judged side by side."""
    metric = copy.copy(metric)
    metric.async_mode = False  # its own event loop would meet ours
    quiet = {"_show_indicator": False} if "_show_indicator" in inspect.signature(metric.measure).parameters else {}
    returned = metric.measure(case, **quiet)
    if metric.error:
        return Score(None, error=str(metric.error)[:500])
    value = metric.score if metric.score is not None else returned
    cost = getattr(metric, "evaluation_cost", None)
    return Score(
        value if value is None else float(value),
        reason=str(metric.reason or ("skipped by the metric" if metric.skipped else ""))[:500],
        detail={"judge_cost_usd": float(cost)} if cost else {},
    )


def _judged(metric: Any, case: Any, ask: Ask, row: Mapping[str, Any]) -> Score:
    """One measurement with our model, whose calls are kept."""
    metric = copy.copy(metric)
    metric.model = judge = _judge_class()(ask, row)
    try:
        score = _measured(metric, case)
    except Unjudged as problem:
        calls = bill(ask, *judge.calls)["calls"]
        kept = problem.score.detail["calls"]
        detail = {**problem.score.detail, "calls": [*calls, *(each for each in kept if each not in calls)]}
        return Score(None, problem.score.reason, problem.score.error, detail)
    return Score(score.value, score.reason, score.error, bill(ask, *judge.calls))


@cache
def _judge_class() -> Any:
    from deepeval.models import DeepEvalBaseLLM

    class OurJudge(DeepEvalBaseLLM):  # type: ignore[misc]
        """Any of our models, as DeepEval asks one. One for each measurement: it keeps its calls."""

        def __init__(self, ask: Ask, row: Mapping[str, Any]) -> None:
            self.ask, self.row, self.calls = ask, row, list[Call]()
            super().__init__()

        def load_model(self) -> Any:
            return self

        def get_model_name(self) -> str:
            return self.ask.model

        def generate(self, prompt: Any, schema: Any = None) -> Any:
            form = None if schema is None else schema.model_json_schema()
            request = Request((Message("user", well_formed(str(prompt))),), PARAMS, form)
            found, call = question(self.ask, self.row, request, str if schema is None else lambda text: _read(text, schema))
            self.calls.append(call)
            return found

        async def a_generate(self, prompt: Any, schema: Any = None) -> Any:
            return self.generate(prompt, schema)

    return OurJudge


def _read(text: str, schema: Any) -> Any:
    """The one object of a reply that the schema takes. Raises ValueError where there is none, or there are several."""
    found = []
    for each in objects(text):
        try:
            found.append(schema.model_validate(each))
        except ValueError as problem:
            wrong = " ".join(str(problem).split())
            if not found:
                raise ValueError(wrong[:300]) from None
    if len(found) != 1:
        raise ValueError(f"{len(found)} JSON objects of the form {schema.__name__}")
    return found[0]
