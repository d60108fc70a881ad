"""Jobs in the background: in turn, after one another, on GPUs of their own, and told truly, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput, JobFailed, UnknownName
from llmops_lab.store._owner import is_alive
from tests.jobs.endings import GREETED
from tests.jobs.queues import notebook, project, services
from tests.waiting import until

COUNTED = """import pathlib
counter = pathlib.Path("tries")
tries = int(counter.read_text()) + 1 if counter.exists() else 1
counter.write_text(str(tries))
assert tries > 1, "the first try fails"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_mlflow):
    folder = tmp_path_factory.mktemp("queue")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text("")
    with project(folder, empty_mlflow), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "site"))
        yield folder


@pytest.fixture(autouse=True)
def _settings():
    lab.configure(jobs_at_once=2)
    yield
    lab.configure(jobs_at_once=None, gpus=None, job_idle=None)


@pytest.fixture
def quick(place):
    return notebook(place / "quick.ipynb", "print('done', person)", parameters="person: str = 'me'")


@pytest.fixture
def slow(place):
    return notebook(place / "slow.ipynb", "import time\nfor step in range(600):\n    print('step', step, flush=True)\n    time.sleep(0.1)")


def owner(job):
    return int(job.seen.row.owner.rsplit(":", 2)[1])


def test_one_at_a_time_the_second_waits_for_its_turn(place):
    lab.configure(jobs_at_once=1)
    path = notebook(place / "one.ipynb", "import time\ntime.sleep(1)\nprint('slept')")
    first, second = lab.run(path), lab.run(path)
    until(lambda: first.state == "running")
    assert second.state == "queued"
    assert "waits for its turn" in repr(second) and second.id in repr(lab.jobs())
    assert [each.wait(120).state for each in (first, second)] == ["succeeded", "succeeded"]
    records = [json.loads((each.folder / "run.json").read_text()) for each in (first, second)]
    assert records[0]["ended"] <= records[1]["started"]
    assert second.logs() == "slept\n" and second.exit_code == 0 and second.check() is second


def test_a_job_gets_the_environment_and_the_folder_of_who_asks_for_it(place, monkeypatch):
    told = "print(os.environ['WHO_ASKS'], os.getcwd(), os.environ['LLMOPS_LAB_JOB'], '' in sys.path, __name__)"
    path = notebook(place / "told.ipynb", f"import os, sys\n{told}")
    (place / "below").mkdir(exist_ok=True)
    monkeypatch.chdir(place / "below")
    for who in ("ann", "bob"):
        monkeypatch.setenv("WHO_ASKS", who)
        job = lab.run(path, wait=True)
        assert job.logs().split() == [who, str(place / "below"), job.id, "True", "__main__"]


def test_a_kernel_that_must_be_another_one_starts_cold(place, monkeypatch):
    told = "print(open('/proc/self/cmdline').read().split(chr(0))[2:4], os.environ['OMP_NUM_THREADS'])"
    path = notebook(place / "which.ipynb", f"import os\n{told}")
    assert "job_service" in lab.run(path, wait=True).check().logs(), "forked"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert lab.run(path, wait=True).check().logs() == "['ipykernel_launcher', '-f'] 3\n"


def test_a_forked_kernel_talks_encrypted_too(place):
    assert lab.run(notebook(place / "greeted.ipynb", GREETED), wait=True).check().logs().split() == ["CURVE"] * 4


def test_what_was_changed_on_disk_is_imported_anew(place, quick):
    assert lab.run(quick, wait=True).state == "succeeded"
    before = services(place / "home")
    os.utime(place / "site" / "sitecustomize.py", (1, 1))
    assert lab.run(quick, wait=True).state == "succeeded"
    assert services(place / "home") not in ([], before)


def test_the_parameters_reach_the_notebook(quick):
    job = lab.run(quick, person="ann", wait=True).check()
    assert job.logs() == "done ann\n" and job.parameters == {"person": "ann"}
    assert job.notebook.is_file() and lab.job(job.id).state == "succeeded"
    until(lambda: job.run_id is not None)  # MLflow hears of the end after the ledger


