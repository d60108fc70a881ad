"""The reply is SQL that parses; it is never run.

Fenced ``sql`` blocks are taken out of the prose around them, and each must parse; a reply without a fence is read
as a whole. Only statements count: a bare word or expression ("yes", "42") parses in most SQL grammars and is False
here, and so is text of which only the first keyword was understood ("Show me the data").
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.records import Reply, Score
from llmops_lab.scorers._blocks import blocks
from llmops_lab.scorers._text import CAP

higher_is_better = True
PACKAGES = ("sqlglot",)

_LANGUAGES = frozenset({"sql", "sqlite", "postgres", "postgresql", "psql", "mysql", "tsql", "plsql", "bigquery", "snowflake", "duckdb"})
_STATEMENTS = (
    "Query DML DDL Values Drop Alter TruncateTable Set Use Transaction Commit Rollback Pragma Describe Grant Revoke Analyze Copy Cache"
).split()
_parsing: ContextVar[bool] = ContextVar("_parsing", default=False)


def check(*, dialect: str = "") -> None:
    """Raises BadInput for a dialect that sqlglot does not know."""
    import sqlglot

    try:
        sqlglot.Dialect.get_or_raise(dialect)
    except ValueError as error:
        known = sorted(each.value for each in sqlglot.Dialects if each.value)
        raise BadInput(f"the scorer sql: no dialect {dialect!r}. Known: {', '.join(known)}; or empty for all-purpose SQL.") from error


def score(reply: Reply, target: Any, *, dialect: str = "") -> Score:
    """True or False; a reply beyond 100,000 characters is unscored, since parsing its beginning would prove nothing."""
    import sqlglot

    if len(reply.text) > CAP:
        return Score(None, reason=f"longer than {CAP:,} characters; not parsed")
    logging.getLogger("sqlglot").addFilter(_silence)
    token = _parsing.set(True)
    statements = []
    try:
        for block in blocks(reply.text, _LANGUAGES):
            statements += [each for each in sqlglot.parse(block, read=dialect) if each is not None]
    except sqlglot.errors.SqlglotError as error:
        return Score(False, reason=str(error).partition("\n")[0][:200])
    finally:
        _parsing.reset(token)
    if not statements:
        return Score(False, reason="no SQL in the reply")
    kinds = tuple(getattr(sqlglot.exp, name) for name in _STATEMENTS if hasattr(sqlglot.exp, name))
    odd = next((each for each in statements if not isinstance(each, kinds)), None)
    return Score(odd is None, reason=f"{odd.sql()[:100]!r} is no statement" if odd is not None else "")


def _silence(_record: logging.LogRecord) -> bool:
    """A filter: sqlglot warns about each statement that it only half understands; here that is a result, not news."""
    return not _parsing.get()
