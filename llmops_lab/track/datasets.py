"""MLflow's evaluation datasets: records are merged into one by name, as often as it is tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.track import connect, runs

_A_BATCH = 200


def merge_records(payload: Mapping[str, Any], settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> str:
    """Merge the ``records`` into the dataset called ``dataset`` and return its id; the same payload again changes nothing.

    A record has ``inputs``, and optionally ``expectations``, ``tags`` and ``source`` (JSON-like); MLflow merges those with equal inputs.
    The dataset is made in the settings' experiment (or ``experiment``) when it is missing.

    Raises LabError with the next step, and MLflow's own errors.
    """
    record = Redactor().tree(dict(payload))
    client = connect.client(settings)
    found = client.search_datasets(filter_string=f"name = '{record['dataset']}'", max_results=1)
    on_progress()
    if found:
        ident = found[0].dataset_id
    else:
        experiment = runs.experiment_id(client, record.get("experiment") or settings.experiment)
        ident = client.create_dataset(record["dataset"], experiment_id=experiment, tags={"mlflow.user": runs.author()}).dataset_id
    on_progress()
    lines = [_line(each) for each in record["records"]]
    for start in range(0, len(lines), _A_BATCH):
        # EvaluationDataset.merge_records does the same, but on the process's own tracking URI, and reads the dataset once more.
        client._tracking_client.store.upsert_dataset_records(dataset_id=ident, records=lines[start : start + _A_BATCH])
        on_progress()
    return str(ident)


def _line(record: Mapping[str, Any]) -> dict[str, Any]:
    tags = {str(name): str(value) for name, value in (record.get("tags") or {}).items() if value is not None}
    line: dict[str, Any] = {"inputs": dict(record["inputs"]), "tags": {"mlflow.user": runs.author(), **tags}}
    if record.get("expectations"):
        line["expectations"] = dict(record["expectations"])
    if record.get("source"):
        line["source"] = {"source_type": "CODE", "source_data": dict(record["source"])}
    return line
