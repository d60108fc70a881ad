"""A job while it runs, and papermill with our engine: real kernels, real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmops_lab.errors import BadInput, JobFailed, StoreError
from llmops_lab.flows.reap_jobs import reap
from llmops_lab.flows.submit_job import submit
from llmops_lab.jobs.outcome import of_dead_kernel, of_error
from llmops_lab.jobs.record import JobRecord, read_record, write_record
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import open_ledger
from tests.jobs.endings import GREETED, NOBODY, Job, of_job, told
from tests.jobs.queues import notebook

OK, FAILED, PENDING = "completed", "failed", "pending"
PRINTS = """
import sys, time
for number in range(1000):
    print(number, flush=True)
    print("e", end="", file=sys.stderr, flush=True)
print("\\r".join(f"step {n}" for n in range(50)), flush=True)
import ipywidgets
ipywidgets.IntSlider()
"""
PAPERMILL = [sys.executable, "-m", "papermill", "--engine", "llmops", "--no-progress-bar"]
PAPERMILLS = {
    "good": (("1", "2"), {}, 0, "succeeded", [OK, OK]),
    "bad": (("1", "1 / 0", "2"), {}, 1, "failed", [OK, FAILED, PENDING]),
    "dead": (("1", "import os; os.kill(os.getpid(), 9)", "2"), {}, 138, "dead_kernel", [OK, FAILED, PENDING]),
    "early": (("1", "import sys; sys.exit(0)", "2"), {}, 0, "succeeded", [OK, OK, PENDING]),
    "expected": (("1", "1 / 0", "2"), {1: "raises-exception"}, 0, "succeeded", [OK, OK, OK]),
}
SLOW = """
import time
for number in range(40):
    print("tick", number, flush=True)
    time.sleep(0.2)
"""
FLAKY = """
from pathlib import Path
tries = Path("tries.txt")
tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
if len(tries.read_text()) < 2:
    raise OSError("not yet")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    (folder / "pyproject.toml").write_text("")
    return folder


@pytest.fixture(scope="module")
def several(place):
    """Jobs that start at once and come to their ends."""
    tell = "import os; print(os.environ['LLMOPS_LAB_JOB'], os.environ['LLMOPS_LAB_HOME'], os.getcwd())"
    secret = ("import os; print('key', os.environ['MY_API_KEY'])", "raise ValueError(os.environ['MY_API_KEY'])")
    made = {
        "env": Job(place, "env", tell),
        "prints": Job(place, "prints", PRINTS),
        "flaky": Job(place, "flaky", "1", FLAKY, options=("--retries", "3")),
        "greeted": Job(place, "greeted", GREETED),
        "secret": Job(place, "secret", *secret, MY_API_KEY="abcdefgh-secret-123456"),
    }
    for name, (cells, tags, *_) in PAPERMILLS.items():
        out = place / f"pm_{name}"
        out.mkdir()
        command = [*PAPERMILL, f"{out.name}.ipynb", f"{out.name}/notebook.ipynb"]
        made[out.name] = Job(place, out.name, *cells, command=command, tags=tags)
    for job in made.values():
        job.exit = job.code(240)
    return made


@pytest.fixture(scope="module")
def reads(place):
    """The record of a slow job, and each state in which its two files were met while it ran."""
    job = Job(place, "slow", "1", SLOW, "import llmops_lab as lab; lab.job_result({'first': 1}); lab.job_result({'second': [2, None]})")
    met = []
    while job.process.poll() is None:
        if (job.out / "notebook.ipynb").exists() and (job.out / "run.json").exists():
            book, record = job.notebook, job.record
            met.append((record, "".join(job_text(book["cells"][1]))))
        time.sleep(0.02)
    return job, met


def job_text(cell):
    return ["".join(each["text"]) for each in cell["outputs"] if each["output_type"] == "stream"]


def test_both_files_are_whole_at_every_moment_and_show_a_cell_while_it_runs(reads):
    job, met = reads
    told(job, "succeeded", 0, 3, [OK, OK, OK])
    assert len(met) > 50
    growing = {text.count("tick") for record, text in met if record["state"] == "running" and record["cell"] == 1}
    assert len(growing) >= 3, "what a running cell has said is seen every few seconds"
    assert [record["cells_done"] for record, _ in met] == sorted(record["cells_done"] for record, _ in met)


