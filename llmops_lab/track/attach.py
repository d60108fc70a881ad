"""Files that belong to a run that MLflow has already: a report, beside the tables that it was made from."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from llmops_lab.redact import redact
from llmops_lab.settings import Settings, home_dir
from llmops_lab.track import connect, runs


def attach(run_id: str, texts: Mapping[str, str], settings: Settings) -> None:
    """Write each text as a file of the run's folder ``report``, masked; one of the same name is replaced. Raises what MLflow raises."""
    client = connect.client(settings)
    artifacts = runs.artifacts_of(client, client.get_run(run_id))
    with tempfile.TemporaryDirectory(prefix=".sending-", dir=home_dir(settings)) as folder:
        for name, text in texts.items():
            staged = Path(folder, name)
            staged.write_text(redact(text), "utf-8", errors="backslashreplace")
            artifacts.log_artifact(str(staged), "report")
