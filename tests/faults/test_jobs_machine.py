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

from llmops_lab.flows.look_at_job import look
from llmops_lab.jobs.record import read_record
from llmops_lab.settings import Settings
from llmops_lab.store import jobs as table
from llmops_lab.store.ledger import open_ledger
from tests.faults.conftest import full
from tests.jobs.endings import NOBODY, Job, told

pytestmark = pytest.mark.faults
OK, FAILED, PENDING = "completed", "failed", "pending"
TICKS = """
import time
from pathlib import Path
for number in range(4000):
    print("tick", number, flush=True)
    time.sleep(0.2)
"""
LOOK = "from llmops_lab import settings; from llmops_lab.flows.reap_jobs import reap; print(*(each.id for each in reap(settings.load())))"
ELSEWHERE = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "sh", "-c", 'hostname elsewhere && exec "$0" -c "$1"', sys.executable]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machine")
    (folder / "pyproject.toml").write_text("")
    return folder


def needs(command, what):
    """Run it; where this machine does not let a test do that, the test is skipped, and says what for."""
    try:
        subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not let a test have {what}: {error} {getattr(error, 'stderr', b'').decode()}")


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
    needs([*ELSEWHERE[:-1], "true", ""], "another host name and processes of its own")
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


# -- a full disk -----------------------------------------------------------------------------------------------------------
PRINTS = "import time\nfor number in range(60): print('x' * 100_000, flush=True); time.sleep(0.05)"
# Somebody else takes each byte that becomes free, also what the job had kept for its last words.
TAKES = """
import os, sys
with open(os.path.join(sys.argv[1], "taken"), "wb", buffering=0) as file:
    while True:
        try:
            file.write(bytes(4096))
        except OSError:
            pass
"""


@pytest.fixture
def disk(place):
    """Makes a small disk as the output folder of the job with this name."""
    made = []

    def mount(name):
        folder = place / name
        folder.mkdir()
        needs(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], "a disk of its own")
        made.append(folder)
        return folder

    yield mount
    for folder in made:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_fails_the_job_and_harms_no_output(place, disk):
    for name in ("full", "taken"):
        disk(name)
    before = [Job(place, name, "print('good')") for name in ("full", "taken")]
    assert [job.code() for job in before] == [0, 0], before[0].errors
    kept = [json.dumps(job.notebook) for job in before]
    ids = [job.record["id"] for job in before]
    full = Job(place, "full", "print('first')", PRINTS, "2")
    taken = Job(place, "taken", "print('first')", TICKS, "2").begun(1, "tick")
    thief = subprocess.Popen([sys.executable, "-c", TAKES, taken.out])
    try:
        assert (full.code(), taken.code()) == (1, 1), full.errors + taken.errors
        about = looked_up(place, taken)
        assert (about.state, about.record.state, about.record.error["type"]) == ("failed", "failed", "StoreError")
        assert taken.notebook["cells"][0]["outputs"][0]["text"] == ["first\n"] and taken.processes() == []
    finally:
        thief.kill()
        thief.wait()
    (taken.out / "taken").unlink()
    told(full, "failed", 1, 1, [OK, FAILED, PENDING])
    assert "No space left on device" in full.record["error"]["message"]
    looked_up(place, taken)
    assert (taken.record["state"], taken.record["exit_code"]) == ("failed", 1), "told by who looks once there is room"
    for job, book, number in zip((full, taken), kept, ids, strict=True):
        assert json.dumps(json.loads((job.out / "previous" / number / "notebook.ipynb").read_text())) == book


def looked_up(place, job):
    ledger = ledger_of(place)
    number = ledger.select("SELECT id FROM jobs WHERE folder = ? ORDER BY submitted DESC LIMIT 1", (str(job.out),))[0][0]
    return look(number, Settings(home=str(place / "home"), tracking_uri=NOBODY))


# -- memory ----------------------------------------------------------------------------------------------------------------
@pytest.fixture
def group():
    """A control group that has 700 MB of memory."""
    whole = [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")]
    limits = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.swap.max")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, kinds, place = line.split(":", 2)
        if "memory" in kinds.split(",") or not kinds:
            whole.insert(0, Path(f"/sys/fs/cgroup{'/memory' if kinds else ''}{place}"))
    for above in whole:
        made = above / f"llmops-lab-test-{os.getpid()}"
        try:
            made.mkdir()
        except OSError:
            continue
        there = [made / name for name in limits if (made / name).exists()]
        try:
            for limit in there:
                limit.write_text("0" if limit.name == "memory.swap.max" else "700000000")
        except OSError:
            there = []
        if there:
            yield made
        made.rmdir()
        if there:
            return
    pytest.skip("this machine lets nobody make a control group with a limit of memory")


def test_a_kernel_that_its_control_group_kills_is_out_of_memory(place, group):
    eats = "held = []\nfor number in range(300): held.append(b'x' * 10**7)"
    job = Job(place, "eats", "1", eats, "2", before=lambda: (group / "cgroup.procs").write_text(str(os.getpid())))
    assert job.code() == 137, job.errors
    told(job, "out_of_memory", 137, 1, [OK, FAILED, PENDING])
    assert job.record["error"] == {"type": "OutOfMemory", "message": "the system killed the kernel because memory ran out", "cell": 1}


# -- too much to read ------------------------------------------------------------------------------------------------------
def test_nothing_is_lost_of_a_kernel_that_prints_faster_than_it_is_read(place):
    lines = full(1000, 4000)
    both = "print(number, flush=True); print('e', end='', file=sys.stderr, flush=True)"
    prints = f"import sys\nfor number in range({lines}): {both}\n7"
    job = Job(place, "prints", prints)
    assert job.code(280) == 0, job.errors
    out, err, last = job.notebook["cells"][0]["outputs"]
    assert "".join(out["text"]) == "".join(f"{number}\n" for number in range(lines)) and "".join(err["text"]) == "e" * lines
    assert "".join(last["data"]["text/plain"]) == "7"
