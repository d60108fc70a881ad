"""A small process that outlives a killed runner: it waits, and when the runner is gone without a word, it starts who tells the truth.

It is run by its path with ``python -I -S`` and imports nothing but a few modules of the interpreter, so that it costs next to nothing.
Line 1 of its standard input is JSON: ``runner`` (process id and start), ``then`` (a command) and ``say`` (what that one gets on its
standard input). The line ``done`` ends the watch; the end of the input without it, or a runner that is gone, starts the command.
"""

import json
import os
import select
import subprocess
import sys


def start_of(pid: int) -> str:
    """When a process started, as the kernel counts; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return "" if fields[0] in b"ZX" else fields[19].decode()
    except OSError:
        return "" if os.path.isdir("/proc/self") else "?"


def watch() -> None:
    """Wait for the end of the runner."""
    source = sys.stdin.fileno()
    held = b""
    while b"\n" not in held:
        if not (more := os.read(source, 65536)):
            return
        held += more
    first, _, rest = held.partition(b"\n")
    task = json.loads(first)
    pid, start = task["runner"]
    while b"done" not in rest and start_of(pid) == start:
        # A child of the runner may hold the pipe open after the runner's death, so it is also looked for.
        if select.select([source], [], [], 5.0)[0]:
            if not (more := os.read(source, 4096)):
                break
            rest += more
    if b"done" not in rest:
        subprocess.run(task["then"], input=json.dumps(task["say"]).encode(), check=False)  # noqa: S603 - the runner's own words


if __name__ == "__main__":
    os.setsid()
    watch()
