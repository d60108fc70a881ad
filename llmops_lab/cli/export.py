"""``llmops-lab export``: a grid or a rating queue in one HTML file, to be read without a kernel, a server or a network."""

from __future__ import annotations

import argparse
from typing import Any

from llmops_lab.api.export import ENDINGS, is_page
from llmops_lab.errors import BadInput, ExitCode, UnknownName
from llmops_lab.escapes import inert


def add(commands: Any) -> None:
    """Declare the command."""
    export = commands.add_parser("export", help="write a grid or a rating queue to one HTML file that opens from disk")
    export.add_argument("run", metavar="RUN", help="a grid: its MLflow run id, its own id or its name; or a rating queue's name")
    export.add_argument("--html", required=True, metavar="FILE", help="the file; an open queue is written without names and ratings")


def run(options: argparse.Namespace) -> int:
    """Write the file and print where it lies."""
    if not is_page(options.html):
        raise BadInput(f"--html {options.html}: the file's name ends in {' or '.join(ENDINGS)}.")
    print(inert(str(_handle(options.run).export(options.html))))
    return int(ExitCode.DONE)


def _handle(name: str) -> Any:
    from llmops_lab.api.calls import load
    from llmops_lab.api.queue import queue

    found, known = {}, set()
    for kind, open_it in (("grid", load), ("queue", queue)):
        try:
            found[kind] = open_it(name)
        except UnknownName as error:
            known |= set(error.known)
    if not found:
        raise UnknownName("grid or rating queue", name, known)
    if len(found) > 1:
        raise BadInput(f"{name!r} is a grid and a rating queue. Name the grid by its id, or type: lab.queue({name!r}).export('FILE.html').")
    return next(iter(found.values()))
