"""A job as one MLflow run: parameters, digests, the executed notebook, its record and its environment, however it ended."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings, home_dir
from llmops_lab.track import connect, legal, runs

JOB_TAG = "llmops_lab.job"
JOB_VARIABLE = "LLMOPS_LAB_JOB"
"""What a job's kernel finds in its environment: the job's id."""
KIND_TAG = "llmops_lab.kind"
_STATUS = {"succeeded": "FINISHED", "cancelled": "KILLED"}
_MOST_METRICS = 500


def log_job(entry: Mapping[str, Any], settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> str:
    """Write one job as one MLflow run and return its run id; the same job again, whole or half written, is the same run.

    ``entry`` is JSON-able: ``record`` (what run.json holds), ``name``, ``started`` and ``ended`` (epoch seconds), ``experiment``,
    ``environment`` (of ``environment.describe``) and ``notebook`` (paths where the executed notebook may lie; a tag says when it is gone).
    """
    record = Redactor().tree(entry["record"])
    if not str(record["id"]).replace("-", "").isalnum():
        raise BadInput(f"a job's id is made of letters, digits and dashes, not {record['id']!r}.")
    client = connect.client(settings)
    experiment = runs.experiment_id(client, entry.get("experiment") or settings.experiment)
    on_progress()
    query = f"tags.`{JOB_TAG}` = '{record['id']}' and tags.`{KIND_TAG}` = 'job'"
    found = client.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time ASC"])
    on_progress()
    ended = round(entry["ended"] * 1000)
    if found and found[0].info.end_time:
        return str(found[0].info.run_id)
    notebook = _notebook(entry["notebook"], record["id"])
    tags = _tags(record, entry, "" if notebook else "notebook.ipynb")
    run = found[0] if found else None
    if run is None:
        name = legal.cut(entry.get("name") or f"job-{record['id']}", 250)
        run = client.create_run(experiment, start_time=round(entry["started"] * 1000), tags=tags, run_name=name)
    for batch in _batches(record, ended, set(run.data.params)):
        client.log_batch(run.info.run_id, **batch)
        on_progress()
    _log_files(runs.artifacts_of(client, run), entry, record | {"mlflow_run_id": run.info.run_id}, notebook, settings, on_progress)
    runs.finish(client, run.info.run_id, _STATUS.get(record["state"], "FAILED"), ended)
    on_progress()
    return str(run.info.run_id)


def _tags(record: Mapping[str, Any], entry: Mapping[str, Any], missing: str) -> dict[str, str]:
    git = (entry.get("environment") or {}).get("git") or {}
    error = record.get("error") or {}
    tags = {
        "mlflow.user": runs.author(),
        KIND_TAG: "job",
        JOB_TAG: record["id"],
        runs.STATE_TAG: record["state"],
        "llmops_lab.exit_code": record.get("exit_code"),
        "llmops_lab.template": record.get("template"),
        "llmops_lab.error": f"{error['type']}: {error['message']}" if error else None,
        "llmops_lab.attempts": record.get("attempt"),
        "llmops_lab.missing": missing or None,
        "mlflow.source.name": record.get("template"),
        "mlflow.source.git.commit": git.get("commit"),
        "mlflow.source.git.branch": git.get("branch"),
        "mlflow.source.git.dirty": git.get("dirty"),
        **{f"llmops_lab.digest.{name}": value for name, value in _flat("", record.get("digests") or {})},
    }
    return {legal.key(name): legal.cut(_text(value), 5000, "run.json") for name, value in tags.items() if value is not None}


def _batches(record: Mapping[str, Any], ended: int, known: set[str]) -> Iterator[dict[str, Any]]:
    from mlflow.entities import Metric, Param

    values = {**(record.get("parameters") or {}), "kernel": record.get("kernel")}
    names = legal.keys(values)
    params = [Param(names[name], legal.cut(_text(value), 1000, "run.json")) for name, value in values.items() if value is not None]
    params = [each for each in params if each.key not in known]
    numbers: dict[str, Any] = {"cells_done": record.get("cells_done"), "cells_total": record.get("cells_total")}
    numbers |= {f"result.{name}": value for name, value in _flat("", record.get("result") or {}) if _is_number(value)}
    names = legal.keys(numbers)
    metrics = [Metric(names[name], float(value), ended, 0) for name, value in numbers.items() if _is_number(value)][:_MOST_METRICS]
    yield {"params": params[:100], "metrics": metrics}
    for start in range(100, len(params), 100):
        yield {"params": params[start : start + 100]}


def _log_files(
    artifacts: Any,
    entry: Mapping[str, Any],
    record: Mapping[str, Any],
    notebook: str,
    settings: Settings,
    on_progress: Callable[[], object],
) -> None:
    environment = Redactor().tree(entry.get("environment") or {})
    texts = {
        "run.json": json.dumps(record, indent=1),
        "parameters.json": json.dumps(record.get("parameters") or {}, indent=1),
        "environment.json": json.dumps(environment, indent=1),
        "requirements.txt": "\n".join(environment.get("packages") or []) + "\n",
    }
    texts |= {"notebook.ipynb": notebook} if notebook else {}
    with tempfile.TemporaryDirectory(prefix=".sending-", dir=home_dir(settings)) as folder:
        for name, text in texts.items():
            staged = Path(folder, name)
            staged.write_text(text, "utf-8", errors="backslashreplace")
            artifacts.log_artifact(str(staged))
            on_progress()


def _notebook(paths: Sequence[str], job: str) -> str:
    # Another job may have taken the place of this one's output since; a notebook names the job that wrote it.
    for path in paths:
        with suppress(OSError):
            text = Path(path).read_text("utf-8", "backslashreplace")
            if job in text:
                return text
    return ""


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), item)
    elif prefix:
        yield prefix, value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
