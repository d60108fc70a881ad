"""How a running grid shows itself while somebody waits for it: a line in a terminal, a bar in a notebook, nothing in a pipe.

Whoever waits calls ``show`` again and again, and ``close`` once at the end, always in the waiting thread: never in the background
loop's. So a view may touch IPython. It draws ten times a second at most.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from llmops_lab.api.display import duration, money
from llmops_lab.api.shown import kernel_shell
from llmops_lab.errors import BadInput
from llmops_lab.grids.run import Progress

SECONDS_BETWEEN = 0.1
_NOTEBOOK = "llmops_lab.magics._progress"  # found by name, as a plugin is: a handle knows no face


class View(Protocol):
    """Something that shows how a grid stands."""

    def show(self, progress: Progress) -> None:
        """Draw, unless the last drawing is younger than a tenth of a second."""

    def close(self, progress: Progress) -> None:
        """Draw the end, and leave it standing."""


def view_for(progress: Any) -> View | None:
    """The view for ``progress=``: None finds what fits this place, False is none, a function gets each ``Progress``. Raises BadInput."""
    if progress is None:
        return for_here()
    if progress is False:
        return None
    if hasattr(progress, "show") and hasattr(progress, "close"):
        view: View = progress
        return view
    if progress is not True and not callable(progress):
        raise BadInput(f"progress is None (a bar where one can be shown), False (none) or a function, not {progress!r}.")
    return for_here() if progress is True else Called(progress)


def for_here() -> View | None:
    """A bar in a notebook, a line on a terminal, else None. IPython is not imported for it."""
    if threading.current_thread() is not threading.main_thread():
        return None
    if _kernel() is not None:
        view: View = importlib.import_module(_NOTEBOOK).Bar()
        return view
    return Line(sys.stderr) if sys.stderr is not None and sys.stderr.isatty() else None


class Called:
    """A function that gets every ``Progress``, the last one too."""

    def __init__(self, function: Callable[[Progress], object]) -> None:
        self._function = function

    def show(self, progress: Progress) -> None:
        """Call it."""
        self._function(progress)

    def close(self, progress: Progress) -> None:
        """Call it with the end."""
        self._function(progress)


class Line:
    """One line on a terminal, drawn over itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._drawn = stream, 0.0

    def show(self, progress: Progress) -> None:
        """Draw the line over the last one."""
        now = time.monotonic()
        if now - self._drawn >= SECONDS_BETWEEN:
            self._drawn = now
            self._draw(live_text(progress))

    def close(self, progress: Progress) -> None:
        """Draw the end and go to the next line."""
        self._draw(final_text(progress))
        self._stream.write("\n")
        self._stream.flush()

    def _draw(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{text[:width]}\x1b[K")
        self._stream.flush()


def share(progress: Progress) -> float:
    """How much is done, 0 to 1; cells count, and scores where only they are missing."""
    done = progress.ok + progress.failed
    return done / progress.total if progress.total else 1.0


def live_text(progress: Progress) -> str:
    """The line of a running grid, bar included, in plain ASCII."""
    full = int(20 * share(progress))
    parts = [f"[{'#' * full}{'.' * (20 - full)}] {share(progress):4.0%}", _counts(progress)]
    if progress.state != "running":
        parts.append(f"{progress.state}, finishing")
    elif progress.ok + progress.failed == progress.total:
        scores = progress.scored + progress.unscored
        parts.append(f"scoring, {scores:,} scores so far" if scores else "scoring")
    elif progress.eta_s is not None:
        parts.append(f"{duration(progress.eta_s)} left")
    return "  ".join(parts)


def final_text(progress: Progress) -> str:
    """The line that stays when it has ended."""
    further = "; the same again goes on from here" if progress.state in ("cancelled", "unreachable") else ""
    return f"{progress.state}: {_counts(progress)}, {duration(progress.elapsed_s)}{further}"


def _counts(progress: Progress) -> str:
    parts = [f"{progress.ok + progress.failed:,}/{progress.total:,} cells"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.reused:
        parts.append(f"{progress.reused:,} from the ledger")
    if progress.unscored:
        parts.append(f"{progress.unscored:,} unscored")
    if progress.cost_usd:
        parts.append(money(progress.cost_usd))
    return ", ".join(parts)


def _kernel() -> Any:
    return getattr(kernel_shell(), "kernel", None)
