"""``llmops-lab keys``: who may ask the served endpoint, how often and for how much."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from typing import Any

from llmops_lab.api.options import number, whole
from llmops_lab.errors import ExitCode
from llmops_lab.escapes import inert

_EPILOG = """examples:
  llmops-lab keys create alice --rpm 60 --budget 5
  llmops-lab keys list

A key is shown once, when it is made; the ledger keeps its hash. Servers that run take notice within a second."""


def add(commands: Any) -> None:
    """Declare the command."""
    keys = commands.add_parser("keys", help="keys of the served endpoint: create, list, revoke", epilog=_EPILOG)
    actions = keys.add_subparsers(dest="action", required=True, metavar="create|list|revoke")
    create = actions.add_parser("create", help="make a key and print it")
    create.add_argument("name", metavar="NAME", help="whose it is; metrics and spending go by this name")
    create.add_argument("--rpm", type=whole(1), metavar="N", help="requests a minute at most, on each server")
    create.add_argument("--budget", type=number(above=0), metavar="USD", help="what may be spent under it in all")
    actions.add_parser("list", help="every key, its limits and what was spent")
    actions.add_parser("revoke", help="end a key").add_argument("name", metavar="NAME")


def run(options: argparse.Namespace) -> int:
    """Do one of the three."""
    from llmops_lab.flows import keys

    if options.action == "create":
        print(keys.create(options.name, rpm=options.rpm, budget_usd=options.budget))  # not masked: this is the one time
        print("This is the only time that the key is shown. Servers that run ask for keys from now on.", file=sys.stderr)
    elif options.action == "revoke":
        keys.revoke(options.name)
        print(f"{inert(options.name)} is revoked")
    else:
        found = keys.listed()
        for key in found:
            print(_line(key))
        if not found:
            print("there are no keys: whoever is on this machine may ask a server. Type: llmops-lab keys create NAME", file=sys.stderr)
    return int(ExitCode.DONE)


def _line(key: Any) -> str:
    rate = f"{key.rpm} requests a minute" if key.rpm is not None else "no rate limit"
    held = f" ({key.held_usd:.4g} held by calls in flight)" if key.held_usd else ""
    spent = f"{key.spent_usd:.4g}{f' of {key.budget_usd:g}' if key.budget_usd is not None else ''} USD spent{held}"
    state = f"revoked {_day(key.revoked)}" if key.revoked else f"since {_day(key.created)}"
    return f"{inert(key.name)}  {rate}, {spent}, {state}"


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
