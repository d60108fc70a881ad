"""Any MLflow scorer: ``mlflow:NAME`` with its options, or a scorer object (also a function under ``@scorer``).

It gets ``outputs`` (the reply's text), ``inputs`` (the row's columns) and ``expectations`` (the row's columns, and
the expected value as ``expected_response``). Scorers of traces or whole sessions cannot judge a cell. A rating yes
or no becomes True or False; any other word is an error, since it cannot be averaged. MLflow's telemetry and downloads
are switched off unless the environment says otherwise.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.records import Reply, Score, digest
from llmops_lab.scorers._run import Scorer, versions
from llmops_lab.scorers._text import is_missing, well_formed
from llmops_lab.track.connect import set_defaults

higher_is_better = True
expensive = True

_RATINGS = {"yes": True, "no": False, "true": True, "false": False, "pass": True, "fail": False}


def adapt(what: Any, *, options: Mapping[str, Any]) -> Scorer:
    """A Scorer of a built-in scorer's name and its options, or of a scorer object. Raises UnknownName, or BadInput for what it refuses."""
    set_defaults()
    from mlflow.genai import scorers

    if isinstance(what, str):
        scorer, fingerprint = _made(scorers, what, options)
    elif options:
        raise BadInput(f"the MLflow scorer has its options already; give {', '.join(options)} where it is made.")
    else:
        scorer, fingerprint = what, None
    if not isinstance(scorer, scorers.Scorer):
        raise BadInput(f"{type(scorer).__name__} is no MLflow scorer.")
    parameters = inspect.signature(scorer.__call__).parameters
    trace = parameters.get("trace")
    needs_trace = "trace" in (getattr(scorer, "required_columns", None) or ()) or (trace is not None and trace.default is trace.empty)
    if scorer.is_session_level_scorer or needs_trace:
        raise BadInput(f"the MLflow scorer {scorer.name} judges traces or sessions; a grid's cell is one reply.")

    def apply(reply: Reply, target: Any, row: Mapping[str, Any]) -> Score:
        expectations = dict(row) if is_missing(target) else {**row, "expected_response": target}
        return _score(scorer.run(inputs=dict(row), outputs=well_formed(reply.text), expectations=expectations))

    return Scorer(name=what if isinstance(what, str) else scorer.name, apply=apply, expensive=True, fingerprint=fingerprint)


def _made(scorers: Any, name: str, options: Mapping[str, Any]) -> tuple[Any, str | None]:
    classes: dict[str, Any] = {
        each: found
        for each in dir(scorers)
        if isinstance(found := getattr(scorers, each), type) and issubclass(found, scorers.Scorer) and found is not scorers.Scorer
    }
    if name not in classes:
        raise UnknownName("MLflow scorer", name, classes)
    fields = classes[name].model_fields
    for key in options:
        if key not in fields:  # MLflow would take it and not use it
            raise BadInput(f"the MLflow scorer {name} has no option {key!r}. Options: {', '.join(sorted(fields))}.")
    try:
        scorer = classes[name](**options)
    except Exception as error:
        raise BadInput(f"the scorer mlflow:{name} cannot be made: {error}") from error
    judge = getattr(scorer, "model", None)
    try:
        return scorer, digest({"scorer": name, "options": dict(options), "judge": judge, "versions": versions("llmops-lab", "mlflow")})
    except TypeError:  # an option that is a live object
        return scorer, None


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
