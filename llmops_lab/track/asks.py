"""A single question as one MLflow trace, in a run that all questions of a session share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.track import connect, legal, runs, traces
from llmops_lab.track.prompts import Registry

SESSION_TAG = "llmops_lab.asks"


def log_ask(payload: Mapping[str, Any], settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> str:
    """Write one question as a trace and return the id of its session's run; the same payload again changes nothing.

    ``payload`` is that of ``traces.log_trace`` with ``asks``, the session's id (letters and digits), and ``run_name``. The run is made by
    the session's first trace. It is FINISHED at any time and its end is the end of its last trace, so a kernel that dies leaves no run
    that seems to go on. A prompt with a name but no version is linked to the version that has its content, where there is one.

    Raises LabError with the next step, and MLflow's own errors.
    """
    record = Redactor().tree(dict(payload))
    client = connect.client(settings)
    experiment = runs.experiment_id(client, record.get("experiment") or settings.experiment)
    run_id, ended = _run_of(client, experiment, record)
    on_progress()
    prompt = dict(record.get("prompt") or {})
    if prompt.get("name") and not prompt.get("version"):
        prompt["version"] = next(iter(Registry(settings).with_hash(prompt["name"], str(prompt.get("sha256")))), None)
        on_progress()
    traces.log_trace({**record, "prompt": prompt, "run_id": run_id}, settings, on_progress=on_progress)
    runs.finish(client, run_id, "FINISHED", max(ended, round(record["ended"] * 1000)))
    on_progress()
    return run_id


def _run_of(client: Any, experiment: str, record: Mapping[str, Any]) -> tuple[str, int]:
    session = str(record["asks"])
    if not session.isalnum():
        raise BadInput(f"a session's id is made of letters and digits, not {session!r}.")
    found = client.search_runs([experiment], f"tags.`{SESSION_TAG}` = '{session}'", max_results=1, order_by=["attributes.start_time ASC"])
    if found:
        return str(found[0].info.run_id), int(found[0].info.end_time or 0)
    tags = {SESSION_TAG: session, "mlflow.user": runs.author()}
    name = legal.cut(str(record.get("run_name") or "asks"), 250)
    run = client.create_run(experiment, start_time=round(record["started"] * 1000), tags=tags, run_name=name)
    return str(run.info.run_id), 0
