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
_ASLEEP_SECONDS = 5.0  # more than passes between two looks, far less than a job may be silent before others take it for dead

Heard = Callable[[dict[str, Any]], object]


class Overtaken(StoreError):
    """Another process has settled the job while this one stood still; the files are that one's now."""


class Teller:
    """Keeps the record of one running job."""

    def __init__(self, ledger: Ledger, folder: Path, file: str, record: JobRecord, on_event: Heard | None) -> None:
        self.record, self.folder, self.file = record, folder, file
        self._ledger, self._on_event = ledger, on_event
        self._lock = threading.RLock()
        self._looked = time.time()
        self._is_lost = False

    def wish(self) -> str:
        """What the ledger wants of the job, as ``store.jobs.wish``. Raises StoreError."""
        began = time.time()  # what was read before a sleep does not count after it
        try:
            wish = jobs.wish(self._ledger, self.record.id)
            self._is_lost = self._is_lost or wish == "lost"
            return wish
        finally:
            self._looked = began

    def confirm(self) -> None:
        """To be called before anything is written. Raises Overtaken when the job is another process's since this one stood still."""
        if not self._is_lost and time.time() - self._looked > _ASLEEP_SECONDS:
            with suppress(StoreError):  # the ledger is away, for the others too
                self.wish()
        if self._is_lost:
            raise Overtaken(f"the job {self.record.id} was settled by another process.", str(self.folder))

    def change(self, kind: str, **changes: Any) -> None:
        """Something about the job is different now. Raises StoreError when it cannot be written."""
        self.confirm()
        with self._lock:
            self.record = self.record.but(heartbeat=now(), **changes)
            write_record(self.folder, self.record, self.file)
        self.say(kind)

    def say(self, kind: str, **more: Any) -> None:
        """Tell whoever listens."""
        if self._on_event is not None:
            self._on_event({"kind": kind, "record": self.record, **more})

    def beat(self) -> None:
        """Say that the job's process lives."""
        self.confirm()
        with self._lock:
            self.record = self.record.but(heartbeat=now())
            with suppress(StoreError):  # a full disk is met, and told, by what writes the notebook
                write_record(self.folder, self.record, self.file)
            jobs.beat(self._ledger, self.record.id, self.record.to_json())


class Pulse(threading.Thread):
    """Beats while the job runs, and passes on the wish to cancel it, or that it is not this process's any more."""

    def __init__(self, teller: Teller, stop: Stop) -> None:
        super().__init__(name="llmops_lab-pulse", daemon=True)
        self._teller, self._wish = teller, stop
        self._over = threading.Event()

    def run(self) -> None:
        """Until ``end``."""
        beaten = time.monotonic()
        while not self._over.wait(_LOOK_SECONDS):
            with suppress(StoreError):  # the ledger may be away for a while; the job goes on, and the end is told to it later
                if not self._wish.reason and (wanted := self._teller.wish()):
                    self._wish.ask("a request to cancel it" if wanted == "cancel" else "another process, which took this one for dead")
                if time.monotonic() - beaten >= BEAT_SECONDS:
                    beaten = time.monotonic()
                    self._teller.beat()

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
