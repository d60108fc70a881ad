"""Many questions to a judge, side by side, by somebody who waits: an interrupt ends the waiting and sends nothing more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any, TypeVar

from llmops_lab.grids.loop import while_wanted
from llmops_lab.grids.run import Progress

T = TypeVar("T")
Told = Callable[[Progress], None]
_BEAT_S = 0.1


def many(at_once: int, work: Callable[[Any], T], over: Sequence[Any], told: Told | None = None) -> list[T]:
    """What ``work`` makes of each, in their order. ``told`` gets the progress ten times a second, in the thread that waits.

    An interrupt cancels what has not begun, and questions on their way get the same short grace as those of a grid; then it is raised.
    """
    wanted, started = True, time.monotonic()
    threads = ThreadPoolExecutor(max(1, at_once), thread_name_prefix="llmops_lab-judge")
    with while_wanted(lambda: wanted):
        futures = [threads.submit(copy_context().run, work, one) for one in over]
    try:
        while wait(futures, _BEAT_S if told is not None else None).not_done:
            if told is not None:
                told(_progress(sum(future.done() for future in futures), len(futures), started, "running"))
        if told is not None:
            told(_progress(len(futures), len(futures), started, "done"))
    except BaseException:
        wanted = False
        raise
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
    return [future.result() for future in futures]


def _progress(done: int, total: int, started: float, state: str) -> Progress:
    elapsed = time.monotonic() - started
    left = elapsed / done * (total - done) if done else None
    return Progress(total, done, 0, 0, 0, 0, 0.0, elapsed, left, state)
