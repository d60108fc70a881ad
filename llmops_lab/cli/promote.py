"""``llmops-lab promote``: point an alias at a version of a model, a prompt or a bundle."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from llmops_lab.api.options import whole
from llmops_lab.errors import ExitCode
from llmops_lab.escapes import inert

_EPILOG = """staging and production ask for a passing gate (llmops-lab run gate), and exit with 5 where there is none.
The aliases and what each asks for: [tool.llmops_lab.release] in pyproject.toml, docs/guides/release.md."""


def add(commands: Any) -> None:
    """Declare the command."""
    found = commands.add_parser("promote", help="point an alias at a version of a model, a prompt or a bundle", epilog=_EPILOG)
    found.add_argument("name", metavar="NAME")
    found.add_argument("version", metavar="VERSION")
    found.add_argument("alias", metavar="ALIAS", help="dev, staging or production")
    found.add_argument("--approver", metavar="WHO", help="a second person who agreed, where the settings ask for one")
    found.add_argument("--expect", type=whole(0), metavar="N", help="only if the alias is at version N now (0: at none)")
    found.add_argument("--why", default="", metavar="TEXT", help="kept in the audit log")
    found.add_argument("--json", action="store_true", help="print where the alias is as JSON")


def run(options: argparse.Namespace) -> int:
    """Promote, and say where the alias is."""
    from llmops_lab.api.release import promote

    made = promote(options.name, options.version, options.alias, approver=options.approver, expect=options.expect, why=options.why)
    print(json.dumps(dataclasses.asdict(made), indent=1) if options.json else inert(str(made)))
    return int(ExitCode.DONE)
