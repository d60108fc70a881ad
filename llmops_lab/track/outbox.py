"""What waits to be told to MLflow, told once: tried before the call returns, kept when MLflow is away, never told twice.

A delivery waits for MLflow only as long as MLflow moves. Each answer extends the wait; two seconds of silence end it, and
the work goes on in a thread that the interpreter lets finish its current entry before it exits. So a server that is
down or hangs holds nobody up, and one that is merely slow gets everything in the end. Each single request is bounded
by ``MLFLOW_HTTP_REQUEST_TIMEOUT`` (ten seconds unless the user says otherwise) and not repeated: the next delivery
is the repetition, and it finds what the last one had written. The first delivery of a process also imports MLflow.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from llmops_lab.errors import LabError
from llmops_lab.redact import redact
from llmops_lab.settings import Settings, home_dir
from llmops_lab.track import asks, connect, datasets, gates, jobs, reviews, runs, served, traces, tuned

Pending = tuple[int, str, Mapping[str, Any]]
Delivered = tuple[int, str | None, str | None]
KINDS: dict[str, Callable[..., str]] = {
    "grid": runs.log_grid,
    "job": jobs.log_job,
    "trace": traces.log_trace,
    "ask": asks.log_ask,
    "dataset": datasets.merge_records,
    "rating": reviews.log_ratings,
    "review": reviews.log_review,
    "served": served.log_served,
    "served_feedback": served.log_feedback,
    "gate": gates.log_gate,
    "tuned": tuned.log_tuned,
}
_LOCAL_SECONDS = 15.0  # a store in a file is never down, at most locked for a moment by another process
_TOTAL = 5  # a server that moves, but slowly, is waited for this many times longer than a silent one


class Store(Protocol):
    """What the ledger offers. A payload is what was added; ``id`` rises with each addition."""

    def outbox_pending(self) -> Sequence[Pending]:
        """All entries that are not done: (id, kind, payload), oldest first."""

    def outbox_done(self, ident: int, remote_id: str, /) -> object:
        """The entry is in MLflow, under ``remote_id``."""

    def outbox_failed(self, ident: int, error: str, /) -> object:
        """A try failed; the entry stays pending."""


def deliver(store: Store, settings: Settings, *, seconds: float = 2.0) -> list[Delivered]:
    """Try once to send every pending entry, grids before traces. Returns (id, remote id or None, error or None) for each.

    Blocks for ``seconds`` at most when MLflow is down or silent; while a server answers, for five times that. Never
    raises for trouble with MLflow: the entry stays pending with its error. An entry that is still being sent when the wait ends has an
    error that says so; it is confirmed by the next delivery. One process delivers at a time; what another process
    has sent meanwhile is not in the list but in the store.
    """
    waiting = store.outbox_pending()
    if not waiting:
        return []
    started = time.monotonic()
    try:
        if not connect.reachable(settings, min(1.0, seconds / 2)):
            return _all_failed(store, waiting, f"MLflow at {redact(connect.tracking_uri(settings))} does not answer")
        spent = time.monotonic() - started
        connect.client(settings)
        patience = _LOCAL_SECONDS if _is_local(settings) else max(0.1, seconds - spent)
        claim = _claim(home_dir(settings) / ".outbox.lock", patience)
        if claim is None:
            return [(ident, None, "another delivery is still going on; this entry waits in the outbox") for ident, _, _ in waiting]
        delivery = _Delivery(sorted(store.outbox_pending(), key=lambda entry: (entry[1] != "grid", entry[0])), settings, claim)
        delivery.start()
    except Exception as error:  # whatever MLflow, its database or its folder throws: the entry is kept and the user's call goes on
        return _all_failed(store, waiting, _said(error))
    delivery.wait(patience)
    return _settle(store, delivery, settings)


@contextmanager
def paused(settings: Settings, seconds: float = 30.0) -> Iterator[None]:
    """Nothing is delivered meanwhile, by any process of this machine. Raises LabError when a delivery that is going on does not end."""
    claim = _claim(home_dir(settings) / ".outbox.lock", seconds)
    if claim is None:
        raise LabError("entries are being sent to MLflow right now. Wait until that has ended, then try again.")
    with closing(claim):
        yield


class _Delivery(threading.Thread):
    """Sends a batch and lets go of the claim; knows MLflow only, never the store, which may belong to its caller's thread."""

    def __init__(self, batch: Sequence[Pending], settings: Settings, claim: sqlite3.Connection) -> None:
        super().__init__(name="llmops-lab-outbox", daemon=False)
        self.batch, self.results, self.gone = batch, dict[int, tuple[str | None, str | None]](), ""
        self._settings, self._claim, self._moved = settings, claim, time.monotonic()

    def run(self) -> None:
        try:
            for ident, kind, payload in self.batch:
                if not threading.main_thread().is_alive():  # the interpreter is ending; the rest is for the next process
                    return
                self.results[ident] = self._send(kind, payload)
                self._progress()
                error = self.results[ident][1]
                if error and not connect.reachable(self._settings, 1.0):
                    self.gone = error
                    return
        finally:
            self._claim.close()

    def wait(self, silence: float) -> None:
        latest = time.monotonic() + _TOTAL * silence
        while self.is_alive() and (left := min(self._moved + silence, latest) - time.monotonic()) > 0:
            self.join(left)

    def _send(self, kind: str, payload: Mapping[str, Any]) -> tuple[str | None, str | None]:
        if kind not in KINDS:
            return None, f"nobody knows how to send {kind!r}; known: {', '.join(KINDS)}"
        try:
            return KINDS[kind](payload, self._settings, on_progress=self._progress), None
        except Exception as error:  # as in deliver: one entry's trouble is written beside it and stops no other
            return None, _said(error)

    def _progress(self) -> None:
        self._moved = time.monotonic()


