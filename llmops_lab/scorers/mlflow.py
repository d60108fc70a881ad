"""Any MLflow scorer: ``mlflow:NAME`` with its options, or a scorer object (also a function under ``@scorer``).

It gets ``outputs`` (the reply's text), ``inputs`` (the row's columns) and ``expectations`` (the row's columns, and
the expected value as ``expected_response``). Scorers of traces or whole sessions cannot judge a cell. A rating yes
or no becomes True or False; any other word is an error, since it cannot be averaged. MLflow's telemetry and downloads
are switched off unless the environment says otherwise.

With ``lab.judge("mlflow:NAME", model=...)`` any of our models judges, with our retries and record of each call; so it does for
``mlflow:make_judge`` with ``name``, ``instructions`` and ``feedback_value_type``. MLflow words the questions itself, without marks around
the text under judgement.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.records import Message, Reply, Request, Score
from llmops_lab.scorers._judge import Ask, Call, Unjudged, bill, fingerprint, kinds, objects, question, totals
from llmops_lab.scorers._run import Scorer, versions
from llmops_lab.scorers._text import is_missing, well_formed
from llmops_lab.track.connect import set_defaults

higher_is_better = True
expensive = True
UNSCORED_TOO = True
PARAMS = {"temperature": 0, "max_tokens": 1024}

_RATINGS = {"yes": True, "no": False, "true": True, "false": False, "pass": True, "fail": False}


_SCHEME = "llmops-lab"
_judging: ContextVar[_Judging | None] = ContextVar("judging", default=None)


def adapt(what: Any, *, options: Mapping[str, Any], ask: Ask | None = None) -> Scorer:
    """A Scorer of a built-in scorer's name and its options, or of a scorer object. ``ask`` judges.

    Raises UnknownName, or BadInput for what it refuses.
    """
    set_defaults()
    if ask is not None:
        _hook()
    from mlflow.genai import scorers

    if isinstance(what, str):
        scorer, mark = _made(scorers, what, options, ask)
    elif options:
        raise BadInput(f"the MLflow scorer has its options already; give {', '.join(options)} where it is made.")
    else:
        scorer, mark = what, None
    if not isinstance(scorer, scorers.Scorer):
        raise BadInput(f"{type(scorer).__name__} is no MLflow scorer.")
    parameters = inspect.signature(scorer.__call__).parameters
    trace = parameters.get("trace")
    needs_trace = "trace" in (getattr(scorer, "required_columns", None) or ()) or (trace is not None and trace.default is trace.empty)
    if scorer.is_session_level_scorer or needs_trace:
        raise BadInput(f"the MLflow scorer {scorer.name} judges traces or sessions; a grid's cell is one reply.")

    def apply(reply: Reply, target: Any, row: Mapping[str, Any]) -> Score:
        expectations = dict(row) if is_missing(target) else {**row, "expected_response": target}
        given = {"inputs": dict(row), "outputs": well_formed(reply.text), "expectations": expectations}
        return _score(scorer.run(**given)) if ask is None else _judged(scorer, given, _Judging(ask, row))

    return Scorer(
        name=what if isinstance(what, str) and what != "make_judge" else scorer.name,
        apply=apply,
        expensive=ask is None,  # else each call is on record, under all that it asked
        fingerprint=mark,
        bounds=None if options.get("feedback_value_type") in (int, float) else (0.0, 1.0),
        plugin="" if ask is None else "mlflow",
        at_once=1 if ask is None else ask.at_once,
        model="" if ask is None else ask.model,
    )


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """The judge's calls, tokens and cost, and its replies that are not what the scorer asked for."""
    return totals(scores)


def _made(scorers: Any, name: str, options: Mapping[str, Any], ask: Ask | None) -> tuple[Any, str | None]:
    if name == "make_judge":
        return _made_judge(options, ask)
    classes = kinds(scorers, scorers.Scorer)
    if name not in classes:
        raise UnknownName("MLflow scorer", name, classes)
    fields = classes[name].model_fields
    for key in options:
        if key not in fields:  # MLflow would take it and not use it
            raise BadInput(f"the MLflow scorer {name} has no option {key!r}. Options: {', '.join(sorted(fields))}.")
    if ask is not None and "model" not in fields:
        raise BadInput(f"the MLflow scorer {name} asks no model. Write it as lab.scorer('mlflow:{name}', ...).")
    try:
        scorer = classes[name](**options) if ask is None else classes[name](**options, model=f"{_SCHEME}:/{ask.model}")
    except Exception as error:
        raise BadInput(f"the scorer mlflow:{name} cannot be made: {error}") from error
    judge = getattr(scorer, "model", None) if ask is None else ask.identity
    return scorer, fingerprint("mlflow", judge, {"scorer": name, "options": dict(options)})


