"""Notebooks to run, and a project of its own with its service, for tests of the queue."""

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.waiting import until


def notebook(path, *cells, parameters=""):
    """A notebook of these cells; the first one declares the parameters where there are any."""
    sources = [parameters, *cells] if parameters else list(cells)
    blank = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    made = [{**blank, "id": f"c{at}", "source": each} for at, each in enumerate(sources)]
    if parameters:
        made[0]["metadata"] = {"tags": ["parameters"]}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.write_text(json.dumps({"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}))
    return str(path)


def services(home):
    """Process numbers of the services of this home."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                mine = f"LLMOPS_LAB_HOME={home}".encode() in (entry / "environ").read_bytes().split(b"\0")
                if mine and b"llmops_lab.flows.job_service" in words and b"--nursery" not in words:
                    found.append(int(entry.name))
    return found


@contextlib.contextmanager
def project(folder, empty_mlflow):
    """A project in this folder, with a ledger of its own; its service ends with it."""
    home = folder / "home"
    shutil.copytree(empty_mlflow, home)
    (folder / "pyproject.toml").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LLMOPS_LAB_HOME", str(home))
        patch.delenv("LLMOPS_LAB_LEDGER", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder
    for pid in services(home):
        os.kill(pid, signal.SIGTERM)
    until(lambda: not services(home), 10)
