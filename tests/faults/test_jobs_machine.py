"""What the machine does to a job: a process that stands still while another machine takes it for dead, a disk without room, memory that
runs out in its control group. The real thing needs rights that not every machine gives; a test says so where it cannot be had.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmops_lab.jobs.record import read_record
from llmops_lab.store import jobs as table
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import open_ledger
from tests.jobs.endings import NOBODY, Job, told

pytestmark = pytest.mark.faults
OK, FAILED, PENDING = "completed", "failed", "pending"
TICKS = """
import time
for number in range(4000):
    print("tick", number, flush=True)
    time.sleep(0.2)
"""
LOOK = "from llmops_lab import settings; from llmops_lab.flows.reap_jobs import reap; print(*(each.id for each in reap(settings.load())))"
ELSEWHERE = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "sh", "-c", 'hostname elsewhere; exec "$0" -c "$1"', sys.executable]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machine")
    (folder / "pyproject.toml").write_text("")
    return folder


def ledger_of(place):
    return open_ledger(Settings(home=str(place / "home"), tracking_uri=NOBODY))


# -- another machine -------------------------------------------------------------------------------------------------------
def looked_at_from_elsewhere(place):
    """What a machine of another name, which sees no process of this one, settles when it looks at the jobs."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LLMOPS_LAB_", "MLFLOW_"))}
    kept |= {"LLMOPS_LAB_HOME": str(place / "home"), "MLFLOW_TRACKING_URI": NOBODY}
    done = subprocess.run([*ELSEWHERE, LOOK], cwd=place, env=kept, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def asleep(place):
    """Two jobs whose runners stood still, were taken for dead elsewhere, and go on; a later job has the folder of the second."""
    if subprocess.run([*ELSEWHERE[:-1], "true", ""], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody have another host name and processes of its own (unshare)")
    both = [Job(place, name, "1", TICKS, "2") for name in ("first", "second")]
    for job in both:
        job.begun(1, "tick")
        job.at_first = job.record
        job.signal(signal.SIGSTOP)
    at_once = looked_at_from_elsewhere(place)
    # An hour passes: there is a beat every five seconds, and none since.
    ledger_of(place).write(("UPDATE jobs SET heartbeat = ? WHERE state = 'running'", [(time.time() - 4000,)]))
    later = looked_at_from_elsewhere(place)
    settled = [job.record for job in both]
    third = Job(place, "second", "print('third')")
    third.exit = third.code()
    kept = {path.name: path.read_bytes() for path in third.out.iterdir() if path.is_file()}
    for job in both:
        job.exit = job.signal(signal.SIGCONT).code(30)
    return both, third, at_once, later, settled, kept


def test_a_job_of_another_machine_is_not_judged_by_processes_of_this_one(asleep):
    both, _, at_once, later, settled, _ = asleep
    assert at_once == set() and later == {job.at_first["id"] for job in both}
    assert {record["state"] for record in settled} == {"failed"}
    assert all("has not been heard of since" in record["error"]["message"] for record in settled)


def test_a_runner_that_was_taken_for_dead_and_wakes_ends_as_it_was_told(asleep):
    (first, _), _, _, _, settled, _ = asleep
    assert first.exit == 137 and first.record == settled[0], first.errors
    told(first, "failed", 137, 1, [OK, FAILED, PENDING])


def test_a_runner_that_wakes_leaves_the_job_alone_that_has_its_folder_now(asleep, place):
    (_, second), third, _, _, settled, kept = asleep
    assert (second.exit, third.exit) == (137, 0), second.errors
    assert {path.name: path.read_bytes() for path in third.out.iterdir() if path.is_file()} == kept
    told(third, "succeeded", 0, 1, [OK])
    moved = third.out / "previous" / second.at_first["id"]
    assert json.loads((moved / "run.json").read_text()) == settled[1]
    assert table.get(ledger_of(place), second.at_first["id"]).record == read_record(moved).to_json()
