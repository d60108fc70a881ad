"""The one background event loop of the process. Nothing that runs on it may touch IPython or a widget."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from llmops_lab.errors import Cancelled

T = TypeVar("T")
_LOOK_S = 0.2  # between two looks whether it is still wanted
_wanted: ContextVar[Callable[[], bool]] = ContextVar("wanted", default=lambda: True)
_lock = threading.Lock()
_running: tuple[int, asyncio.AbstractEventLoop] | None = None


_INTERVAL = 0.0005
_at_work = 0
_usual = 0.0


@contextmanager
def quick_handover() -> Iterator[None]:
    """While this lasts, Python's threads take turns every half millisecond, not every 5 (``sys.setswitchinterval``, for the process).

    A reply goes from the loop to the ledger's writer and back before its place is free again. At Python's usual interval each
    of the two waited up to 5 ms for the other, a tenth of a short call.
    """
    global _at_work, _usual
    with _lock:
        if not _at_work:
            _usual = sys.getswitchinterval()
            sys.setswitchinterval(min(_usual, _INTERVAL))
        _at_work += 1
    try:
        yield
    finally:
        with _lock:
            _at_work -= 1
            if not _at_work:
                sys.setswitchinterval(_usual)


def submit(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine on the background loop; the future may be waited for from any other thread."""
    return asyncio.run_coroutine_threadsafe(work, background_loop())


@contextmanager
def while_wanted(wanted: Callable[[], bool]) -> Iterator[None]:
    """Inside it, and in threads that run a copy of this context, ``waited`` ends when something is no longer wanted."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def waited(future: Future[T]) -> T:
    """The result of ``submit``. Raises Cancelled when what it is for was cancelled meanwhile; the work itself goes on."""
    wanted = _wanted.get()
    while not wait([future], _LOOK_S).done:
        if not wanted():
            raise Cancelled("cancelled before there was an answer.")
    return future.result()


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop, started in a daemon thread at first use (anew after a fork)."""
    global _running
    with _lock:
        if _running is None or _running[0] != os.getpid():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="llmops_lab-loop", daemon=True).start()
            _running = (os.getpid(), loop)
        return _running[1]
