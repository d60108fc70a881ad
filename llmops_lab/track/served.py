"""Served requests as MLflow traces, linked to the release and its prompt versions; and what callers said of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.track import connect, traces

FEEDBACK = "user_feedback"
"""What the assessments that callers make are called in MLflow, which has reserved the plain word."""


def log_served(payload: Mapping[str, Any], settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> str:
    """Write one request as a trace and return its id; the same payload again changes nothing.

    ``payload`` is that of ``traces.log_trace`` with ``release`` (name, version, digest, and of a registered one its kind and prompts),
    ``key`` (the key's name) and ``cache``.
    """
    release = payload["release"]
    known = {"release": release["name"], "release.version": release["version"], "release.digest": release["digest"]}
    known |= {"release.kind": release.get("kind"), "key": payload["key"], "cache": payload["cache"]}
    tags = {f"llmops_lab.{name}": str(value) for name, value in known.items() if value}
    return traces.log_trace({**payload, "tags": tags, "prompts": release.get("prompts", ())}, settings, on_progress=on_progress)


def log_feedback(payload: Mapping[str, Any], settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> str:
    """Write what a caller said of a request on its trace and return the trace's id.

    ``payload``: ``request``, ``by``, ``value`` and ``comment``.
    """
    from mlflow.entities import AssessmentSource, Feedback
    from mlflow.tracing.client import TracingClient

    record = Redactor().tree(dict(payload))
    connect.client(settings)
    store = TracingClient(connect.tracking_uri(settings)).store
    ident = traces.trace_id(str(record["request"]))
    on_progress()
    store.create_assessment(
        Feedback(
            name=FEEDBACK,
            value=record["value"],
            source=AssessmentSource(source_type="HUMAN", source_id=record["by"]),
            trace_id=ident,
            create_time_ms=round(record.get("at", time.time()) * 1000),
            rationale=record["comment"] or None,
        )
    )
    return ident
