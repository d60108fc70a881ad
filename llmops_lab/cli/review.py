"""``llmops-lab review``: the page on which people rate a queue, served from this machine without a notebook."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops_lab.api.options import whole
from llmops_lab.api.queue import queue
from llmops_lab.errors import BadInput, ExitCode, MissingExtra, UnknownName
from llmops_lab.escapes import inert

_SERVER = "llmops_lab.server.standalone"  # found by name: it needs Jupyter's server, which a core installation has not
_EPILOG = """The server takes requests from this machine only, and whoever opens a link rates as the name that it was made for.
Ctrl-C ends it. To let people rate from elsewhere, open the same page in a JupyterHub: docs/guides/review-without-kernel.md."""


def add(commands: Any) -> None:
    """Declare the command."""
    review = commands.add_parser("review", help="serve the page on which people rate a queue", epilog=_EPILOG)
    review.add_argument("queue", metavar="QUEUE", help="the queue's name")
    review.add_argument("--rater", action="append", default=[], metavar="NAME", help="a link for this person; more than one is possible")
    review.add_argument("--port", type=whole(1), metavar="N", help="without it, the same one each time where it is free")


def run(options: argparse.Namespace) -> int:
    """Print a link for each rater, and serve until Ctrl-C."""
    if importlib.util.find_spec("jupyter_server") is None:
        raise MissingExtra("jupyter-server", "lab")
    found = queue(options.queue)
    if found.closed:
        raise BadInput(f"the queue {found.name!r} is closed: nothing can be rated. To read it: llmops-lab export {found.name} --html FILE.")
    raters = _raters(found, options.rater)

    def ready(links: Mapping[str, str]) -> None:
        for rater, link in links.items():
            print(f"{inert(rater)}\t{link}", flush=True)
        print("Whoever opens a link rates as that name. Ctrl-C ends it; what was rated is in the ledger.", file=sys.stderr, flush=True)

    importlib.import_module(_SERVER).serve(found.name, raters, Path.cwd(), port=options.port, ready=ready)
    return int(ExitCode.DONE)


def _raters(found: Any, wanted: list[str]) -> list[str]:
    known = found.assigned
    for name in wanted:
        if known is not None and name not in known:
            raise UnknownName("rater of this queue", name, known)
        found.progress(name)  # refuses what is no name
    return list(dict.fromkeys(wanted)) or list(known or [found.rater])