def _score(result: Any) -> Score:
    if isinstance(result, list):
        if len(result) != 1:
            raise TypeError(f"the scorer gave {len(result)} assessments; a column holds one")
        result = result[0]
    if hasattr(result, "feedback"):
        if result.error is not None:
            return Score(None, error=str(result.error.error_message or result.error.error_code)[:500])
        return _valued(result.value, str(result.rationale or "")[:500])
    return _valued(result, "")


def _valued(value: Any, reason: str) -> Score:
    value = getattr(value, "value", value)  # a rating is an enumeration of texts
    if isinstance(value, str):
        if value.lower() not in _RATINGS:
            return Score(None, error=f"the rating {value[:80]!r} is neither yes nor no", reason=reason)
        return Score(_RATINGS[value.lower()], reason=reason)
    return Score(value, reason=reason)


def _made_judge(options: Mapping[str, Any], ask: Ask | None) -> tuple[Any, str | None]:
    from mlflow.genai.judges import make_judge

    given = dict(options) if ask is None else {**options, "model": f"{_SCHEME}:/{ask.model}"}
    try:
        scorer = make_judge(**given)
    except Exception as error:
        raise BadInput(f"the scorer mlflow:make_judge cannot be made: {error}") from error
    told = {key: str(value) if key == "feedback_value_type" else value for key, value in options.items()}
    judge = options.get("model") if ask is None else ask.identity
    return scorer, fingerprint("mlflow", judge, {"scorer": "make_judge", "options": told})


class _Judging:
    """One measurement with our model: it keeps its calls."""

    def __init__(self, ask: Ask, row: Mapping[str, Any]) -> None:
        self.ask, self.row, self.calls = ask, row, list[Call]()
        self.unjudged: Score | None = None

    def asked(self, request: Request, schema: Any) -> Any:
        """The reply's one object that the schema takes."""
        try:
            found, call = question(self.ask, self.row, request, lambda text: _read(text, schema))
        except Unjudged as problem:
            self.unjudged = problem.score
            raise
        self.calls.append(call)
        return found


def _judged(scorer: Any, given: Mapping[str, Any], judging: _Judging) -> Score:
    token = _judging.set(judging)
    try:
        score = _score(scorer.run(**given))
    except Exception:
        if judging.unjudged is None:
            raise
        score = Score(None)
    finally:
        _judging.reset(token)
    calls = bill(judging.ask, *judging.calls)["calls"]
    if judging.unjudged is None:
        return Score(score.value, score.reason, score.error, {"calls": calls})
    lost = judging.unjudged  # MLflow may have put the fault into a feedback: what it was is better known here
    return Score(None, lost.reason, lost.error, {**lost.detail, "calls": [*calls, *lost.detail["calls"]]})


@cache
def _hook() -> None:
    """Let MLflow's judges find our models under the scheme ``llmops-lab:/``; any other model goes MLflow's own way."""
    try:
        from mlflow.entities.assessment import Feedback
        from mlflow.genai.judges.adapters.base_adapter import AdapterInvocationOutput, BaseJudgeAdapter
        from mlflow.genai.judges.adapters.gateway_adapter import _get_default_judge_response_schema
        from mlflow.genai.judges.utils import invocation_utils

        own = invocation_utils.get_adapter
    except (ImportError, AttributeError) as error:
        message = f"this MLflow ({versions('mlflow')['mlflow']}) takes no model of ours as a judge: {error}. Use lab.judge('rubric', ...)."
        raise BadInput(message) from error

    class OurAdapter(BaseJudgeAdapter):  # type: ignore[misc]
        """Asks the model of the measurement that is being made in this thread."""

        @classmethod
        def is_applicable(cls, model_uri: str, prompt: Any) -> bool:
            return model_uri.startswith(f"{_SCHEME}:/")

        def _invoke(self, given: Any) -> Any:
            judging = _judging.get()
            if judging is None:
                raise BadInput("a judge of ours inside MLflow is called as a scorer of this project.")
            schema = given.response_format or _get_default_judge_response_schema()
            texts = [("user", given.prompt)] if isinstance(given.prompt, str) else [(each.role, each.content) for each in given.prompt]
            messages = tuple(Message(role, well_formed(str(text))) for role, text in texts)
            request = Request(messages, {**PARAMS, **(given.inference_params or {})}, schema.model_json_schema())
            found = judging.asked(request, schema)
            return AdapterInvocationOutput(Feedback(name=given.assessment_name, value=found.result, rationale=str(found.rationale)))

    def get_adapter(model_uri: str, prompt: Any) -> Any:
        return OurAdapter() if OurAdapter.is_applicable(model_uri, prompt) else own(model_uri=model_uri, prompt=prompt)

    invocation_utils.get_adapter = get_adapter


def _read(text: str, schema: Any) -> Any:
    """The one object of a reply that the schema takes. Raises ValueError where there is none, or there are several."""
    found = [schema.model_validate(each) for each in objects(text) if "result" in each]
    if len(found) != 1:
        raise ValueError(f"{len(found)} JSON objects with a result")
    return found[0]
