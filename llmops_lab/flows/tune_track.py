"""A tuned model is told to MLflow: its card lies beside it, and the run has both."""

from __future__ import annotations

import dataclasses
import os
import time
import uuid
from collections.abc import Sequence
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.flows.deliver import deliver
from llmops_lab.flows.tune import Tuned, as_record
from llmops_lab.redact import Redactor
from llmops_lab.store.ledger import open_ledger
from llmops_lab.training import card
from llmops_lab.training.leaks import Leaks


def keep(tuned: Tuned, *, verdicts: Sequence[tuple[str, Any]] = (), leaks: Sequence[Leaks] = (), note: str = "") -> dict[str, Any]:
    """Write the model card and tell MLflow; returns what the job's result is: the record of the tuning, its verdicts, the run's id.

    ``run_id`` is None while MLflow is away: the run is written as soon as it answers. ``verdicts`` are (what was asked, the verdict).
    """
    settings = _settings.load()
    ledger = open_ledger(settings)
    record = as_record(tuned)
    said = [(asked, str(verdict)) for asked, verdict in verdicts]
    checked = [str(each) for each in leaks]
    path = card.write(tuned.folder, Redactor().tree(record), verdicts=said, leaks=checked, note=note)
    entry = {
        "id": uuid.uuid4().hex,
        "tuned": record,
        "steps": [dataclasses.asdict(each) for each in tuned.trained.steps],
        "verdicts": said,
        "leaks": checked,
        "job": os.environ.get("LLMOPS_LAB_JOB", ""),
        "started": time.time() - tuned.trained.seconds,
        "ended": time.time(),
        "experiment": settings.experiment,
    }
    number = ledger.outbox_add("tuned", {**Redactor().tree(entry), "folder": str(tuned.folder)})
    run_id = deliver(ledger, settings).get(number)
    uri = f"runs:/{run_id}/model" if run_id else None
    return {**record, "run_id": run_id, "model_uri": uri, "card": str(path)}


def card_of(tuned: Tuned) -> str:
    """The text of the model card that ``keep`` wrote."""
    return card.path_of(tuned.folder).read_text("utf-8")
