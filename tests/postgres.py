"""A real PostgreSQL server from Debian's packages: a folder of its own, a free loopback port, a user with a password.

with PostgresServer() as server:         # raises Unavailable, with the reason, where there are no binaries or nobody to run them
    url = server.database()              # a new, empty database
    server.restart()
"""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.local_server import free_port

PASSWORD = "p@ss/w:rd?#5"  # every character of it means something in a URL
QUOTED = "p%40ss%2Fw%3Ard%3F%235"


class Unavailable(Exception):
    """There is no PostgreSQL to start on this machine."""


class PostgresServer:
    def __enter__(self):
        self._bin = _binaries()
        self._as = _account()
        self._folder = Path(tempfile.mkdtemp(prefix="llmops-pg-", dir="/tmp"))  # pytest's own folders are closed to other accounts
        self.port = free_port()
        self._databases = []
        try:
            if self._as:
                shutil.chown(self._folder, self._as["user"], self._as["group"])
            self._make()
            self.start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, name, password=QUOTED):
        return f"postgresql://lab:{password}@127.0.0.1:{self.port}/{name}"

    def database(self):
        """The URL of a new, empty database."""
        import psycopg

        name = f"lab_{secrets.token_hex(4)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        self._databases.append(name)
        return self.url(name)

    def drop_databases(self):
        """Whoever still has a connection loses it."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            while self._databases:
                connection.execute(f"DROP DATABASE {self._databases.pop()} WITH (FORCE)")

    def stop(self):
        """At once, without waiting for anybody: as a crash of its process does."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop", check=False)

    def start(self):
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories= -c fsync=off -c max_connections=60"
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "60", "-l", self._folder / "log", "-o", options, "start")

    def dump(self, url):
        """All of a database as text."""
        done = subprocess.run([self._bin / "pg_dump", url], capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    def restart(self):
        """Ends every connection, as a server does that was updated overnight."""
        self.stop()
        self.start()

    @property
    def _data(self):
        return self._folder / "data"

    def _make(self):
        word = self._folder / "password"
        word.write_text(PASSWORD)
        word.chmod(0o644)
        self._run("initdb", "-D", self._data, "-U", "lab", "--pwfile", word, "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C", "-N")

    def _run(self, program, *arguments, check=True):
        command = [str(self._bin / program), *map(str, arguments)]
        # Its output goes into a file: a server that was started here would hold a pipe open for ever.
        with open(self._folder / f"{program}.log", "ab") as log:
            done = subprocess.run(command, stdout=log, stderr=log, cwd="/", timeout=90, **self._as)
        if check and done.returncode:
            raise RuntimeError((self._folder / f"{program}.log").read_text("utf-8", "replace"))


def _binaries():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]) if path.parts[4].isdigit() else 0)
    if not found:
        raise Unavailable("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    return found[-1].parent


def _account():
    """How to run it: initdb refuses root, so root borrows the account of Debian's package."""
    if os.getuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        raise Unavailable("PostgreSQL does not run as root, and there is no account `postgres` to run it as") from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
