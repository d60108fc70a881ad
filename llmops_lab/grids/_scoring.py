"""Scoring beside the calls: one thread that takes replies when they are on disk and writes their scores."""

from __future__ import annotations

import asyncio
import dataclasses
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from llmops_lab.errors import LabError
from llmops_lab.grids.decide import StopRule
from llmops_lab.grids.loop import while_wanted
from llmops_lab.grids.plan import Plan
from llmops_lab.grids.vote import Finished, Heard, Votes
from llmops_lab.records import Reply, Score, digest
from llmops_lab.store.ledger import Ledger

_LINGER_S = 0.05
"""So long replies are collected before they are scored: a commit of many scores costs hardly more than one of a few."""
_BATCH = 1024


class Judge(Protocol):
    """A scorer: never raises; ``fingerprint`` None means that a stored score must not be reused."""

    @property
    def name(self) -> str: ...
    @property
    def expensive(self) -> bool: ...
    @property
    def fingerprint(self) -> str | None: ...
    @property
    def at_once(self) -> int: ...

    def __call__(self, reply: Reply, target: Any, row: Mapping[str, Any]) -> Score: ...


class Run(Protocol):
    """What scoring needs of the pass that it belongs to."""

    plan: Plan
    ledger: Ledger
    grid: str
    state: str
    scored: int
    unscored: int
    redact: Callable[[Any], Any]
    loop: asyncio.AbstractEventLoop | None
    rule: StopRule | None

    def rule_add(self, cell: int, value: float | None) -> None:
        """Tell the stop rule about a finished cell."""


