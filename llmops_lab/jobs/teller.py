"""Who says how a running job stands: ``run.json``, the ledger's line, whoever listens; and hears there whether it is to be cancelled."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmops_lab.errors import StoreError
from llmops_lab.jobs.process import Stop
from llmops_lab.jobs.record import JobRecord, now, write_record
from llmops_lab.store import jobs
from llmops_lab.store.ledger import Ledger

BEAT_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_ROOM = 1 << 15

Heard = Callable[[dict[str, Any]], object]


class Teller:
    """Keeps the record of one running job."""

    def __init__(self, ledger: Ledger, folder: Path, file: str, record: JobRecord, on_event: Heard | None) -> None:
        self.record, self.folder, self.file = record, folder, file
        self._ledger, self._on_event = ledger, on_event
        self._lock = threading.RLock()

    def change(self, kind: str, **changes: Any) -> None:
        """Something about the job is different now. Raises StoreError when it cannot be written."""
        with self._lock:
            self.record = self.record.but(heartbeat=now(), **changes)
            write_record(self.folder, self.record, self.file)
        self.say(kind)

    def say(self, kind: str, **more: Any) -> None:
        """Tell whoever listens."""
        if self._on_event is not None:
            self._on_event({"kind": kind, "record": self.record, **more})

    def beat(self) -> bool:
        """Say that the job's process lives; whether somebody wants it cancelled."""
        with self._lock:
            self.record = self.record.but(heartbeat=now())
            with suppress(StoreError):  # a full disk is met, and told, by what writes the notebook
                write_record(self.folder, self.record, self.file)
            return jobs.beat(self._ledger, self.record.id, self.record.to_json())


class Pulse(threading.Thread):
    """Beats while the job runs, and passes on the wish to cancel it."""

    def __init__(self, teller: Teller, ledger: Ledger, stop: Stop) -> None:
        super().__init__(name="llmops_lab-pulse", daemon=True)
        self._teller, self._ledger, self._wish = teller, ledger, stop
        self._over = threading.Event()

    def run(self) -> None:
        """Until ``end``."""
        beaten = time.monotonic()
        while not self._over.wait(_LOOK_SECONDS):
            with suppress(StoreError):  # the ledger may be away for a while; the job goes on, and the end is told to it later
                if time.monotonic() - beaten >= BEAT_SECONDS:
                    beaten = time.monotonic()
                    self._teller.beat()
                if not self._wish.reason and jobs.is_cancel_requested(self._ledger, self._teller.record.id):
                    self._wish.ask("llmops-lab cancel")

    def end(self) -> None:
        """Stop beating."""
        self._over.set()
        self.join()


class Room:
    """Space on the disk that is held while a job runs and given back at its end, so that its end can be written when the disk is full."""

    def __init__(self, folder: Path, job: str) -> None:
        self._path = folder / f".{job}.room"
        self._held = 0

    def keep(self, size: int) -> None:
        """Hold enough to write a notebook of ``size`` bytes once more. Raises StoreError; what was held before still is."""
        wanted = (size // _ROOM + 2) * _ROOM
        if wanted <= self._held or not hasattr(os, "posix_fallocate"):
            return
        try:
            number = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(number, 0, wanted)
            finally:
                os.close(number)
        except OSError as error:
            raise StoreError(
                f"{self._path.parent} has no room for a notebook of {size:,} bytes: {error.strerror}.", str(self._path)
            ) from error
        self._held = wanted

    def give_back(self) -> None:
        """Let it go."""
        self._held = 0
        self._path.unlink(missing_ok=True)
