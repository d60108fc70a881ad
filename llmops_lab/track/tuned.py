"""A tuning as one MLflow run: recipe, losses by step, digests of what it came from, the adapter as safetensors and its card."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmops_lab.errors import LabError
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings, home_dir
from llmops_lab.track import connect, legal, runs

TUNED_TAG = "llmops_lab.tuned"
KIND_TAG = "llmops_lab.kind"
_SENT = {".safetensors", ".json", ".jinja", ".model", ".txt", ".md"}


def log_tuned(entry: Mapping[str, Any], settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> str:
    """Write one tuning as one MLflow run and return its run id; the same again, whole or half written, is the same run.

    ``entry`` is JSON-able: ``tuned`` (the record of the tuning), ``id``, ``steps`` (step, epoch, loss, validation), ``verdicts``,
    ``leaks``, ``job`` ("" outside of one), ``started`` and ``ended`` (epoch seconds), ``experiment`` and ``folder``, whose files go under
    ``model``. Raises LabError while the folder is gone, and MLflow's own errors.
    """
    record = Redactor().tree({name: value for name, value in entry.items() if name != "folder"})
    folder = Path(entry["folder"])
    if not folder.is_dir():
        raise LabError(f"the tuned model is gone: {folder} does not exist. Train again: the rows and the recipe are in the run of its job.")
    client = connect.client(settings)
    experiment = runs.experiment_id(client, record.get("experiment") or settings.experiment)
    found = client.search_runs([experiment], f"tags.`{TUNED_TAG}` = '{record['id']}'", max_results=1)
    on_progress()
    if found and found[0].info.end_time:
        return str(found[0].info.run_id)
    run = found[0] if found else None
    if run is None:
        name = f"tuned-{record['tuned']['digest'][:8]}"
        run = client.create_run(experiment, start_time=round(record["started"] * 1000), tags=_tags(record), run_name=name)
        on_progress()
    for batch in _batches(record, set(run.data.params)):
        client.log_batch(run.info.run_id, **batch)
        on_progress()
    artifacts = runs.artifacts_of(client, run)
    for path in sorted(each for each in folder.iterdir() if each.is_file() and each.suffix in _SENT):
        artifacts.log_artifact(str(path), "model")
        on_progress()
    with tempfile.TemporaryDirectory(prefix=".sending-", dir=home_dir(settings)) as staged:
        (Path(staged) / "tuned.json").write_text(json.dumps(record, indent=1), "utf-8")
        artifacts.log_artifact(str(Path(staged) / "tuned.json"))
    runs.finish(client, run.info.run_id, "FINISHED", round(record["ended"] * 1000))
    on_progress()
    return str(run.info.run_id)


def _tags(record: Mapping[str, Any]) -> dict[str, str]:
    tuned = record["tuned"]
    tags = {
        "mlflow.user": runs.author(),
        KIND_TAG: "tuning",
        TUNED_TAG: record["id"],
        "llmops_lab.job": record["job"],
        **{f"llmops_lab.digest.{name}": tuned[f"{name}_digest"] for name in ("base", "train")},
        "llmops_lab.digest.model": tuned["digest"],
        **{f"llmops_lab.verdict.{number}": f"{asked}: {verdict}" for number, (asked, verdict) in enumerate(record["verdicts"], 1)},
    }
    return {legal.key(name): legal.cut(str(value), 5000, "tuned.json") for name, value in tags.items() if value}


def _batches(record: Mapping[str, Any], known: set[str]) -> Iterator[dict[str, Any]]:
    from mlflow.entities import Metric, Param

    tuned, ended = record["tuned"], round(record["ended"] * 1000)
    values = {**tuned["recipe"], "base": tuned["base"]}
    metrics = [Metric(name, float(tuned[name]), ended, 0) for name in ("train_rows", "steps", "seconds", "cpu_seconds", "peak_memory")]
    metrics += [
        Metric(name, float(step[key]), ended, int(step["step"]))
        for step in record["steps"]
        for name, key in (("loss", "loss"), ("validation_loss", "validation"))
        if step[key] is not None
    ]
    params = [Param(name, legal.cut(str(value), 1000, "tuned.json")) for name, value in values.items() if name not in known]
    yield {"params": params, "metrics": metrics[:500]}
    for start in range(500, len(metrics), 500):
        yield {"metrics": metrics[start : start + 500]}
