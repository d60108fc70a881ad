"""The thin seam between SQLite and PostgreSQL: how to connect, and three words of SQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, MissingExtra, StoreError
from llmops_lab.store._schema import TABLES

BUSY_SECONDS = 30.0
# WAL needs shared memory between processes, which these do not give.
_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "afs",
    "9p",
    "fuse.sshfs",
    "fuse.gcsfuse",
    "fuse.s3fs",
    "fuse.rclone",
    "lustre",
    "beegfs",
    "glusterfs",
    "ceph",
)


@dataclass(frozen=True)
class Dialect:
    """One database. ``connect`` gives a DB-API connection that commits by hand; ``sql`` turns ``?`` into its own marks."""

    name: str
    place: str
    connect: Callable[[], Any]
    sql: Callable[[str], str]
    errors: tuple[type[Exception], ...]


def dialect_for(url_or_path: str) -> Dialect:
    """SQLite for a path, PostgreSQL for ``postgresql://`` (needs the ``postgres`` extra). Raises BadInput for other URLs."""
    if url_or_path.startswith(("postgresql://", "postgres://")):
        return _postgres(url_or_path)
    if "://" in url_or_path:
        raise BadInput(
            f"ledger = {url_or_path.partition('://')[0]}://... is not known. Give a folder's path or postgresql://user@host/name."
        )
    path = str(Path(url_or_path).absolute())
    return Dialect("sqlite", path, lambda: _open_sqlite(path), lambda sql: sql, (sqlite3.Error,))


def filesystem_of(path: str, mounts: str | None = None) -> str:
    """The type of the filesystem that holds ``path`` (``ext4``, ``nfs4``, ...), "" where the system does not say.

    ``mounts`` is the text of /proc/mounts; read from there when it is not given.
    """
    if mounts is None:
        source = Path("/proc/mounts")
        mounts = source.read_text("utf-8", "replace") if source.exists() else ""
    best = ("", "")
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, fields[2])
    return best[1]


def journal_mode(path: str, mounts: str | None = None) -> str:
    """``wal`` on a local disk, ``delete`` (a rollback journal) on a network filesystem."""
    return "delete" if filesystem_of(path, mounts).startswith(_NETWORK) else "wal"


def _open_sqlite(path: str) -> sqlite3.Connection:
    # Many processes may meet on an empty file. Turning on WAL ignores the busy timeout, so that step is retried here.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        connection = None
        try:
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            wanted = journal_mode(path)
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != wanted:
                connection.execute(f"PRAGMA journal_mode={wanted}")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA cache_size=-8192")
            return connection
        except sqlite3.OperationalError as error:
            if connection is not None:
                connection.close()
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise StoreError(
                    f"the ledger {path} cannot be opened: {error}. Is the folder writable and has the disk space?", path
                ) from error
            time.sleep(0.02)
        except sqlite3.DatabaseError as error:
            if connection is not None:
                connection.close()
            raise StoreError(
                f"the ledger {path} is not a readable SQLite file: {error}. Put a backup in its place or move it away.", path
            ) from error


def _postgres(url: str) -> Dialect:
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtra("psycopg", "postgres") from error
    place = url.rpartition("@")[2] or url  # without user and password: this text is shown

    def connect() -> Any:
        try:
            return psycopg.connect(url, autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no answer"
            raise StoreError(
                f"the ledger at {place} does not answer: {reason}. Check the server and [tool.llmops_lab] ledger.", place
            ) from error

    @lru_cache(maxsize=256)
    def marks(sql: str) -> str:
        return sql.replace("?", "%s")

    return Dialect("postgresql", place, connect, marks, (psycopg.Error,))


def create_tables(dialect: Dialect, connection: Any) -> None:
    """Make what is missing of the schema; safe when many processes do it at once."""
    words = {"sqlite": ("INTEGER PRIMARY KEY AUTOINCREMENT", "REAL"), "postgresql": ("BIGSERIAL PRIMARY KEY", "DOUBLE PRECISION")}
    serial, real = words[dialect.name]
    if dialect.name == "postgresql":
        connection.execute("BEGIN")
        # CREATE IF NOT EXISTS races in PostgreSQL; the number only has to be the same in every process.
        connection.execute("SELECT pg_advisory_xact_lock(6015210)")
    else:
        connection.execute("BEGIN IMMEDIATE")
    for statement in TABLES:
        connection.execute(statement.format(serial=serial, real=real))
    connection.execute("COMMIT")
