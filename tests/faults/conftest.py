"""What the fault tests share: full or reduced counts, a folder of their own, and a model server that outlives its clients."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FULL = os.environ.get("LLMOPS_LAB_FULL", "") not in ("", "0")


def full(reduced, full):
    """``full`` under ``make faults`` (LLMOPS_LAB_FULL=1), else ``reduced``."""
    return full if FULL else reduced


def environment(home, **changes):
    """The variables of a child process: this checkout, a ledger in ``home``, and no key, store or setting of the person who tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMOPS_LAB_", "MLFLOW_", "OPENAI_"))}
    return kept | {"PYTHONPATH": str(ROOT), "LLMOPS_LAB_HOME": str(home), "OMP_NUM_THREADS": "1"} | changes


class LoggedServer:
    """tests/servers.py as a process of its own. Its log is the judge of what was asked."""

    def __init__(self, log, *options):
        self.log = Path(log)
        command = [sys.executable, str(ROOT / "tests" / "servers.py"), "--log", str(log), *options]
        with open(f"{log}.err", "wb") as errors:  # clients that die in the middle are its daily bread
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
        self.url = self._process.stdout.readline().split()[1]

    def asked(self, offset=0):
        """The texts that were asked since byte ``offset`` of the log, in order, and the offset after them."""
        with open(self.log, "rb") as file:
            file.seek(offset)
            lines = file.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        entries = (json.loads(line) for line in whole)
        return [entry["text"] for entry in entries if entry["event"] == "start"], offset + sum(map(len, whole))

    def settled(self, offset=0, still=0.1):
        """``asked``, once nothing new has come for ``still`` seconds: what a dead client had sent may still be on its way."""
        size = -1
        while size != (size := self.log.stat().st_size):
            time.sleep(still)
        return self.asked(offset)

    def stop(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def mlflow_store(empty_mlflow):
    """Puts an empty MLflow store into a folder: making one takes seconds and is not what these tests are about."""

    def put(folder):
        folder.mkdir(exist_ok=True)
        for name in ("mlflow.db", ".mlflow.db.version"):
            shutil.copy(empty_mlflow / name, folder)

    return put


@pytest.fixture
def logged_server(tmp_path):
    """Makes ``LoggedServer`` objects with the options of the command."""
    with contextlib.ExitStack() as running:

        def make(*options):
            server = LoggedServer(tmp_path / "server.log", *options)
            running.callback(server.stop)
            return server

        yield make


@pytest.fixture
def seeded():
    """A random generator and its seed: a new one each time, LLMOPS_LAB_SEED to see a failure again."""
    seed = int(os.environ.get("LLMOPS_LAB_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"LLMOPS_LAB_SEED={seed}")
    return random.Random(seed), f"LLMOPS_LAB_SEED={seed}"


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.faults)
