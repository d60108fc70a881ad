"""The processes of a job: all that its kernel started, also what left its process group or lost its parent.

A process belongs to a job when the job's kernel is above it, or shares its session, or when its environment names the job
(``LLMOPS_LAB_JOB``). The last holds for a daemon, too, that cut all other ties. Without ``/proc`` only the kernel's group is known.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "LLMOPS_LAB_JOB"
KEPT = "LLMOPS_LAB_KEPT"
"""In the environment of a process that its job hands over on purpose, a server that it deployed: it goes on when the job has ended."""
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


@contextmanager
def adopting() -> Iterator[frozenset[int] | None]:
    """Inside it this process becomes the parent of whatever its descendants leave behind (Linux; elsewhere nothing happens).

    Gives the children that it had before; None in a thread that is not the main one: there may be other work beside it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    _set_adopting(1)
    try:
        yield frozenset(pid for pid, (parent, _) in _table() if parent == os.getpid())
    finally:
        _set_adopting(0)


def _set_adopting(value: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, value, 0, 0, 0)


def of_job(job: str, kernel: int | None, earlier: frozenset[int] | None = None) -> set[int]:
    """The processes of a job that run now. ``earlier``: what ``adopting`` gave; each later child of this process is the job's then."""
    me = os.getpid()
    table = dict(_table())
    above = {me, *_above(me, table)}
    found = {pid for pid in table if pid not in above and _names(pid, job)}
    if kernel is not None:
        found |= {pid for pid, (_, session) in table.items() if pid == kernel or session == kernel}
    children = {pid for pid, (parent, _) in table.items() if parent == me}
    kept = {pid for pid in table if _is_kept(pid)}
    spared = kept | {pid for pid in children if _is_guard(pid)}
    roots = (found | (set() if earlier is None else children - earlier - spared)) - kept
    while True:
        more = {pid for pid, (parent, _) in table.items() if parent in roots} - roots - kept
        if not more:
            return roots - above - spared
        roots |= more


def kernel_of_then(pid: int | None, then: float) -> int | None:
    """``pid``, unless that number has been given to another process since ``then`` (epoch seconds), as after a restart of the machine."""
    if pid is None or not os.path.isdir("/proc/self"):
        return pid
    boot = next(float(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    born = boot
    with suppress(OSError, IndexError):
        ticks = Path("/proc", str(pid), "stat").read_bytes().rpartition(b")")[2].split()[19]
        born += int(ticks) / os.sysconf("SC_CLK_TCK")
    return pid if born <= then + 2.0 else None


def alive(pids: set[int]) -> set[int]:
    """Those of them that still run."""
    return pids & {pid for pid, _ in _table()}


def end(find: Callable[[], set[int]], *, patience: float = 2.0) -> None:
    """End them all: SIGTERM, and after ``patience`` seconds SIGKILL, until none is found any more."""
    told: set[int] = set()
    deadline = time.monotonic() + patience
    latest = deadline + 5.0
    while (pids := find()) and time.monotonic() < latest:
        late = time.monotonic() > deadline
        for pid in pids if late else pids - told:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        told |= pids
        _collect(pids)
        time.sleep(0.05)


def readable(files: Iterable[int], seconds: float | None) -> set[int]:
    """Wait until one of these files can be read, at most so many seconds; which can. Their numbers may pass the 1024 of ``select``."""
    with selectors.DefaultSelector() as watched:
        for file in files:
            watched.register(file, selectors.EVENT_READ)
        return {key.fd for key, _ in watched.select(seconds)}


def _collect(pids: set[int]) -> None:
    # Adopted children that ended wait for their parent to look; the kernel's own status is its provisioner's to read.
    for pid in pids:
        with suppress(ChildProcessError, OSError):
            os.waitpid(pid, os.WNOHANG)


def _table() -> Iterator[tuple[int, tuple[int, int]]]:
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if name.isdigit():
            with suppress(OSError, IndexError):
                fields = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
                if fields[0] not in b"ZX":
                    yield int(name), (int(fields[1]), int(fields[3]))


def _above(pid: int, table: dict[int, tuple[int, int]]) -> Iterator[int]:
    while pid in table and table[pid][0] > 0:
        pid = table[pid][0]
        yield pid


def _names(pid: int, job: str) -> bool:
    with suppress(OSError):
        return f"{MARK}={job}".encode() in Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
    return False


def _is_kept(pid: int) -> bool:
    with suppress(OSError):
        return any(each.startswith(f"{KEPT}=".encode()) for each in Path("/proc", str(pid), "environ").read_bytes().split(b"\0"))
    return False


def _is_guard(pid: int) -> bool:
    with suppress(OSError):
        return b"/jobs/guard.py" in Path("/proc", str(pid), "cmdline").read_bytes()
    return False


class Stop:
    """A wish that the job ends: who had it first, and a bell for who waits."""

    def __init__(self) -> None:
        self.reason = ""
        self.is_urgent = False
        self._bell: Callable[[], object] = lambda: None

    def ask(self, reason: str) -> None:
        """Ask for the end; asked twice, it is not waited for any more."""
        self.is_urgent = bool(self.reason)
        self.reason = self.reason or reason
        self._bell()

    def ring(self, bell: Callable[[], object]) -> None:
        """Call ``bell`` at every wish, from whatever thread has it; at once when there was one already."""
        self._bell = bell
        if self.reason:
            bell()


@contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP become a wish to stop; in a thread that is not the main one nothing changes. ``nohup`` is heeded."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A shell starts what is put in the background with SIGINT ignored; sent to a job by name, it still means what it says.
    wanted = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else [])]
    before = {number: signal.signal(number, lambda got, _: stop.ask(signal.Signals(got).name)) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
