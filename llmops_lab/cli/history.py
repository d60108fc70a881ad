"""``llmops-lab history``: where the aliases of a registered name are and were, who moved them, and what was refused."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from llmops_lab.errors import ExitCode


def add(commands: Any) -> None:
    """Declare the command."""
    found = commands.add_parser("history", help="where a name's aliases are and were, who moved them, and why")
    found.add_argument("name", metavar="NAME", help="a registered model, prompt or bundle")
    found.add_argument("--json", action="store_true", help="print each line as JSON")


def run(options: argparse.Namespace) -> int:
    """Print the history, oldest first."""
    from llmops_lab.api.release import history

    found = history(options.name)
    if options.json:
        print(json.dumps({"kind": found.kind, "now": found.now, "history": [dataclasses.asdict(line) for line in found]}, indent=1))
    else:
        print(found)
    return int(ExitCode.DONE)
