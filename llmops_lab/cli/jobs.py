"""``llmops-lab jobs``: the newest jobs and how they stand."""

from __future__ import annotations

import argparse
from typing import Any

from llmops_lab.api.job import as_json, jobs
from llmops_lab.errors import ExitCode
from llmops_lab.redact import redact


def add(commands: Any) -> None:
    """Declare the command."""
    listed = commands.add_parser("jobs", help="the newest jobs and how they stand; those whose process has gone get their true end")
    listed.add_argument("--limit", type=_count, default=20, metavar="N", help="how many (20)")
    listed.add_argument("--json", action="store_true", help="print one JSON object a line")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}.")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Print them; returns the exit code."""
    found = jobs(options.limit)
    if options.json:
        for each in found:
            print(redact(as_json(each)))
    else:
        print(redact(repr(found)))
    return int(ExitCode.DONE)