def test_the_last_result_holds(reads):
    assert reads[0].record["result"] == {"second": [2, None]}


def test_a_kernel_knows_whose_job_it_is_and_where_the_ledger_lies(place, several):
    job = several["env"]
    assert job.exit == 0
    assert "".join(job_text(job.notebook["cells"][0])).split() == [job.record["id"], str(place / "home"), str(place)]


def test_nobody_else_on_the_machine_can_listen_to_a_kernel(several):
    job = several["greeted"]
    assert job.exit == 0, job.errors
    assert "".join(job_text(job.notebook["cells"][0])).split() == ["CURVE"] * 4


def test_streams_are_one_output_each_and_widgets_leave_no_state(several):
    job = several["prints"]
    assert job.exit == 0, job.errors
    outputs = job.notebook["cells"][0]["outputs"]
    assert sorted(each.get("name", "") for each in outputs) == ["", "stderr", "stdout"]
    text = "".join(next(each["text"] for each in outputs if each.get("name") == "stdout"))
    assert text == "".join(f"{number}\n" for number in range(1000)) + "step 49\n"
    assert "widgets" not in job.notebook["metadata"]


def test_attempts_are_recorded_and_the_last_one_counts(place, several):
    job = several["flaky"]
    record = job.record
    assert (record["state"], record["attempt"], [each["state"] for each in record["attempts"]]) == ("succeeded", 2, ["failed"])
    assert record["attempts"][0]["error"]["type"] == "OSError" and (place / "tries.txt").read_text() == "xx"
    assert job.exit == 0, job.errors
    told(job, "succeeded", 0, 2, [OK, OK])


def test_a_secret_that_is_printed_is_masked_in_notebook_and_record(place, several):
    job = several["secret"]
    assert job.exit == 1
    files = [path for path in (job.out, place / "home" / "jobs") for path in path.rglob("*") if path.is_file()]
    assert len(files) >= 3 and not [path for path in files if "abcdefgh-secret" in path.read_text()]
    assert "abcdefgh-secret" not in json.dumps(job.ledger()[1]) and "[redacted]" in job.record["error"]["message"]


def test_a_job_whose_runner_and_guard_are_killed_is_settled_by_who_looks(place, monkeypatch):
    job = Job(place, "orphan", "1", SLOW.replace("range(40)", "range(4000)"), "2").begun(1, "tick")
    _kill_with_guard(job)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    settled = reap(Settings(home=str(place / "home"), tracking_uri=NOBODY))
    assert [record.id for record in settled] == [job.record["id"]] and not reap(Settings(home=str(place / "home"), tracking_uri=NOBODY))
    told(job, "failed", 137, 1, [OK, FAILED, PENDING])


def test_the_end_of_a_killed_job_is_not_written_over_the_next_one_in_its_folder(place):
    killed = Job(place, "twice", "1", SLOW.replace("range(40)", "range(4000)"), "2").begun(1, "tick")
    _kill_with_guard(killed)
    before = killed.record["id"]
    job = Job(place, "twice", "1", "print('second')")
    assert job.code() == 0, job.errors
    reap(Settings(home=str(place / "home"), tracking_uri=NOBODY))
    told(job, "succeeded", 0, 2, [OK, OK])
    kept = job.out / "previous" / before
    assert (read_record(kept).state, read_record(kept).id, of_job(before)) == ("failed", before, [])
    assert json.loads((kept / "notebook.ipynb").read_text())["metadata"]["llmops_lab"]["job"]["state"] == "failed"


def test_a_process_that_has_the_number_of_a_killed_jobs_kernel_is_left_alone(place):
    job = Job(place, "number", "1", SLOW.replace("range(40)", "range(4000)")).begun(1, "tick")
    _kill_with_guard(job)
    other = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        kernel = job.record["kernel_pid"]
        (job.out / "run.json").write_text(json.dumps(job.record | {"kernel_pid": other.pid, "heartbeat": "2026-01-01T00:00:00.000+00:00"}))
        assert [record.id for record in reap(Settings(home=str(place / "home"), tracking_uri=NOBODY))] == [job.record["id"]]
        assert other.poll() is None and kernel != other.pid and job.processes() == []
    finally:
        other.kill()
        other.wait()


