"""What waits in the ledger's outbox is sent to MLflow, by whoever tells MLflow something next."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.flows.export import export
from llmops_lab.flows.link_job import link_job
from llmops_lab.flows.tables import cell_table
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import Ledger
from llmops_lab.track import outbox


def deliver(ledger: Ledger, settings: Settings) -> dict[int, str]:
    """Try once to send all that waits; returns the number of each entry that arrived with its MLflow run or trace.

    A grid that arrived knows its run from then on, whoever sent it. Never raises for trouble with MLflow.
    """
    return {number: remote for number, remote, _ in outbox.deliver(_Box(ledger), settings) if remote}


class _Box:
    """The outbox as a delivery sees it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._grids: dict[int, str] = {}
        self._jobs: dict[int, str] = {}

    def outbox_pending(self) -> list[tuple[int, str, dict[str, Any]]]:
        """All that waits; the table of a grid is there again where its file was deleted."""
        waiting = self._ledger.outbox_pending()
        for number, kind, payload in waiting:
            if kind == "job":
                self._jobs[number] = payload["job"]
            if kind == "grid":
                self._grids[number] = payload["grid"]
                _restore_table(self._ledger, payload["grid"], Path(payload["cells_path"]))
        return waiting

    def outbox_done(self, number: int, remote_id: str) -> None:
        """It arrived."""
        if number in self._jobs:
            link_job(self._ledger, self._jobs[number], remote_id)
        if number in self._grids:
            self._ledger.linked(self._grids[number], remote_id)
        self._ledger.outbox_done(number, remote_id)

    def outbox_failed(self, number: int, error: str) -> None:
        """It goes on waiting."""
        self._ledger.outbox_failed(number, error)


def _restore_table(ledger: Ledger, grid: str, path: Path) -> None:
    record = None if path.is_file() else ledger.grid(grid)
    if record is not None:
        with contextlib.suppress(BadInput, OSError):  # no room: the entry waits on, and its error says that the table is missing
            path.parent.mkdir(parents=True, exist_ok=True)
            export(cell_table(ledger, grid, record["state"]), path)
