"""``llmops-lab audit``: check the audit log, or read it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.errors import ExitCode
from llmops_lab.escapes import inert
from llmops_lab.store import audit
from llmops_lab.store.ledger import open_ledger


def add(commands: Any) -> None:
    """Declare the command."""
    actions = commands.add_parser("audit", help="check the audit log, or read it").add_subparsers(
        dest="action", required=True, metavar="verify|list"
    )
    check = actions.add_parser("verify", help="look for entries that were changed, taken out, put in or cut off; exits with 1 if any were")
    check.add_argument("--json", action="store_true", help="print what was found as JSON")
    read = actions.add_parser("list", help="all entries, oldest first")
    read.add_argument("name", nargs="?", default="", metavar="NAME", help="only those of this model, prompt or bundle")
    read.add_argument("--json", action="store_true", help="print each entry whole, one JSON object a line")


def run(options: argparse.Namespace) -> int:
    """Check or list."""
    if options.action == "list":
        for entry in audit.entries(open_ledger(_settings.load()), name=options.name):
            print(json.dumps(dataclasses.asdict(entry)) if options.json else inert(_line(entry)))
        return int(ExitCode.DONE)
    from llmops_lab.flows.audit import verify

    found, note = verify(_settings.load())
    if options.json:
        print(json.dumps({**dataclasses.asdict(found), "whole": found.whole, "note": note}, indent=1))
    else:
        print(*(inert(fault) for fault in found.faults), sep="\n", end="\n" if found.faults else "")
        print(f"{found.entries:,} entries, {'whole' if found.whole else f'{len(found.faults)} faults'}; the last hash is {found.head}")
        if note:
            print(inert(note), file=sys.stderr)
    return int(ExitCode.DONE if found.whole else ExitCode.FAILED)


def _line(entry: audit.Entry) -> str:
    body = entry.body
    what = f"{entry.name}/{body['version']}" if body.get("version") else entry.name
    alias = f" @{body['alias']}" if body.get("alias") else ""
    reason = f": {body['reason']}" if body.get("reason") else ""
    if entry.kind == "gate":
        reason = f": {'passed' if (body.get('result') or {}).get('passed') else 'failed'}"
    return f"{entry.seq}  {entry.at[:19]}Z  {entry.actor}  {entry.kind} {what}{alias}{reason}"