def test_of_two_who_submit_into_one_folder_at_once_one_is_refused(place, monkeypatch):
    monkeypatch.chdir(place)
    path = notebook(place / "both.ipynb", "1")
    settings = Settings(home=str(place / "home"), tracking_uri=NOBODY)

    def attempt(out):
        try:
            return submit(path, {}, out=out, settings=settings).id
        except BadInput as error:
            return "refused" if "which is queued" in str(error) else str(error)

    with ThreadPoolExecutor(2) as pool:
        for number in range(20):
            ends = list(pool.map(attempt, [f"both-{number}"] * 2))
            won = [end for end in ends if end != "refused"]
            assert won == [read_record(place / f"both-{number}").id] and not (place / f"both-{number}" / "previous").exists(), ends


def test_a_job_of_another_machine_is_settled_once_it_was_silent_for_an_hour(place, monkeypatch):
    monkeypatch.chdir(place)
    settings = Settings(home=str(place / "home"), tracking_uri=NOBODY)
    ledger = open_ledger(settings)
    job = submit(notebook(place / "far.ipynb", "1"), {}, out=place / "far", settings=settings).id
    for silent, settled in ((3000, []), (4000, [job])):
        change = "UPDATE jobs SET state = 'running', owner = 'elsewhere:1:1', heartbeat = ? WHERE id = ?"
        ledger.write((change, [(time.time() - silent, job)]))
        assert [record.id for record in reap(settings) if record.id == job] == settled
    record = read_record(place / "far")
    assert record.state == "failed" and "on elsewhere has not been heard of" in record.error["message"]


def test_a_running_jobs_folder_is_not_another_ones(place):
    job = Job(place, "taken", "1", SLOW.replace("range(40)", "range(4000)"), "2").begun(1, "tick")
    command = [*PAPERMILL, "taken.ipynb", "taken/notebook.ipynb"]
    second = Job(place, "taken", "1", command=command)
    assert second.code() == 2 and "which is running" in second.errors
    assert job.signal(signal.SIGTERM).code() == 130
    told(job, "cancelled", 130, 1, [OK, FAILED, PENDING])


def _kill_with_guard(job):
    guards = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _is_guard_of(p, job.process.pid)]
    assert len(guards) == 1
    for pid in (*guards, job.process.pid):
        os.kill(pid, signal.SIGKILL)
    job.process.wait()
    assert job.record["state"] == "running"


