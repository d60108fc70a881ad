"""Starting the guard of a job, and telling it that all is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmops_lab.jobs import guard


@contextmanager
def guarded(then: list[str], say: dict[str, Any]) -> Iterator[None]:
    """Inside it a guard waits: should this process be killed, it runs ``then`` with ``say`` as JSON on its standard input."""
    task = {"runner": [os.getpid(), guard.start_of(os.getpid())], "then": then, "say": say}
    # Without site and environment it starts in a few milliseconds. It must not hold this process's output open after its death.
    child = subprocess.Popen(  # noqa: S603 - this interpreter, and a file of this package
        [sys.executable, "-I", "-S", str(Path(guard.__file__))], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    pipe = child.stdin
    assert pipe is not None  # noqa: S101 - for mypy
    try:
        _tell(pipe, json.dumps(task) + "\n")
        yield
    finally:
        _tell(pipe, "done\n")
        with suppress(OSError):
            pipe.close()
        child.wait()


def _tell(pipe: Any, text: str) -> None:
    with suppress(OSError):  # the guard was killed itself; whoever looks at the job next settles it then
        pipe.write(text.encode())
        pipe.flush()
