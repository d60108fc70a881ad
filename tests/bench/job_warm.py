"""CPU of a job submitted to a running service, over plain ``papermill`` on the same empty three-cell notebook; all processes counted."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.processes import run, script
from tests.bench.rows import Row, middle, ratio
from tests.jobs.queues import notebook

REPEATS = 3
_PAPERMILL = "import sys; from papermill.__main__ import papermill; papermill([*sys.argv[1:], '--no-progress-bar'])"


def measure(*, repeats: int, small: bool) -> list[Row]:
    theirs, ours, waits = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "pyproject.toml").write_text("")
        path = notebook(home / "three.ipynb", "1 + 1", "print('two')", "3")
        for _ in range(repeats):
            theirs.append(run(["-c", _PAPERMILL, path, str(home / "out.ipynb")], home).cpu)
            told = script("warm_jobs", path, home, 1 if small else 5, home=home).told
            ours.append(told["cpu"])
            waits.append(told["wall"])
    note = f"ours {middle(ours, 's')}, papermill {middle(theirs, 's')}; a job took {middle(waits, 's')}"
    return [Row("job submitted to a running service, CPU over papermill", ratio(ours, theirs), "x", at_most=0.3, note=note)]
