"""A grid as one MLflow run: written once however often it is tried, and read back.

Only ``MlflowClient`` is used, never the fluent functions: the user's own active run, experiment and random state stay
as they are. A run's terminal status with its end time is written last, so a run that has them is whole.
"""

from __future__ import annotations

import getpass
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, LabError, UnknownName
from llmops_lab.records import nan_as_null
from llmops_lab.redact import Redactor, redact
from llmops_lab.settings import Settings, home_dir
from llmops_lab.track import connect, legal

GRID_TAG = "llmops_lab.grid"
STATE_TAG = "llmops_lab.state"
LINKED_PROMPTS = "mlflow.linkedPrompts"
_STATUS = {
    "done": "FINISHED",
    "decided": "FINISHED",
    "cancelled": "KILLED",
    "budget": "KILLED",
    "unreachable": "FAILED",
    "failed": "FAILED",
}
_PARAM_LIMIT = 1000  # a batch of 100 then stays under MLflow's 1 MB even when every letter is escaped
_TAG_LIMIT = 5000
_A_BATCH = {"params": 100, "tags": 100, "metrics": 500}


def log_grid(entry: Mapping[str, Any], settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> str:
    """Write one grid as one MLflow run and return its run id; the same grid again, whole or half written, is the same run.

    ``entry`` is JSON-able: ``grid`` (hex), ``name``, ``state`` (done, decided, cancelled, budget, unreachable, failed),
    ``started`` and ``ended`` (epoch seconds), ``params``, ``prompts`` (label, name, version, sha256, template), ``models``
    (label, identity, params), ``dataset`` (name, source, digest, rows, columns), ``metrics`` (None and NaN are left out),
    ``tags``, ``summary`` (rows), ``environment``, ``cells_path`` (a Parquet file), optionally ``experiment`` and
    ``figures`` (file name -> text). A later ``ended`` of the same grid (it was resumed) brings its run up to date; params
    keep their first value. ``on_progress`` is called after every answer of MLflow.

    Raises BadInput for a wrong entry, LabError with the next step, and MLflow's own errors.
    """
    cells = Path(entry["cells_path"])
    record = Redactor().tree({name: value for name, value in entry.items() if name != "cells_path"})
    status, ended = _status(record), round(record["ended"] * 1000)
    client = connect.client(settings)
    experiment = experiment_id(client, record.get("experiment") or settings.experiment)
    run = run_of_grid(client, experiment, record["grid"])
    on_progress()
    if run is not None and run.info.status in _STATUS.values() and (run.info.end_time or 0) >= ended:
        return str(run.info.run_id)
    if not cells.is_file():
        raise LabError(
            f"the cells of grid {record['grid']} are gone: {cells} does not exist. Run the grid again: its calls are in the ledger."
        )
    tags = _tags(record)
    if run is None:
        # Without a name MLflow would draw one from the global random state.
        name = legal.cut(record.get("name") or f"grid-{record['grid'][:8]}", 250)
        run = client.create_run(experiment, start_time=round(record["started"] * 1000), tags=tags, run_name=name)
        tags = {}
    for batch in _batches(record, tags, ended, set(run.data.params)):
        client.log_batch(run.info.run_id, **batch)
        on_progress()
    _log_dataset(client, run.info.run_id, record.get("dataset") or {})
    on_progress()
    _log_files(artifacts_of(client, run), record, cells, on_progress)
    finish(client, run.info.run_id, status, ended)
    on_progress()
    return str(run.info.run_id)


def find_run(settings: Settings, run_id: str) -> Any:
    """The MLflow ``Run`` with this id. Raises UnknownName (with the latest grids' ids), LabError when MLflow does not answer."""
    from mlflow.exceptions import MlflowException

    client = _answering(settings)
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise _trouble(settings, error) from error
        known = [run["run_id"] for run in list_runs(settings, 10)]
        raise UnknownName("run", run_id, known, f"These are the latest of {redact(connect.tracking_uri(settings))}.") from error


def load_cells(run_id: str, settings: Settings) -> tuple[Path, dict[str, Any]]:
    """A logged grid's Parquet file, on this machine, and the entry that it was logged with (params, prompts, models, metrics, ...).

    Raises UnknownName for an unknown run, LabError for a run that is no grid or whose files are gone.
    """
    from mlflow.exceptions import MlflowException

    run = find_run(settings, run_id)
    if GRID_TAG not in run.data.tags:
        raise LabError(f"run {run_id} ({run.info.run_name}) is not a grid. List the grids with `%lab runs`.")
    try:
        cells, entry = (_artifact(run, name, settings) for name in ("cells.parquet", "grid.json"))
        cells.stat()
        return cells, json.loads(entry.read_text("utf-8"))
    except (MlflowException, OSError, ValueError) as error:
        raise LabError(f"the files of run {run_id} cannot be read from {redact(run.info.artifact_uri)}: {redact(str(error))}") from error


def list_runs(settings: Settings, limit: int = 20) -> list[dict[str, Any]]:
    """The latest grids of the settings' experiment, newest first: run_id, grid, name, state, status, started, ended, params, metrics.

    Times are epoch seconds; ``ended`` is None while a run is half written. Raises LabError when MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    client = _answering(settings)
    try:
        experiment = client.get_experiment_by_name(settings.experiment)
        if experiment is None:
            return []
        filters = f"tags.`{GRID_TAG}` LIKE '%'"
        found = client.search_runs([experiment.experiment_id], filters, max_results=limit, order_by=["attributes.start_time DESC"])
    except MlflowException as error:
        raise _trouble(settings, error) from error
    return [
        {
            "run_id": run.info.run_id,
            "grid": run.data.tags[GRID_TAG],
            "name": run.info.run_name,
            "state": run.data.tags.get(STATE_TAG),
            "status": run.info.status,
            "started": run.info.start_time / 1000,
            "ended": run.info.end_time / 1000 if run.info.end_time else None,
            "params": run.data.params,
            "metrics": run.data.metrics,
        }
        for run in found
    ]


def experiment_id(client: Any, name: str) -> str:
    """The id of the experiment called ``name``, made when it is missing. Raises LabError when it was deleted in MLflow."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another process was faster
    if experiment.lifecycle_stage != "active":
        raise LabError(f"the MLflow experiment {name!r} was deleted. Restore it in MLflow, or set `experiment` to another name.")
    return str(experiment.experiment_id)


def run_of_grid(client: Any, experiment: str, grid: str) -> Any:
    """The run that carries this grid's tag, or None."""
    if not grid.isalnum():
        raise BadInput(f"a grid's id is made of letters and digits, not {grid!r}.")
    found = client.search_runs([experiment], f"tags.`{GRID_TAG}` = '{grid}'", max_results=1, order_by=["attributes.start_time ASC"])
    return found[0] if found else None


def author() -> str:
    """The name that MLflow shows as the user of what is logged: the login name; MLflow itself leaves it empty."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        return "unknown"


def linked_prompts(prompts: list[Mapping[str, Any]]) -> str:
    """The prompts that have a registry version, in the form in which MLflow itself writes its link; empty for none."""
    links: list[dict[str, str]] = []
    for prompt in prompts:
        link = {"name": str(prompt.get("name") or ""), "version": str(prompt.get("version") or "")}
        if all(link.values()) and link not in links:
            links.append(link)
    while len(json.dumps(links)) > _TAG_LIMIT:  # a cut tag would be no JSON; all prompts stand in grid.json
        links.pop()
    return json.dumps(links) if links else ""


def _artifact(run: Any, name: str, settings: Settings) -> Path:
    uri = run.info.artifact_uri
    if uri.startswith(("/", "file:")):
        from mlflow.utils.file_utils import local_file_uri_to_path

        return Path(local_file_uri_to_path(uri), name)
    target = home_dir(settings) / "loaded" / run.info.run_id
    target.mkdir(parents=True, exist_ok=True)
    return Path(connect.client(settings).download_artifacts(run.info.run_id, name, str(target)))


def _answering(settings: Settings) -> Any:
    if not connect.reachable(settings):
        raise LabError(f"MLflow at {redact(connect.tracking_uri(settings))} does not answer. Start it, or set MLFLOW_TRACKING_URI.")
    return connect.client(settings)


def _trouble(settings: Settings, error: Exception) -> LabError:
    return LabError(f"MLflow at {redact(connect.tracking_uri(settings))} refuses: {redact(str(error))}")


def _status(record: Mapping[str, Any]) -> str:
    if record["state"] not in _STATUS:
        raise BadInput(f"a grid cannot be logged in state {record['state']!r}. Known: {', '.join(_STATUS)}.")
    return _STATUS[record["state"]]


def _tags(record: Mapping[str, Any]) -> dict[str, str]:
    git = (record.get("environment") or {}).get("git") or {}
    dataset = record.get("dataset") or {}
    tags = {legal.key(name): legal.cut(_text(value), _TAG_LIMIT, "grid.json") for name, value in (record.get("tags") or {}).items()}
    tags.setdefault("mlflow.user", author())
    ours = {
        GRID_TAG: record["grid"],
        STATE_TAG: record["state"],
        "llmops_lab.dataset.digest": dataset.get("digest"),
        "mlflow.source.git.commit": git.get("commit"),
        "mlflow.source.git.branch": git.get("branch"),
        "mlflow.source.git.dirty": git.get("dirty"),
        LINKED_PROMPTS: linked_prompts(record.get("prompts") or []) or None,
    }
    return tags | {name: _text(value) for name, value in ours.items() if value is not None}


def _batches(record: Mapping[str, Any], tags: Mapping[str, str], ended: int, known_params: set[str]) -> Iterator[dict[str, Any]]:
    from mlflow.entities import Metric, Param, RunTag

    params = [Param(name, value) for name, value in _params(record).items() if name not in known_params]
    values = {name: float(value) for name, value in (record.get("metrics") or {}).items() if value is not None and math.isfinite(value)}
    names = legal.keys(values)
    metrics = [Metric(names[name], value, ended, 0) for name, value in values.items()]
    whole = {"tags": [RunTag(name, value) for name, value in tags.items()], "params": params, "metrics": metrics}
    for number in range(max(math.ceil(len(items) / _A_BATCH[kind]) for kind, items in whole.items())):
        yield {kind: items[number * _A_BATCH[kind] : (number + 1) * _A_BATCH[kind]] for kind, items in whole.items()}


def _params(record: Mapping[str, Any]) -> dict[str, str]:
    values = dict(record.get("params") or {})
    for prompt in record.get("prompts") or []:
        version = f"{prompt['name']}/{prompt['version']} " if prompt.get("version") else ""
        values[f"prompt.{prompt['label']}"] = f"{version}sha256:{prompt.get('sha256', '')}"
    for model in record.get("models") or []:
        values[f"model.{model['label']}"] = f"{model.get('identity', '')} {_text(model['params']) if model.get('params') else ''}".strip()
    names = legal.keys(values)
    return {names[name]: legal.cut(_text(value), _PARAM_LIMIT, "grid.json") for name, value in values.items()}


def _log_dataset(client: Any, run_id: str, dataset: Mapping[str, Any]) -> None:
    if not dataset:
        return
    from mlflow.entities import Dataset, DatasetInput, InputTag

    kind, place = _source(str(dataset.get("source") or ""))
    entity = Dataset(
        name=legal.cut(str(dataset.get("name") or "rows"), 500),
        digest=str(dataset["digest"])[:36],  # all that MLflow has room for; the whole stands in a tag
        source_type=kind,
        source=json.dumps(place),
        profile=json.dumps({"num_rows": dataset.get("rows"), "columns": dataset.get("columns")}),
    )
    client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "eval")])])


def _source(where: str) -> tuple[str, dict[str, Any]]:
    # MLflow's own kinds of dataset source; "code" is its word for rows that a program made.
    if where.startswith(("http://", "https://")):
        return "http", {"url": where}
    return ("local", {"uri": where}) if where else ("code", {"tags": {}})


def artifacts_of(client: Any, run: Any) -> Any:
    """Where the files of a run go."""
    # MlflowClient.log_artifact would read the run again to learn where its files go.
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

    place = add_databricks_profile_info_to_artifact_uri(run.info.artifact_uri, client.tracking_uri)
    return get_artifact_repository(place, tracking_uri=client.tracking_uri)


def _log_files(artifacts: Any, record: Mapping[str, Any], cells: Path, on_progress: Callable[[], object]) -> None:
    environment = record.get("environment") or {}
    texts = {
        "grid.json": _json({name: value for name, value in record.items() if name not in ("environment", "figures")}),
        "summary.json": _json(record.get("summary") or []),
        "environment.json": _json(environment),
        "requirements.txt": "\n".join(environment.get("packages") or []) + "\n",
    }
    texts |= {f"figures/{Path(name).name}": str(text) for name, text in (record.get("figures") or {}).items()}
    with tempfile.TemporaryDirectory(prefix=".sending-", dir=cells.parent) as folder:
        for name, text in texts.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8", errors="backslashreplace")
            artifacts.log_artifact(str(path), "figures" if path.parent.name == "figures" else None)
            on_progress()
        staged = Path(folder, "cells.parquet")  # MLflow takes the name of the artifact from the file
        try:
            os.link(cells, staged)
        except OSError:
            shutil.copyfile(cells, staged)
        artifacts.log_artifact(str(staged))
        on_progress()


def finish(client: Any, run_id: str, status: str, ended: int) -> None:
    """Write a run's terminal status and its end (epoch milliseconds)."""
    from mlflow.entities import RunStatus

    # MlflowClient.set_terminated does the same, but prints the run's address into the cell that happens to run.
    client._tracking_client.store.update_run_info(run_id, RunStatus.from_string(status), ended, None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(nan_as_null(value), ensure_ascii=False)


def _json(value: Any) -> str:
    return json.dumps(nan_as_null(value), indent=1)
