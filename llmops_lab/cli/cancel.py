"""``llmops-lab cancel ID``: end a job that waits or runs."""

from __future__ import annotations

import argparse
from typing import Any

from llmops_lab.api.job import job
from llmops_lab.api.options import number
from llmops_lab.errors import ExitCode


def add(commands: Any) -> None:
    """Declare the command."""
    cancel = commands.add_parser("cancel", help="end a job that waits or runs, and all its processes")
    cancel.add_argument("job", metavar="ID", help="its id, as llmops-lab jobs prints it")
    cancel.add_argument("--timeout", type=number(above=0), default=30.0, metavar="S", help="seconds to wait for its end (30)")


def run(options: argparse.Namespace) -> int:
    """Cancel it and wait for its end; returns the exit code: 0 when it has ended, 1 when it still runs."""
    found = job(options.job)
    had_ended = found.seen.has_ended
    found.cancel().wait(options.timeout)
    if had_ended:
        print(f"{found.id} had ended already: {found.state}")
    elif found.seen.has_ended:
        print(f"{found.id}: {found.state}")
    else:
        print(f"{found.id} was asked to end and is still {found.state} after {options.timeout:g} s")
        return int(ExitCode.FAILED)
    return int(ExitCode.DONE)
