"""One prompt call as an MLflow trace, written at once and under an id of our own making.

MLflow's tracing exports in the background and only warns about what it loses, and draws its ids from a random state
that ``random.seed`` resets. Here the id is made from the payload's id, and every write is waited for: a trace is either
stored or an error is raised, and writing it again changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from llmops_lab.escapes import storable
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.track import connect, legal, runs

ID_TAG = "llmops_lab.trace"
_PREVIEW, _TAG_LIMIT, _METADATA_LIMIT = 1000, 4000, 250


def trace_id(payload_id: str) -> str:
    """The trace id that a payload's id gets; known before anything is sent."""
    return "tr-" + hashlib.sha256(f"llmops_lab trace {payload_id}".encode()).hexdigest()[:32]


def log_trace(payload: Mapping[str, Any], settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> str:
    """Write one prompt call as a trace of one span and return the trace id; the same payload again is the same trace.

    ``payload`` is JSON-able: ``id``, ``name``, ``started`` and ``ended`` (epoch seconds), ``inputs`` (list of messages),
    ``params``, ``output`` (text or None), ``finish_reason``, ``model``, ``usage`` (input_tokens, output_tokens), ``cost_usd``
    (None when no price is known: MLflow's own guess is then kept out), ``ttft_s``, ``status`` ("ok" or "failed"), ``error``
    (kind of fault), ``message``, ``prompt`` (name, version, sha256) or ``prompts`` (several), ``tags``, ``session`` (a thread's name),
    ``experiment``, and ``run_id`` or ``grid``, whose run the trace then belongs to. All but the first five may be missing.

    Raises LabError with the next step, and MLflow's own errors.
    """
    from mlflow.tracing.client import TracingClient

    record = Redactor().tree(dict(payload))
    client = connect.client(settings)
    experiment = runs.experiment_id(client, record.get("experiment") or settings.experiment)
    run_id = record.get("run_id") or _run_of(client, experiment, record.get("grid"))
    on_progress()
    store = TracingClient(connect.tracking_uri(settings)).store
    store.start_trace(_info(record, experiment, run_id))
    on_progress()
    store.log_spans(experiment, [_span(record)])
    on_progress()
    _link_prompt(store, record)
    return trace_id(str(record["id"]))


def _run_of(client: Any, experiment: str, grid: str | None) -> str | None:
    run = runs.run_of_grid(client, experiment, grid) if grid else None
    return str(run.info.run_id) if run is not None else None


def _info(record: Mapping[str, Any], experiment: str, run_id: str | None) -> Any:
    from mlflow.entities.trace_info import TraceInfo
    from mlflow.entities.trace_location import TraceLocation
    from mlflow.entities.trace_state import TraceState

    usage, cost = _usage(record), _cost(record)
    request, response = _last_text(record), record.get("output") or record.get("message") or ""
    metadata = {
        "mlflow.trace_schema.version": "3",
        "mlflow.user": runs.author(),
        "mlflow.traceInputs": legal.cut(request, _METADATA_LIMIT),
        "mlflow.traceOutputs": legal.cut(response, _METADATA_LIMIT),
        "mlflow.trace.tokenUsage": json.dumps(usage) if usage else "",
        "mlflow.trace.cost": json.dumps(cost) if cost else "",
        "mlflow.trace.session": legal.cut(str(record.get("session") or ""), _METADATA_LIMIT),
        "mlflow.sourceRun": run_id or "",
    }
    return TraceInfo(
        trace_id=trace_id(str(record["id"])),
        trace_location=TraceLocation.from_experiment_id(experiment),
        request_time=round(record["started"] * 1000),
        execution_duration=max(0, round((record["ended"] - record["started"]) * 1000)),
        state=TraceState.OK if _succeeded(record) else TraceState.ERROR,
        request_preview=legal.cut(request, _PREVIEW),
        response_preview=legal.cut(response, _PREVIEW),
        client_request_id=str(record["id"]),
        trace_metadata={name: value for name, value in metadata.items() if value},
        tags=_tags(record),
    )


def _tags(record: Mapping[str, Any]) -> dict[str, str]:
    prompt = record.get("prompt") or {}
    ours = {
        "mlflow.traceName": record["name"],
        ID_TAG: str(record["id"]),
        runs.GRID_TAG: record.get("grid"),
        "llmops_lab.model": record.get("model"),
        "llmops_lab.error": record.get("error"),
        "llmops_lab.prompt.sha256": prompt.get("sha256"),
        runs.LINKED_PROMPTS: runs.linked_prompts(record.get("prompts") or [prompt]),
    }
    theirs = {legal.key(str(name)): str(value) for name, value in (record.get("tags") or {}).items()}
    return {name: legal.cut(str(value), _TAG_LIMIT) for name, value in (theirs | ours).items() if value}


def _span(record: Mapping[str, Any]) -> Any:
    from mlflow.entities import Span

    identity = trace_id(str(record["id"])).removeprefix("tr-")
    started, ended = (round(record[name] * 1e9) for name in ("started", "ended"))
    return Span.from_dict(
        {
            "name": record["name"],
            "trace_id": f"tr-{identity}",
            "span_id": identity[:16],
            "parent_span_id": None,
            "start_time_unix_nano": started,
            "end_time_unix_nano": max(started, ended),
            "attributes": {name: json.dumps(value) for name, value in _attributes(record).items() if value is not None},
            "status": {
                "code": "STATUS_CODE_OK" if _succeeded(record) else "STATUS_CODE_ERROR",
                "message": "" if _succeeded(record) else storable(f"{record.get('error') or 'failed'}: {record.get('message') or ''}"),
            },
        }
    )


def _attributes(record: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"role": "assistant", "content": record.get("output")}
    choice = {"index": 0, "message": answer, "finish_reason": record.get("finish_reason")}
    return {
        "mlflow.traceRequestId": trace_id(str(record["id"])),
        "mlflow.spanType": "CHAT_MODEL",
        "mlflow.message.format": "openai",  # MLflow then shows a conversation instead of JSON
        "mlflow.spanInputs": {"messages": record["inputs"], **(record.get("params") or {})},
        "mlflow.spanOutputs": {"choices": [choice]} if record.get("output") is not None else None,
        # MLflow prices a named model itself where no cost is given, also one that runs on the user's own machine.
        "mlflow.llm.model" if _cost(record) else "llmops_lab.model": record.get("model"),
        "mlflow.chat.tokenUsage": _usage(record),
        "mlflow.llm.cost": _cost(record),
        "llmops_lab.ttft_s": record.get("ttft_s"),
        "llmops_lab.error": record.get("error") or None,
    }


def _succeeded(record: Mapping[str, Any]) -> bool:
    return bool(record.get("status", "ok") == "ok")


def _usage(record: Mapping[str, Any]) -> dict[str, int] | None:
    usage = record.get("usage") or {}
    known = {name: int(usage[name]) for name in ("input_tokens", "output_tokens") if usage.get(name) is not None}
    if len(known) == 2:
        known["total_tokens"] = sum(known.values())
    return known or None


def _cost(record: Mapping[str, Any]) -> dict[str, float] | None:
    cost = record.get("cost_usd")
    return {"total_cost": float(cost)} if cost is not None else None


def _last_text(record: Mapping[str, Any]) -> str:
    content = record["inputs"][-1].get("content") if record["inputs"] else ""
    return content if isinstance(content, str) else json.dumps(content)


def _link_prompt(store: Any, record: Mapping[str, Any]) -> None:
    # A release has several prompts, a question one.
    prompts = record.get("prompts") or [record.get("prompt") or {}]
    known = [prompt for prompt in prompts if prompt.get("name") and prompt.get("version")]
    if not known:
        return
    from mlflow.entities.model_registry import PromptVersion

    links = [PromptVersion(name=prompt["name"], version=int(prompt["version"]), template="") for prompt in known]
    store.link_prompts_to_trace(trace_id(str(record["id"])), links)
