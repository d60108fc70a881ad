"""``llmops-lab rate``: how far a rating queue is, and its ratings as a file."""

from __future__ import annotations

import argparse
from typing import Any

from llmops_lab.api.queue import queue
from llmops_lab.errors import ExitCode
from llmops_lab.escapes import inert
from llmops_lab.redact import redact


def add(commands: Any) -> None:
    """Declare the command."""
    rate = commands.add_parser("rate", help="how far a rating queue is, or its ratings as a file")
    rate.add_argument("queue", metavar="QUEUE", help="the queue's name")
    rate.add_argument("--export", metavar="FILE", help="write the ratings: .csv .tsv .json .jsonl .parquet")


def run(options: argparse.Namespace) -> int:
    """Show the queue, or write its ratings; returns the exit code."""
    found = queue(options.queue)
    said = found.page()[0]
    if options.export:
        said = f"{len(found.ratings()):,} ratings written to {found.export(options.export)}"
    print("\n".join(inert(redact(line)) for line in said.splitlines()))
    return int(ExitCode.DONE)
