"""What a gate found, on the MLflow runs of the grids that it rests on: a tag that can be searched, and the whole record as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmops_lab.errors import LabError
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.track import connect, runs

GATE_TAG = "llmops_lab.gate"


def log_gate(payload: Mapping[str, Any], settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> str:
    """Write ``payload['gate']`` onto the run of each of ``payload['grids']``; returns the first run's id. The same again changes nothing.

    Raises LabError while a grid's own run is not there yet (it waits in the outbox too), and MLflow's own errors.
    """
    record = Redactor().tree(dict(payload["gate"]))
    client = connect.client(settings)
    experiment = runs.experiment_id(client, payload.get("experiment") or settings.experiment)
    found = []
    for grid in payload["grids"]:
        run = runs.run_of_grid(client, experiment, grid)
        on_progress()
        if run is None:
            raise LabError(f"the run of grid {grid} is not in MLflow yet; the gate is told when it is")
        found.append(str(run.info.run_id))
    for run_id in found:
        client.log_dict(run_id, record, "gate.json")
        client.set_tag(run_id, GATE_TAG, "passed" if record["passed"] else "failed")
        client.set_tag(run_id, f"{GATE_TAG}.sha256", record["sha256"])
        on_progress()
    return found[0]
