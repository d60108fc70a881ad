"""The one background event loop of the process. Nothing that runs on it may touch IPython or a widget."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_lock = threading.Lock()
_running: tuple[int, asyncio.AbstractEventLoop] | None = None


def submit(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine on the background loop; the future may be waited for from any other thread."""
    return asyncio.run_coroutine_threadsafe(work, background_loop())


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop, started in a daemon thread at first use (anew after a fork)."""
    global _running
    with _lock:
        if _running is None or _running[0] != os.getpid():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="llmops_lab-loop", daemon=True).start()
            _running = (os.getpid(), loop)
        return _running[1]
