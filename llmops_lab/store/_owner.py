"""Who wrote a claim: ``host:pid:start`` of a process, and whether that process still runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process() -> str:
    """The name of this process in the ledger."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start(os.getpid())}"


def is_here(owner: str) -> bool:
    """Whether the process belongs to this host, so that ``is_alive`` is knowledge and no guess."""
    return owner.rsplit(":", 2)[0] == socket.gethostname()


def is_alive(owner: str) -> bool:
    """Whether the process still runs. On another host nobody can tell: taken as alive."""
    host, pid, start = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    return _start(int(pid)) == start != ""


def _start(pid: int) -> str:
    # Field 22 of /proc/PID/stat: two processes with the same number never share it. Field 3 is Z for one that was killed
    # and whose parent has not looked yet: in a container without an init process it stays so for ever.
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self").exists():
        return ""
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "running"
