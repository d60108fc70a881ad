"""However a job ends, its notebook, ``run.json``, the ledger, MLflow and the exit code say the same, and none of its processes is left.

All jobs of this file start at once and share one project; MLflow is away while they run, and is told of all of them in the end.
"""

import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from llmops_lab.flows.deliver import deliver
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track import connect
from tests.jobs.endings import Job, gone, told
from tests.waiting import until

pytestmark = pytest.mark.faults
OK, FAILED, PENDING = "completed", "failed", "pending"
# A grandchild that has left its session and its parent, and says nothing: what a job must not leave behind.
DAEMON = """
import subprocess, sys, time
inner = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', {mark!r}])"
subprocess.Popen(["setsid", sys.executable, "-c", inner])
for number in range(600):
    print("line", number, flush=True)
    time.sleep(0.3)
"""


def _small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_mlflow):
    folder = tmp_path_factory.mktemp("jobs")
    shutil.copytree(empty_mlflow, folder / "home")
    (folder / "pyproject.toml").write_text("")
    return folder


@pytest.fixture(scope="module")
def jobs(place):
    """The jobs, each brought to its end in its own way."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9))"
    full = "import time\nfor number in range(60): print('x' * 100_000, flush=True); time.sleep(0.1)"
    mark = f"mark-{os.getpid()}"
    made = {
        "sigterm": Job(place, "sigterm", "1", DAEMON.format(mark=f"{mark}-term"), "2"),
        "sigkill": Job(place, "sigkill", "1", DAEMON.format(mark=f"{mark}-kill"), "2"),
    }
    made["sigterm"].begun(1, "line")
    made["sigkill"].begun(1, "line")
    made["sigterm"].signal(signal.SIGTERM)
    made["sigkill"].signal(signal.SIGKILL)
    made["sigkill"].at = time.monotonic()
    made |= {
        "sigint": Job(place, "sigint", "1", "import time; print('here', flush=True); time.sleep(600)", "2"),
        "timeout": Job(place, "timeout", "1", DAEMON.format(mark=f"{mark}-time"), "2", options=("--timeout", "20")),
        "error": Job(place, "error", "1", "1 / 0", "2"),
    }
    made["sigkill"].record_at_death = made["sigkill"].ended()
    made["sigint"].begun(1, "here").signal(signal.SIGINT)
    made |= {
        "exit 0": Job(place, "exit0", "1", "import sys; sys.exit(0)", "2"),
        "exit 3": Job(place, "exit3", "1", "import sys; sys.exit(3)", "2"),
        # What is printed in the very moment of a SIGKILL may not have left the kernel.
        "dead": Job(place, "dead", "1", "import os, time; print('last words', flush=True); time.sleep(1); os.kill(os.getpid(), 9)", "2"),
    }
    for name in ("error", "timeout", "exit 0", "exit 3", "dead"):
        made[name].process.wait(90)
    made |= {
        "memory": Job(place, "memory", limit, "x = bytearray(8 * 10**9)", "2"),
        "gate": Job(place, "gate", "from llmops_lab.errors import GateFailed", "raise GateFailed('it is worse')", "2"),
        "full": Job(place, "full", "print('first')", full, "2", before=_small_files),
    }
    for job in made.values():
        job.exit = job.code()
    made["mark"] = mark
    return made


ENDS = {
    "error": ("failed", 1, 1, [OK, FAILED, PENDING], 1),
    "exit 0": ("succeeded", 0, 2, [OK, OK, PENDING], 0),
    "exit 3": ("failed", 1, 1, [OK, FAILED, PENDING], 1),
    "dead": ("dead_kernel", 138, 1, [OK, FAILED, PENDING], 138),
    "memory": ("out_of_memory", 137, 1, [OK, FAILED, PENDING], 137),
    "timeout": ("timeout", 124, 1, [OK, FAILED, PENDING], 124),
    "sigint": ("cancelled", 130, 1, [OK, FAILED, PENDING], 130),
    "sigterm": ("cancelled", 130, 1, [OK, FAILED, PENDING], 130),
    "sigkill": ("failed", 137, 1, [OK, FAILED, PENDING], -9),
    "gate": ("gate_failed", 5, 1, [OK, FAILED, PENDING], 5),
    "full": ("failed", 1, 1, [OK, FAILED, PENDING], 1),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_end_is_told_alike_everywhere(jobs, name):
    state, code, done, statuses, exit_code = ENDS[name]
    assert jobs[name].exit == exit_code, jobs[name].errors
    told(jobs[name], state, code, done, statuses)


def test_a_failed_cell_names_its_error(jobs):
    assert jobs["error"].record["error"] == {"type": "ZeroDivisionError", "message": "division by zero", "cell": 1}
    assert "SIGKILL" in jobs["dead"].record["error"]["message"]
    outputs = jobs["dead"].notebook["cells"][1]["outputs"]
    assert [each["output_type"] for each in outputs] == ["stream", "error"] and "last words" in outputs[0]["text"][0]


@pytest.mark.parametrize("how", ["term", "kill", "time"])
def test_a_daemon_that_cut_all_ties_ends_with_the_job(jobs, how):
    assert gone(f"{jobs['mark']}-{how}")


def test_a_killed_runner_is_told_by_its_guard(jobs):
    record = jobs["sigkill"].record_at_death
    assert (record["state"], record["error"]["type"]) == ("failed", "Killed")


def test_a_full_disk_leaves_the_last_good_notebook(jobs):
    assert jobs["full"].record["error"]["type"] == "StoreError"
    assert jobs["full"].notebook["cells"][0]["outputs"][0]["text"] == ["first\n"]
    assert not list(jobs["full"].out.glob(".*")), "drafts are taken away"


def test_mlflow_is_told_of_every_end_once_it_is_back(jobs, place, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(place)
    settings = Settings(home=str(place / "home"))
    ledger = open_ledger(settings)
    assert all(jobs[name].record["mlflow_run_id"] is None for name in ENDS)
    deliver(ledger, settings)
    assert not ledger.outbox_pending()
    client = connect.client(settings)
    for name, (state, code, *_) in ENDS.items():
        record = jobs[name].record
        run = client.get_run(record["mlflow_run_id"])
        assert run.info.status == {"succeeded": "FINISHED", "cancelled": "KILLED"}.get(state, "FAILED"), name
        assert (run.data.tags["llmops_lab.state"], run.data.tags["llmops_lab.exit_code"]) == (state, str(code))
        files = {each.path for each in client.list_artifacts(record["mlflow_run_id"])}
        assert files == {"notebook.ipynb", "run.json", "parameters.json", "environment.json", "requirements.txt"}, name
        assert jobs[name].ledger()[1]["mlflow_run_id"] == record["mlflow_run_id"]
        kept = json.loads(Path(client.download_artifacts(record["mlflow_run_id"], "run.json", str(tmp_path))).read_text())
        assert {**kept, "heartbeat": ""} == {**record, "heartbeat": ""}


def test_mlflow_hears_of_a_killed_runner_within_thirty_seconds_and_of_the_grid_it_made(place, monkeypatch):
    grid = "import llmops_lab as lab\nlab.grid({'p': '{{ q }}'}, [{'id': 'a', 'q': 'x'}], models=['echo']).wait()"
    options = ("-p", "word=other")
    job = Job(
        place,
        "live",
        'word: str = "one"',
        grid,
        "import time; time.sleep(600)",
        tags={0: "parameters"},
        options=options,
        MLFLOW_TRACKING_URI="",
    )
    job.begun(3).signal(signal.SIGKILL)
    until(lambda: job.record.get("mlflow_run_id"))
    told(job, "failed", 137, 3, [OK, OK, OK, FAILED])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = connect.client(Settings(home=str(place / "home")))
    run = client.get_run(job.record["mlflow_run_id"])
    assert run.info.status == "FAILED" and run.data.params["word"] == "other"
    assert len(run.data.tags["llmops_lab.digest.template"]) == 64
    query = f"tags.`llmops_lab.job` = '{job.record['id']}'"
    assert len(client.search_runs([run.info.experiment_id], query)) == 2, "the job's own run, and that of its grid"
