"""The reply is Python that parses; it is never run.

Fenced ``python`` blocks are taken out of the prose around them, and each must parse; a reply without a fence is
read as a whole. The grammar is that of the running Python. Limit: a single word is valid Python.
"""

from __future__ import annotations

import ast
import warnings
from typing import Any

from llmops_lab.records import Reply, Score
from llmops_lab.scorers._blocks import blocks
from llmops_lab.scorers._text import CAP

higher_is_better = True

_LANGUAGES = frozenset({"python", "py", "python3", "ipython"})


def score(reply: Reply, target: Any) -> Score:
    """True or False; a reply without code is False, one beyond 100,000 characters unscored."""
    if len(reply.text) > CAP:
        return Score(None, reason=f"longer than {CAP:,} characters; not parsed")
    warnings.filterwarnings("ignore", module="<reply>")  # invalid escapes in the model's code are not the user's
    statements = 0
    for block in blocks(reply.text, _LANGUAGES):
        try:
            statements += len(ast.parse(block.strip("\n"), filename="<reply>").body)
        except SyntaxError as error:
            return Score(False, reason=f"line {error.lineno}: {error.msg}"[:200])
        except ValueError as error:  # NUL, or a lone surrogate
            return Score(False, reason=str(error)[:200])
    return Score(statements > 0, reason="" if statements else "no code in the reply")