def _settle(store: Store, delivery: _Delivery, settings: Settings) -> list[Delivered]:
    sending = delivery.is_alive()
    results = dict(delivery.results)
    told: list[Delivered] = []
    for ident, _, _ in delivery.batch:
        remote, error = results.get(ident, (None, delivery.gone or "MLflow is slow; this entry is still being sent"))
        if remote is not None:
            store.outbox_done(ident, remote)
        elif ident in results or not sending:
            store.outbox_failed(ident, error or "")
        told.append((ident, remote, error))
    _clear(store, [payload for ident, _, payload in delivery.batch if results.get(ident, (None,))[0]], settings)
    return told


def _clear(store: Store, sent: Sequence[Mapping[str, Any]], settings: Settings) -> None:
    # MLflow has its copy now; a file that another entry still needs stays.
    folder = home_dir(settings) / "outbox"
    needed = {payload.get("cells_path") for _, _, payload in store.outbox_pending()}
    for path in {payload["cells_path"] for payload in sent if "cells_path" in payload} - needed:
        if Path(path).parent == folder:
            Path(path).unlink(missing_ok=True)


def _all_failed(store: Store, waiting: Sequence[Pending], error: str) -> list[Delivered]:
    for ident, _, _ in waiting:
        store.outbox_failed(ident, error)
    return [(ident, None, error) for ident, _, _ in waiting]


def _claim(path: Path, seconds: float) -> sqlite3.Connection | None:
    # SQLite's own lock, as in connect: works on every system, and is gone when its process is killed.
    lock = sqlite3.connect(path, timeout=seconds, isolation_level=None, check_same_thread=False)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        if "locked" in str(error):
            return None
        raise
    return lock


def _is_local(settings: Settings) -> bool:
    scheme = urlsplit(connect.tracking_uri(settings)).scheme
    return scheme in ("sqlite", "file") or len(scheme) <= 1  # a path, on Windows with its drive


def _said(error: Exception) -> str:
    return redact(f"{type(error).__name__}: {error}")[:500]