def _is_guard_of(process, runner):
    try:
        parent = (process / "stat").read_bytes().rpartition(b")")[2].split()[1]
        return int(parent) == runner and b"jobs/guard.py" in (process / "cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize("name", PAPERMILLS)
def test_papermill_with_our_engine_tells_the_same(several, name):
    _, _, code, state, statuses = PAPERMILLS[name]
    job = several[f"pm_{name}"]
    assert job.exit == code, job.errors
    told(job, state, code, statuses.count(OK), statuses)


REFUSED = [
    (("-p", "many", "x"), "BadInput: many must be int, not 'x'."),
    (("-p", "mani", "3"), "UnknownName: no parameter called 'mani'. Did you mean many? Known: many."),
    (("-k", "pithon3"), "UnknownName: no kernel called 'pithon3'. Did you mean python3? Known: python3"),
]


def test_papermill_refuses_bad_input_in_one_line_with_exit_code_2_before_anything_starts(place):
    made = {}
    for number, (options, says) in enumerate(REFUSED):
        name = f"refused{number}"
        (place / name).mkdir()
        command = [*PAPERMILL, f"{name}.ipynb", f"{name}/notebook.ipynb", *options]
        made[says] = Job(place, name, "many: int = 1", "print(many)", tags={0: "parameters"}, command=command)
    for says, job in made.items():
        assert job.code() == 2 and says in job.errors and "Traceback" not in job.errors, job.errors
        assert list(job.out.iterdir()) == []


def test_papermill_keeps_the_output_of_the_job_before_and_the_record_of_a_neighbour(place):
    out = place / "kept"
    out.mkdir()
    for targets in (["notebook.ipynb"], ["notebook.ipynb", "other.ipynb"]):
        made = [Job(place, "kept", "1", command=[*PAPERMILL, "kept.ipynb", f"kept/{target}"]) for target in targets]
        assert [job.code() for job in made] == [0] * len(made), made[0].errors
    first = next((out / "previous").iterdir())
    assert read_record(first).state == "succeeded" and (first / "notebook.ipynb").is_file()
    assert read_record(out).notebook == "notebook.ipynb" and read_record(out, "other.run.json").notebook == "other.ipynb"


def test_a_program_that_calls_papermill_catches_an_ordinary_error(place, monkeypatch):
    import papermill

    monkeypatch.chdir(place)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(place / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    path, out = notebook(place / "called.ipynb", "raise ValueError('no')"), place / "called"
    out.mkdir()
    with pytest.raises(JobFailed, match="ValueError in cell 1: no") as caught:
        papermill.execute_notebook(path, str(out / "notebook.ipynb"), engine_name="llmops", progress_bar=False)
    assert (caught.value.state, caught.value.exit_code) == ("failed", 1)
    assert of_job(read_record(out).id) == []


@pytest.mark.parametrize(
    ("kind", "message", "state", "code"),
    [
        ("ValueError", "no", "failed", 1),
        ("BadInput", "no", "failed", 2),
        ("UnknownName", "no", "failed", 2),
        ("BudgetReached", "no", "failed", 3),
        ("Unreachable", "no", "failed", 4),
        ("GateFailed", "no", "gate_failed", 5),
        ("MemoryError", "", "out_of_memory", 137),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB", "out_of_memory", 137),
        ("RuntimeError", "CUDA error: out of memory", "out_of_memory", 137),
        ("SystemExit", "0", "succeeded", 0),
        ("SystemExit", "", "succeeded", 0),
        ("SystemExit", "1", "failed", 1),
        ("SystemExit", "bye", "failed", 1),
    ],
)
def test_an_error_of_a_cell_is_an_end(kind, message, state, code):
    ended = of_error(kind, message, 3)
    assert (ended.state, ended.exit_code) == (state, code)
    assert ended.error is None or ended.error["cell"] == 3


DEATHS = [(-9, True, "out_of_memory"), (-9, False, "dead_kernel"), (-11, True, "dead_kernel"), (3, False, "dead_kernel")]


@pytest.mark.parametrize(("status", "starved", "state"), DEATHS)
def test_a_dead_kernel_is_out_of_memory_only_when_the_system_killed_for_it(status, starved, state):
    assert of_dead_kernel(status, 0, starved=starved).state == state


def test_a_record_that_cannot_be_written_leaves_no_draft(tmp_path):
    (tmp_path / "run.json").mkdir()  # nothing can be moved there
    with pytest.raises(StoreError, match="cannot be written"):
        write_record(tmp_path, JobRecord(id="a", template="t", state="failed"))
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


HOSTILE = '{"id": "../../x", "state": "failed"}'  # files would be moved there


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": 1, "state": "running"}', '{"id": "a", "state": "flying"}', "not json", HOSTILE])
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(BadInput):
        read_record(tmp_path)


def test_a_kernel_that_dies_before_it_says_anything_is_a_dead_kernel(place):
    spec = place / "data" / "kernels" / "stillborn"
    spec.mkdir(parents=True)
    about = {"argv": [sys.executable, "-c", "raise SystemExit(7)"], "display_name": "x", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(about))
    job = Job(place, "stillborn", "1", options=("--kernel", "stillborn"), JUPYTER_PATH=str(place / "data"))
    assert job.code() == 138, job.errors
    told(job, "dead_kernel", 138, 0, [PENDING])


def test_a_job_whose_process_went_before_it_began_is_settled_by_who_looks(place):
    code = "from llmops_lab import settings as s; from llmops_lab.flows.submit_job import submit as f; {}"
    code = code.format("f('never.ipynb', dict(), out='never', settings=s.load())")
    job = Job(place, "never", "1", command=[sys.executable, "-c", code])
    assert job.code() == 0, job.errors
    assert job.record["state"] == "queued"
    reap(Settings(home=str(place / "home"), tracking_uri=NOBODY))
    assert (job.record["state"], job.ledger()[0]) == ("failed", "failed") and "before it began" in job.record["error"]["message"]