def test_runners_are_forked_from_a_process_without_threads(place, quick):
    lab.run(quick, wait=True).check()
    (nursery,) = Path(f"/proc/{services(place / 'home')[0]}/task").glob("*/children")
    process = Path("/proc", nursery.read_text().split()[0])
    until(lambda: "libarrow" in (process / "maps").read_text(), why="what it imports when nobody waits is not there")
    assert len(list((process / "task").iterdir())) == 1


def test_a_job_that_waits_is_cancelled_without_having_begun(slow, quick):
    lab.configure(jobs_at_once=1)
    first, second = lab.run(slow), lab.run(quick)
    until(lambda: "step 0" in first.logs())
    second.cancel()
    assert second.state == "cancelled" and second.exit_code == 130 and second.error["message"] == "cancelled before it began"
    assert json.loads((second.folder / "run.json").read_text())["state"] == "cancelled"
    first.cancel().wait(30)
    assert (first.state, first.exit_code) == ("cancelled", 130) and "step 0" in first.logs()
    assert first.error["message"] == "stopped by a request to cancel it"
    with pytest.raises(JobFailed, match="ended as cancelled"):
        first.check()


def test_cancel_takes_what_the_job_has_started_along(place):
    child = (
        "import subprocess\nchild = subprocess.Popen(['sleep', '300'], start_new_session=True)\nprint(child.pid, flush=True)\nchild.wait()"
    )
    job = lab.run(notebook(place / "child.ipynb", child))
    until(lambda: job.logs().strip().isdigit())
    pid = int(job.logs())
    assert Path(f"/proc/{pid}").exists()
    assert job.cancel().wait(30).state == "cancelled"
    until(lambda: not Path(f"/proc/{pid}").exists(), 5)


def test_a_job_follows_others_only_when_they_succeeded(place, quick):
    good = lab.run(quick)
    bad = lab.run(notebook(place / "bad.ipynb", "raise ValueError('no')"))
    after_good, after_bad = lab.run(quick, after=good), lab.run(quick, after=[good, bad])
    last = lab.run(quick, after=[after_bad.id])
    assert after_good.wait(120).state == "succeeded"
    assert after_good.seen.record.started >= good.seen.record.ended
    assert bad.wait(120).state == "failed" and bad.error["type"] == "ValueError" and bad.exit_code == 1
    assert after_bad.wait(120).state == "cancelled" and bad.id in after_bad.error["message"]
    assert last.wait(120).state == "cancelled" and after_bad.id in last.error["message"]


def test_a_job_is_tried_again(place):
    path = notebook(place / "again.ipynb", COUNTED)
    assert lab.run(path, retries=1, wait=True).check().seen.record.attempt == 2
    (place / "tries").unlink()
    assert lab.run(path, wait=True).state == "failed"


