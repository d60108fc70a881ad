"""The thin seam between SQLite and PostgreSQL: how to connect, whether a connection is still good, and three words of SQL."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, MissingExtra, StoreError
from llmops_lab.store._schema import LAST, TABLES

BUSY_SECONDS = 30.0
# WAL needs memory that is shared between processes. These do not give it, or not to all; a rollback journal is only slower.
_NETWORK = (
    *("nfs", "cifs", "smb", "afs", "9p", "lustre", "beegfs", "glusterfs", "ceph", "gpfs", "davfs", "ocfs2", "gfs2", "pvfs2"),
    *("ncpfs", "vboxsf", "prl_fs", "fuse."),
)
_LOCAL_FUSE = ("fuse.fuse-overlayfs",)


@dataclass(frozen=True)
class Dialect:
    """One database. ``connect`` gives a DB-API connection that commits by hand; ``sql`` turns ``?`` into its own marks.

    ``renew`` takes a connection that lay unused: it gives it back, or a new one when the server had hung up, or raises
    StoreError when the file behind it is gone. ``cursor`` reads a long result without holding all of it in memory.
    """

    name: str
    place: str
    connect: Callable[[], Any]
    renew: Callable[[Any], Any]
    cursor: Callable[[Any], Any]
    sql: Callable[[str], str]
    errors: tuple[type[Exception], ...]
    identity: Callable[[], tuple[int, int]] = lambda: (0, 0)
    """Tells a file from another one that has taken its place."""


def dialect_for(url_or_path: str, *, mounts: str | None = None) -> Dialect:
    """SQLite for a path, PostgreSQL for ``postgresql://`` (needs the ``postgres`` extra). Raises BadInput for other URLs.

    ``mounts`` is the text of /proc/mounts; read from there when it is not given.
    """
    if url_or_path.startswith(("postgresql://", "postgres://")):
        return _postgres(url_or_path)
    if "://" in url_or_path:
        raise BadInput(f"ledger = {url_or_path.partition('://')[0]}://... is not known. Give a file's path or postgresql://user@host/name.")
    path = str(Path(url_or_path).absolute())
    return Dialect(
        "sqlite",
        path,
        connect=lambda: _open_sqlite(path, mounts),
        renew=_same_file,
        cursor=sqlite3.Connection.cursor,
        sql=lambda sql: sql,
        errors=(sqlite3.Error,),
        identity=lambda: _identity(path),
    )


def shown(url_or_path: str) -> str:
    """What a person may see of the setting ``ledger``: never a password, not even of a URL that is wrong."""
    scheme, mark, _ = url_or_path.partition("://")
    try:
        return f"{scheme}://{dialect_for(url_or_path).place}" if mark else url_or_path
    except BadInput:
        return f"{scheme}://..."


def trouble(place: str, what: str, error: Exception) -> StoreError:
    """The StoreError for a driver's error: ``what`` (read, written, opened) could not be done, and what to do about it."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    cures = {
        "full|No space": "Make room there and run the same again: what was recorded is safe.",
        "malformed|not a database": "The file is damaged: put a backup in its place, or move it away to begin anew.",
        "locked": f"Another process has held it for {BUSY_SECONDS:.0f} s: let that one end and try again.",
        "readonly|unable to open": "Is its folder there, and may you write to it?",
        "": "What was recorded before is safe; `llmops-lab doctor` looks further.",
    }
    cure = next(text for words, text in cures.items() if re.search(words, reason))
    made = StoreError(f"the ledger {place} cannot be {what}: {reason}. {cure}", place)
    made.__cause__ = error
    return made


def filesystem_of(path: str, mounts: str | None = None) -> str:
    """The type of the filesystem that holds ``path`` (``ext4``, ``nfs4``, ...), "" where the system does not say."""
    if mounts is None:
        source = Path("/proc/mounts")
        mounts = source.read_text("utf-8", "replace") if source.exists() else ""
    real = os.path.realpath(path)
    best = ("", "")
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[1])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, fields[2])
    return best[1]


def journal_mode(path: str, mounts: str | None = None) -> str:
    """``wal`` on a local disk, ``delete`` (a rollback journal) on a network filesystem."""
    kind = filesystem_of(path, mounts)
    return "delete" if kind.startswith(_NETWORK) and kind not in _LOCAL_FUSE else "wal"


