"""CPU of a job on an empty three-cell notebook, against plain papermill on the same; kernel, guard and all are counted."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.bench.processes import run
from tests.bench.rows import Row, middle, ratio

REPEATS = 5
_JOB = """
import os, sys
if sys.argv[1] == "away":
    os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
from llmops_lab.cli import main
sys.stdout = open(os.devnull, "w")
sys.exit(main(["run", *sys.argv[2:]]))
"""


def measure(*, repeats: int, small: bool) -> list[Row]:
    theirs, told, untold = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        notebook = _notebook(home / "empty.ipynb")
        for round_ in range(-1, 1 if small else repeats):
            plain = run(["-m", "papermill", "--no-progress-bar", notebook, f"{folder}/plain.ipynb"], home).cpu
            with_mlflow, alone = (run(["-c", _JOB, how, notebook, "--out", f"{folder}/out"], home).cpu for how in ("there", "away"))
            if round_ >= 0:
                theirs.append(plain)
                told.append(with_mlflow)
                untold.append(alone)
    return [
        Row(
            "our job against plain papermill on an empty three-cell notebook, CPU, the job told to MLflow (a file) by itself",
            ratio(told, theirs),
            "x",
            at_most=1.1,
            note=f"{middle(told, 's')} / {middle(theirs, 's')}",
        ),
        Row(
            "the same, MLflow told by another process: the outbox keeps the entry",
            ratio(untold, theirs),
            "x",
            at_most=1.1,
            note=f"{middle(untold, 's')} / {middle(theirs, 's')}",
        ),
    ]


def _notebook(path: Path) -> str:
    cells = [
        {"cell_type": "code", "id": f"c{at}", "metadata": {}, "outputs": [], "execution_count": None, "source": str(at)} for at in range(3)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.write_text(json.dumps({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}))
    return str(path)
