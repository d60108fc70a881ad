"""``llmops-lab serve``: an OpenAI-compatible server for a release or a model."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from typing import Any

from llmops_lab.api.options import whole
from llmops_lab.errors import ExitCode, MissingExtra

_EPILOG = """example:
  llmops-lab serve tiny --port 8000

Ctrl-C or SIGTERM ends it: nothing new is taken in, requests in flight end first."""


def add(commands: Any) -> None:
    """Declare the command."""
    serve = commands.add_parser("serve", help="an OpenAI-compatible server for a release or a model", epilog=_EPILOG)
    serve.add_argument("names", nargs="+", metavar="NAME@ALIAS", help="a release that is followed, or a model such as tiny")
    serve.add_argument("--port", type=whole(0), default=8000, metavar="P", help="the port (8000); 0 is any free one")
    serve.add_argument("--host", default="127.0.0.1", metavar="H", help="the address (127.0.0.1: this machine alone)")


def run(options: argparse.Namespace) -> int:
    """Serve until told to end; 130 when requests were cut off."""
    for package in ("starlette", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package.replace("_", "-"), "serve")
    from llmops_lab.flows.serve import serve

    def ready(url: str) -> None:
        print(url, flush=True)
        print(f"serving {', '.join(options.names)}. Ctrl-C ends it.", file=sys.stderr, flush=True)

    ended = serve(options.names, host=options.host, port=options.port, ready=ready)
    return int(ExitCode.DONE if ended else ExitCode.CANCELLED)
