"""A report is kept twice: in the folder of the job that made it, and with the grid's run in MLflow."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from llmops_lab.flows.settle_job import KEPT, kept_by, side_folder
from llmops_lab.jobs.record import write_whole
from llmops_lab.redact import redact
from llmops_lab.settings import Settings
from llmops_lab.store import jobs
from llmops_lab.store.jobs import JobRow
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track.attach import attach


def keep_report(texts: Mapping[str, str], run_id: str | None, settings: Settings) -> tuple[list[str], str]:
    """Write each text under its name. Returns the paths in the job's folder (none outside a job), and what kept MLflow from having it."""
    row = _row(settings)
    folder = Path(row.folder) if row else None
    if row:
        told = side_folder(settings, row.id) / KEPT
        write_whole(told, json.dumps(sorted({*kept_by(settings, row.id), *texts})))
    kept = []
    for name, text in texts.items() if folder else ():
        write_whole(Path(str(folder), name), redact(text))
        kept.append(str(Path(str(folder), name)))
    if run_id is None:
        return kept, "MLflow has no run of this grid yet"
    try:
        attach(run_id, texts, settings)
    except Exception as error:  # MLflow's own, of many kinds; a report that it did not get must not undo what was measured
        return kept, f"MLflow did not take it: {redact(str(error)).splitlines()[0]:.200}"
    return kept, ""


def _row(settings: Settings) -> JobRow | None:
    job = os.environ.get("LLMOPS_LAB_JOB", "")
    row = jobs.get(open_ledger(settings), job) if job else None
    return row if row and Path(row.folder).is_dir() else None
