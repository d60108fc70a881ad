"""``llmops-lab rollback``: move an alias back to the version that it had before."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from llmops_lab.errors import ExitCode
from llmops_lab.escapes import inert


def add(commands: Any) -> None:
    """Declare the command."""
    found = commands.add_parser("rollback", help="move an alias back to the version that it had before")
    found.add_argument("name", metavar="NAME")
    found.add_argument("alias", metavar="ALIAS")
    found.add_argument("--why", default="", metavar="TEXT", help="kept in the audit log")
    found.add_argument("--json", action="store_true", help="print where the alias is as JSON")


def run(options: argparse.Namespace) -> int:
    """Roll back, and say where the alias is."""
    from llmops_lab.api.release import rollback

    made = rollback(options.name, options.alias, why=options.why)
    print(json.dumps(dataclasses.asdict(made), indent=1) if options.json else inert(str(made)))
    return int(ExitCode.DONE)