def test_three_jobs_share_two_gpus_and_a_killed_one_gives_its_own_back(place, quick):
    names = [f"pretended-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    lab.configure(jobs_at_once=3, gpus=",".join(names))
    hold = "import os, time\nprint(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\ntime.sleep(60)"
    path = notebook(place / "gpu.ipynb", hold)
    jobs = [lab.run(path, gpus=1) for _ in range(3)]
    until(lambda: sum(bool(job.logs()) for job in jobs) == 2)
    waiting = next(job for job in jobs if not job.logs())
    running = [job for job in jobs if job is not waiting]
    assert {job.logs().strip() for job in running} == set(names) and waiting.state == "queued"
    assert "waits for 1 free GPU" in repr(waiting)
    freed = running[0].logs()
    os.kill(owner(running[0]), signal.SIGKILL)
    until(lambda: waiting.logs() == freed, why="the GPU of the killed job did not go to the one that waited")
    assert running[0].wait(30).state == "failed" and running[0].exit_code == 137
    for job in jobs:
        job.cancel()
    assert [job.wait(30).state for job in (running[1], waiting)] == ["cancelled", "cancelled"]
    with pytest.raises(BadInput, match="asks for 3 GPUs, and there are 2"):
        lab.run(quick, gpus=3)


def test_jobs_go_on_when_the_service_is_killed_and_the_next_one_takes_up_the_rest(place, quick):
    lab.configure(jobs_at_once=1)
    path = notebook(place / "three.ipynb", "import time\ntime.sleep(3)\nprint('to the end')")
    first, second = lab.run(path), lab.run(quick)
    until(lambda: first.state == "running")
    [pid] = services(place / "home")
    os.kill(pid, signal.SIGKILL)
    assert first.wait(120).state == "succeeded" and first.logs() == "to the end\n"
    assert second.wait(120).state == "succeeded"
    assert services(place / "home") not in ([], [pid])


def test_a_killed_runner_is_told_within_thirty_seconds(slow):
    job = lab.run(slow)
    until(lambda: "step" in job.logs())
    kernel = job.seen.record.kernel_pid
    os.kill(owner(job), signal.SIGKILL)
    assert job.wait(30).state == "failed" and job.error["type"] == "Killed"
    until(lambda: not Path(f"/proc/{kernel}").exists(), 5)
    assert json.loads((job.folder / "run.json").read_text())["state"] == "failed"


def test_a_folder_keeps_what_an_earlier_job_left(place, slow, quick):
    out = place / "results"
    first = lab.run(quick, out=out, wait=True).check()
    second = lab.run(slow, out=out)
    assert json.loads((out / "previous" / first.id / "run.json").read_text())["state"] == "succeeded"
    assert "done me" in (out / "previous" / first.id / "notebook.ipynb").read_text()
    assert first.folder == out / "previous" / first.id and first.logs() == "done me\n", "it is shown with its own files"
    with pytest.raises(BadInput, match=f"the folder of the job {second.id}, which is (queued|running)"):
        lab.run(quick, out=out)
    assert second.cancel().wait(30).state == "cancelled"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"kernel": "pithon3"}, "no kernel called 'pithon3'. Did you mean python3"),
        ({"kernel": "gateway:python3"}, "set kernel_gateway"),
        ({"timeout": 0}, "above 0"),
        ({"timeout": "5"}, "above 0"),
        ({"retries": -1}, "retries"),
        ({"gpus": True}, "gpus is a whole number"),
        ({"gpus": 2}, "asks for 2 GPUs, and there is none"),
        ({"after": "nobody"}, "no job called 'nobody'"),
        ({"after": 3}, "after is a job, the id of one, or a list of these, not 3"),
        ({"after": [None]}, "after is a job, the id of one, or a list of these, not None"),
        ({"person": 5}, "person"),
        ({"persom": "x"}, "persom"),
        ({"out": "/proc/nowhere"}, "cannot be the folder of a job"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(quick, asked, says):
    lab.configure(gpus="none")
    before = [job.id for job in lab.jobs()]
    with pytest.raises(BadInput, match=says):
        lab.run(quick, **asked)
    assert [job.id for job in lab.jobs()] == before


def test_an_unknown_job_or_template_is_named(place):
    with pytest.raises(UnknownName, match="no job called 'x'"):
        lab.job("x")
    with pytest.raises(UnknownName, match="no template called 'nosuch'"):
        lab.run("nosuch")


def test_the_commands_list_and_cancel(slow, place):
    job = lab.run(slow)
    until(lambda: job.state == "running")
    command = [sys.executable, "-m", "llmops_lab.cli"]
    listed = subprocess.run([*command, "jobs", "--json"], capture_output=True, text=True, timeout=60, check=True).stdout
    told = {line["id"]: line for line in map(json.loads, listed.splitlines())}
    assert told[job.id]["state"] == "running" and told[job.id]["folder"] == str(job.folder)
    done = subprocess.run([*command, "cancel", job.id], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, f"{job.id}: cancelled")
    done = subprocess.run([*command, "cancel", "nobody"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "no job called 'nobody'" in done.stderr


def test_the_service_ends_when_nothing_is_left_to_do(place, quick):
    lab.configure(job_idle=0.5)
    job = lab.run(quick, wait=True)
    until(lambda: not services(place / "home"))
    assert job.state == "succeeded"
    assert not is_alive(job.seen.row.owner)
    lab.configure(job_idle=600.0)
    assert lab.run(quick, wait=True).state == "succeeded"