class Scoring:
    """One thread that scores replies after they are on disk. A slow scorer delays no call, a broken one loses no reply."""

    def __init__(self, run: Run, judges: Sequence[Judge], expected: str | None) -> None:
        self._run, self._judges, self._expected = run, judges, expected
        self._queue: queue.SimpleQueue[Finished | None] = queue.SimpleQueue()
        self._votes = Votes(run.plan)
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._problem: Exception | None = None
        self._at_once = max((judge.at_once for judge in judges), default=1)
        self._threads = ThreadPoolExecutor(self._at_once, thread_name_prefix="llmops_lab-judge")  # starts none before it is needed
        self._most = _BATCH if self._at_once == 1 else 8 * self._at_once  # what a model judges is committed and shown as it comes
        self._reusable = [judge for judge in judges if judge.expensive and judge.fingerprint]

    def start(self) -> None:
        """Begin to take replies."""
        if self._judges:
            self._thread = threading.Thread(target=self._work, name="llmops_lab-scoring", daemon=True)
            self._thread.start()

    def add(self, cell: int, reply: Reply) -> None:
        """Queue one reply."""
        if self._judges:
            self._queue.put((cell, reply))

    def missing(self, cell: int) -> None:
        """A cell failed: it has nothing to score, but a vote may have waited for it."""
        if self._judges:
            self._queue.put((cell, None))

    def add_recorded(self, cells: Mapping[int, int]) -> None:
        """Replies that the ledger already has, ``number -> cell``; read a chunk at a time."""
        for number, outcome in self._run.ledger.outcomes(list(cells)):
            cell = cells[number]
            if outcome.reply is not None:
                self.add(cell, outcome.reply)

    def finish(self) -> None:
        """Wait until everything is scored and on disk. Raises StoreError."""
        self.close()
        if self._problem is not None:
            raise self._problem

    def close(self) -> None:
        """Score what is queued and end the thread."""
        if self._thread is not None:
            self._closing.set()
            self._queue.put(None)
            self._thread.join()
            self._thread = None
            self._threads.shutdown()

    def _work(self) -> None:
        ended = False
        while not ended:
            batch = [self._queue.get()]
            if self._run.rule is None and self._queue.qsize() < self._most:
                self._closing.wait(_LINGER_S)
            while not self._queue.empty() and len(batch) < self._most:
                batch.append(self._queue.get())
            ended = None in batch
            cells = [item for item in batch if item is not None]
            heard = list(self._votes.read(cells))
            if ended:
                heard += self._votes.open()
            if heard and self._problem is None:
                try:
                    self._score(heard)
                except LabError as error:
                    self._problem = error
                except Exception as error:
                    self._problem = LabError(f"the scores could not be taken down: {type(error).__name__}: {error}")

    def _score(self, heard: Sequence[Heard]) -> None:
        run = self._run
        stored = self._stored([each.cell for each in heard])
        waiting: list[tuple[tuple[int, str, str, str | None], Score | Future[Score]]] = []
        for each in heard:
            row, target = self._row(each.cell)
            key = run.plan.key(each.cell)
            for judge in self._judges:
                mark = _mark(judge, target) if each.share is None and each.reply else None  # a vote's score is not the reply's own
                score: Score | Future[Score] | None = stored.get((key, mark)) if stored and mark else None
                if score is None and judge.at_once > 1:
                    score = self._threads.submit(self._judged, judge, each, target, row)
                score = self._judged(judge, each, target, row) if score is None else score
                waiting.append(((each.cell, key, judge.name, mark), score))
        found = [(*where, each.result() if isinstance(each, Future) else each) for where, each in waiting]
        run.ledger.write(run.ledger.scores(run.grid, found))
        run.scored += sum(score.value is not None for *_, score in found)
        run.unscored += sum(score.value is None for *_, score in found)
        self._tell_rule(found)

    def _row(self, cell: int) -> tuple[Mapping[str, Any], Any]:
        # Scorers see a row as it would be stored, as they do the reply: a secret in both is no difference between them.
        row: Mapping[str, Any] = self._run.redact(dict(self._run.plan.rows.items[self._run.plan.place(cell).row]))
        return row, row.get(self._expected) if self._expected else None

    def _judged(self, judge: Judge, heard: Heard, target: Any, row: Mapping[str, Any]) -> Score:
        if heard.reply is None:
            return Score(None, reason="the vote is open: not all repeats of this row were answered")
        if judge.at_once > 1 and self._run.state == "cancelled":
            return Score(None, reason="the grid was cancelled before this was judged; resume() has it judged")
        try:
            with while_wanted(lambda: self._run.state != "cancelled"):
                score = judge(heard.reply, target, row)
        except BaseException as error:  # an interrupt that a scorer makes up must not end the thread that scores
            score = Score(None, error=f"{type(error).__name__}: {error}")
        if heard.share is not None:
            score = dataclasses.replace(score, detail={**score.detail, "vote": heard.reply.text, "share": heard.share})
        return _redacted_score(score, self._run.redact)

    def _tell_rule(self, found: Sequence[tuple[int, str, str, str | None, Score]]) -> None:
        run = self._run
        if run.loop is None or run.rule is None:
            return
        for cell, _, name, _, score in found:
            if name == self._judges[0].name:
                run.loop.call_soon_threadsafe(run.rule_add, cell, None if score.value is None else float(score.value))

    def _stored(self, cells: Sequence[int]) -> Mapping[tuple[str, str | None], Score]:
        if not self._reusable:
            return {}
        marks = []
        for cell in cells:
            _, target = self._row(cell)
            marks += [(self._run.plan.key(cell), mark) for judge in self._reusable if (mark := _mark(judge, target))]
        return {(key, mark): score for (key, mark), score in self._run.ledger.stored_scores(marks).items()}


def _mark(judge: Judge, target: Any) -> str | None:
    # What a stored score stands for: the scorer with its options, and the target that it compared with.
    return f"{judge.fingerprint}:{digest(repr(target))[:32]}" if judge.fingerprint else None


def _redacted_score(score: Score, redact: Callable[[Any], Any]) -> Score:
    if not (score.reason or score.error or score.detail):
        return score
    detail = redact(dict(score.detail)) if score.detail else score.detail
    return dataclasses.replace(score, reason=redact(score.reason), error=redact(score.error), detail=detail)
