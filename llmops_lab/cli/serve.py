"""``llmops-lab serve``: an OpenAI-compatible server for releases and models."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from typing import Any

from llmops_lab.api.options import whole
from llmops_lab.errors import ExitCode, MissingExtra
from llmops_lab.escapes import inert

_EPILOG = """examples:
  llmops-lab serve support-bot@production --port 8000
  llmops-lab serve tiny

A request's "model" is one of the names. A release follows its alias: the new version is loaded, then it takes over.
Ctrl-C or SIGTERM ends the server: nothing new is taken in, requests in flight end first."""


def add(commands: Any) -> None:
    """Declare the command."""
    serve = commands.add_parser("serve", help="an OpenAI-compatible server for releases and models", epilog=_EPILOG)
    serve.add_argument("names", nargs="+", metavar="NAME@ALIAS", help="a release, one version (NAME/3), or a model such as tiny")
    serve.add_argument("--port", type=whole(0), default=8000, metavar="P", help="the port (8000); 0 is any free one")
    serve.add_argument("--host", default="127.0.0.1", metavar="H", help="the address (127.0.0.1: this machine alone)")
    serve.add_argument("--trace", type=_share, metavar="S", help="share of the requests that are traced in MLflow (setting trace_sample)")


def run(options: argparse.Namespace) -> int:
    """Serve until told to end; 130 when requests were cut off."""
    for package in ("starlette", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package.replace("_", "-"), "serve")
    from llmops_lab.flows.serve import serve

    def ready(url: str, guarded: bool) -> None:
        print(url, flush=True)
        keys = "a key is asked for" if guarded else "no keys: this machine alone may ask (llmops-lab keys create NAME)"
        print(f"serving {inert(', '.join(options.names))}; {keys}. Ctrl-C ends it.", file=sys.stderr, flush=True)

    ended = serve(options.names, host=options.host, port=options.port, share=options.trace, ready=ready)
    return int(ExitCode.DONE if ended else ExitCode.CANCELLED)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a share from 0 to 1, not {text!r}.")
    return value
