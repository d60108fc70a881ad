"""``llmops-lab`` as a person or a pipeline runs it: a process of its own, in a folder of its own."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out, parse_constant=_no_constant)


def _no_constant(name):
    raise AssertionError(f"{name} is not JSON")


class Place:
    """A working directory with a ledger below it."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "home"

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def environment(self, **more):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "LLMOPS_LAB_", "OPENAI_"))}
        return {**clean, "LLMOPS_LAB_HOME": str(self.home), "OMP_NUM_THREADS": "1", **more}

    def start(self, *words, stderr=subprocess.PIPE, **more):
        """The running process."""
        command = [sys.executable, "-m", "llmops_lab.cli", *map(str, words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.environment(**more), stdin=pipe, stdout=pipe, stderr=stderr, text=True)

    def run(self, *words, stdin="", timeout=120, **more):
        """Run a command to its end."""
        process = self.start(*words, **more)
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Done(process.returncode, out, err)

    def count(self, table):
        """Rows of a table of the ledger; 0 when there is no ledger yet."""
        if not (self.home / "lab.db").exists():
            return 0
        with contextlib.closing(sqlite3.connect(self.home / "lab.db", timeout=30)) as ledger:
            (made,) = ledger.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            return ledger.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] if made else 0
