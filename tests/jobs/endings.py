"""Jobs as processes of their own, and all the places where their end is told."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from tests.jobs.queues import notebook

NOBODY = "http://127.0.0.1:9"  # an MLflow that does not answer

# What the kernel's ports say of themselves to whoever connects: ZeroMQ's greeting names NULL (plain text) or CURVE from byte 12 on.
GREETED = """
import json, socket
from ipykernel.connect import get_connection_file
about = json.load(open(get_connection_file()))
for port in ("shell_port", "iopub_port", "stdin_port", "control_port"):
    with socket.create_connection((about["ip"], about[port]), 10) as line, line.makefile("rb") as answer:
        line.sendall(bytes([255, *[0] * 8, 127, 3, 0]))
        print(answer.read(32)[12:].rstrip(bytes(1)).decode())
"""


class Job:
    """``llmops-lab run`` on a notebook of these cells, in a process of its own."""

    def __init__(self, place, name, *cells, options=(), command=None, before=None, tags=None, **environment):
        self.place, self.out = place, place / name
        path = notebook(place / f"{name}.ipynb", *cells)
        if tags:
            body = json.loads(Path(path).read_text())
            for index, tag in tags.items():
                body["cells"][index]["metadata"]["tags"] = [tag]
            Path(path).write_text(json.dumps(body))
        line = command or [sys.executable, "-m", "llmops_lab.cli", "run", path, "--out", str(self.out), "--json", *options]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("LLMOPS_LAB_", "MLFLOW_"))}
        kept |= {"LLMOPS_LAB_HOME": str(place / "home"), "MLFLOW_TRACKING_URI": NOBODY, "OMP_NUM_THREADS": "1"} | environment
        with open(place / f"{name}.err", "wb") as errors:
            self.process = subprocess.Popen(line, cwd=place, env=kept, stdout=subprocess.DEVNULL, stderr=errors, preexec_fn=before)

    @property
    def record(self):
        with contextlib.suppress(OSError):
            return json.loads((self.out / "run.json").read_text())
        return {"state": "", "cell": None, "id": ""}

    @property
    def notebook(self):
        return json.loads((self.out / "notebook.ipynb").read_text())

    def begun(self, cell, text="", seconds=60):
        """Wait until this cell runs, and the notebook shows ``text`` in it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if self.record["cell"] == cell and (not text or text in json.dumps(self.notebook["cells"][cell]["outputs"])):
                return self
            time.sleep(0.1)
        raise AssertionError(f"cell {cell} did not begin: {self.record} {self.errors}")

    @property
    def errors(self):
        return (self.place / f"{self.out.name}.err").read_text()

    def signal(self, number):
        self.process.send_signal(number)
        return self

    def code(self, seconds=90):
        try:
            return self.process.wait(seconds)
        finally:
            self.process.kill()

    def ended(self, seconds=30):
        """Wait until ``run.json`` tells an end, whoever writes it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.record["state"] in ("", "queued", "running"):
            time.sleep(0.2)
        return self.record

    def ledger(self):
        with contextlib.closing(sqlite3.connect(self.place / "home" / "lab.db", timeout=30)) as ledger:
            state, record = ledger.execute("SELECT state, record FROM jobs WHERE id = ?", (self.record["id"],)).fetchone()
        return state, json.loads(record)

    def processes(self):
        """What still runs of it."""
        return of_job(self.record["id"])


def of_job(job):
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"LLMOPS_LAB_JOB={job}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" "))
    return found


def gone(marker, seconds=10):
    """Whether no process has this word in its command line any more, within a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(marker.encode() in line for line in _commands()):
            return True
        time.sleep(0.1)
    return False


def _commands():
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and b"Z" not in (entry / "stat").read_bytes().rpartition(b")")[2].split()[:1]:
                yield (entry / "cmdline").read_bytes()


def told(job, state, exit_code, done, statuses):
    """The end of a job is told alike in ``run.json``, the ledger and the notebook, and nothing of it runs any more."""
    record, book = job.record, job.notebook
    said, about = job.ledger(), book["metadata"]["llmops_lab"]["job"]
    assert (record["state"], record["exit_code"], record["cells_done"]) == (state, exit_code, done), record
    assert said[0] == state and {**said[1], "mlflow_run_id": None} == {**record, "mlflow_run_id": None}
    assert (about["state"], about["exit_code"], about["id"]) == (state, exit_code, record["id"])
    assert [cell["metadata"]["papermill"]["status"] for cell in book["cells"]] == statuses
    assert book["metadata"]["papermill"]["exception"] is (state != "succeeded")
    assert (record["error"] is None) == (state == "succeeded")
    assert job.processes() == []