class _File(sqlite3.Connection):
    """A connection that remembers which file it opened."""

    file: tuple[int, int] = (0, 0)


def _open_sqlite(path: str, mounts: str | None) -> sqlite3.Connection:
    # Many processes may meet on an empty file. Turning on WAL ignores the busy timeout, so that step is retried here.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        connection = None
        try:
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=_File)
            wanted = journal_mode(path, mounts)
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != wanted:
                connection.execute(f"PRAGMA journal_mode={wanted}")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA cache_size=-8192")
            _make_tables(connection, "SELECT 1 FROM sqlite_master WHERE name = '{}'", "BEGIN IMMEDIATE", _SQLITE_WORDS)
            connection.file = _identity(path)
            return connection
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise trouble(path, "opened", error) from error
            time.sleep(0.02)


def _same_file(connection: _File) -> _File:
    # A deleted file can still be written to, and nobody would ever find what was written.
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    if _identity(path) != connection.file:
        connection.close()
        message = f"the ledger {path} was deleted or replaced while it was in use. Run the same again: it goes on with what lies there now."
        raise StoreError(message, path)
    return connection


def _identity(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _postgres(url: str) -> Dialect:
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtra("psycopg", "postgres") from error
    place, secret = _postgres_place(url)

    def connect() -> Any:
        try:
            connection = psycopg.connect(url, autocommit=True, connect_timeout=10)
            _make_tables(connection, "SELECT to_regclass('{}') WHERE to_regclass('{}') IS NOT NULL", "BEGIN", _POSTGRES_WORDS)
            return connection
        except psycopg.Error as error:
            reason = (str(error).strip() or "no answer").splitlines()[0]
            reason = reason.replace(secret, "[redacted]") if secret else reason
            message = f"the ledger at {place} does not answer: {reason}. Check the server and [tool.llmops_lab] ledger."
            raise StoreError(message, place) from None

    def renew(connection: Any) -> Any:
        # A server hangs up on a notebook that slept for a night; nobody notices before the next question.
        try:
            connection.execute("SELECT 1")
            return connection
        except psycopg.Error:
            connection.close()
            return connect()

    def cursor(connection: Any) -> Any:
        connection.execute("BEGIN")  # a cursor of the server's lives as long as its transaction
        return connection.cursor("llmops_lab")

    @lru_cache(maxsize=256)
    def marks(sql: str) -> str:
        return sql.replace("?", "%s")

    return Dialect("postgresql", place, connect, renew, cursor, marks, (psycopg.Error,))


def _postgres_place(url: str) -> tuple[str, str]:
    """What may be shown of the URL, and its password. A password with characters of its own meaning would end up in the host or name."""
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except Error:
        parts = {"port": "?"}
    host, port, name = parts.get("host", "localhost"), parts.get("port", ""), parts.get("dbname", parts.get("user", ""))
    if "@" in host + name or (not port.replace(",", "").isdigit() and port):
        raise BadInput(
            "the ledger's URL cannot be read. After postgresql:// comes user:password@host:5432/name, with every special character "
            "of the password percent-encoded (urllib.parse.quote does it)."
        )
    return f"{host}{':' + port if port else ''}/{name}", parts.get("password", "")


_SQLITE_WORDS = {"serial": "INTEGER PRIMARY KEY AUTOINCREMENT", "real": "REAL"}
_POSTGRES_WORDS = {"serial": "BIGSERIAL PRIMARY KEY", "real": "DOUBLE PRECISION"}


def _make_tables(connection: Any, there: str, begin: str, words: dict[str, str]) -> None:
    """Make what is missing of the schema, all or nothing; safe when many processes do it at once."""
    if connection.execute(there.format(LAST, LAST)).fetchone():
        return
    connection.execute(begin)
    if words is _POSTGRES_WORDS:
        # CREATE IF NOT EXISTS races in PostgreSQL; the number only has to be the same in every process.
        connection.execute("SELECT pg_advisory_xact_lock(6015210)")
    for statement in TABLES:
        connection.execute(statement.format(**words))
    connection.execute("COMMIT")
