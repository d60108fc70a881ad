"""What the magics have in common when they read their line."""

from __future__ import annotations

import re

from llmops_lab.errors import BadInput

_ASSIGNED = re.compile(r"\s*(\S+)\s*<<(?:\s+|$)")


def assignment(line: str) -> tuple[str, str]:
    """``NAME << rest`` as ``("NAME", "rest")``; without the arrows, ``("", line)``."""
    found = _ASSIGNED.match(line)
    return (found[1], line[found.end() :]) if found else ("", line)


def variable(assigned: str, out: str | None) -> str:
    """The variable that ``NAME <<`` or ``--out NAME`` says, or "". Raises BadInput."""
    if assigned and out and assigned != out:
        raise BadInput(f"{assigned} << and --out {out} name two variables. Leave one of them out.")
    name = assigned or out or ""
    if name and not name.isidentifier():
        raise BadInput(f"{name!r} cannot name a variable. Use letters, digits and _, as in --out answer.")
    return name
