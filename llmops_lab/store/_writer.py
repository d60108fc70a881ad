"""One thread that writes. A commit takes along whatever queued up while the last one ran, so waiting costs little."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from llmops_lab.errors import StoreError
from llmops_lab.store._dialect import Dialect, trouble

Done = Callable[[Exception | None], None]
Write = tuple[str, Sequence[tuple[Any, ...]]]


class Writer:
    """Takes groups of rows from any thread; calls back after the commit (or with a StoreError when it failed)."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._queue: queue.SimpleQueue[tuple[Sequence[Write], Done] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()

    def put(self, writes: Sequence[Write], done: Done) -> None:
        """Queue some ``(sql, rows)``; they are committed together, then ``done(None)`` is called in the writer's thread."""
        if self._thread is None:
            with self._start:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="llmops_lab-ledger", daemon=True)
                    self._thread.start()
        self._queue.put((writes, done))

    def write(self, writes: Sequence[Write]) -> None:
        """The same, waiting for the commit. Raises StoreError."""
        finished = threading.Event()
        problem: list[Exception] = []

        def done(error: Exception | None) -> None:
            if error is not None:
                problem.append(error)
            finished.set()

        self.put(writes, done)
        finished.wait()
        if problem:
            raise problem[0]

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        connection = None
        while (item := self._queue.get()) is not None:
            batch = [item]
            while not self._queue.empty() and len(batch) < 1024:
                following = self._queue.get()
                if following is None:
                    self._queue.put(None)
                    break
                batch.append(following)
            error: Exception | None = None
            idle, connection = connection, None
            try:
                connection = self._dialect.connect() if idle is None else self._dialect.renew(idle)
                self._commit(connection, [write for writes, _ in batch for write in writes])
            except StoreError as problem:
                error = problem
            except Exception as problem:  # also a text that the driver refuses: whatever it is, this thread must go on
                error = trouble(self._dialect.place, "written", problem)
            if error is not None and connection is not None:
                connection = self._recover(connection)
            for _, done in batch:
                with suppress(RuntimeError):  # its event loop was closed: nobody waits for the answer any more
                    done(error)
        if connection is not None:
            connection.close()

    def _commit(self, connection: Any, writes: Sequence[Write]) -> None:
        grouped: dict[str, list[tuple[Any, ...]]] = {}
        for sql, rows in writes:
            grouped.setdefault(sql, []).extend(rows)
        connection.execute("BEGIN IMMEDIATE" if self._dialect.name == "sqlite" else "BEGIN")
        cursor = connection.cursor()
        for sql, rows in grouped.items():
            cursor.executemany(self._dialect.sql(sql), rows)
        connection.execute("COMMIT")

    def _recover(self, connection: Any) -> Any:
        try:
            connection.execute("ROLLBACK")
            return connection
        except self._dialect.errors:
            connection.close()
            return None  # the next write connects anew
