"""A real small disk that fills up under a grid: a clear error, nothing lost, and the work goes on when there is room again."""

import contextlib
import os
import subprocess
import sys

import pytest

import llmops_lab as lab
from llmops_lab import settings
from llmops_lab.errors import BadInput, LabError, StoreError
from llmops_lab.store import care
from llmops_lab.store.ledger import open_ledger
from tests.faults.conftest import ROOT, environment, full
from tests.servers import ModelServer

WORDS = 20_000  # letters in a reply
CONCURRENCY = 8


class Disk:
    """A filesystem in memory of so many bytes."""

    def __init__(self, path, size):
        self.path, self._ballast = path, path / "ballast"
        path.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")

    def fill(self, leave=0):
        """Until nothing more goes in, but for ``leave`` bytes."""
        with contextlib.suppress(OSError), open(self._ballast, "ab", buffering=0) as file:
            while file.write(b"x" * 65536):
                pass
        with contextlib.suppress(OSError), open(self._ballast, "ab", buffering=0) as file:
            while file.write(b"x"):
                pass
        if leave:
            os.truncate(self._ballast, max(0, self._ballast.stat().st_size - leave))

    def make_room(self):
        self._ballast.unlink()

    def unmount(self):
        subprocess.run(["umount", "-l", str(self.path)], check=False)


@pytest.fixture
def disk():
    """Makes small disks and takes them away."""
    disks = []

    def make(path, size):
        disks.append(Disk(path, size))
        return disks[-1]

    yield make
    for each in reversed(disks):
        each.unmount()


@pytest.fixture
def server():
    with ModelServer(answer=lambda text: f"{text} {'yes ' * (WORDS // 4)}") as running:
        yield running


def rows(count):
    return [{"id": f"r{number}", "q": f"question {number}"} for number in range(count)]


def ask(server, count=300, **changes):
    wanted = {"models": [f"openai:m@{server.url}"], "scorers": ["length"], "concurrency": CONCURRENCY, "track": False, "retries": 0}
    return lab.grid({"p": "{{ q }}"}, rows(count), **{**wanted, **changes})


def in_a_new_process(home, code):
    """What a new kernel sees: the output of ``code``, or its last line of trouble."""
    command = [sys.executable, "-c", f"import llmops_lab as lab\nfrom llmops_lab.store import care\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(home), timeout=120)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


LOOK = """
from llmops_lab import settings
from llmops_lab.store.ledger import open_ledger
ledger = open_ledger(settings.load())
health = care.check(ledger)
print(health.sound, health.calls, sum(cell["status"] == "ok" for cell in lab.load("small disk").records()))
"""


@pytest.mark.parametrize("megabytes", full([3], [2, 3, 4, 5]))
def test_a_disk_that_fills_up_ends_the_grid_and_what_is_done_is_kept(home, disk, server, megabytes):
    small = disk(home, 12 * 2**20)
    small.fill(leave=megabytes * 2**20)
    grid = ask(server, name="small disk", wait=False)
    with pytest.raises(StoreError, match=r"full.*Make room") as caught:
        grid.wait()
    assert caught.value.path == str(home / "lab.db") and str(home / "lab.db") in str(caught.value)
    assert grid.state == "failed"

    # The last good state opens while the disk is still full, here and in a new process.
    health = care.check(open_ledger(settings.load()))
    frame = grid.frame()
    kept = frame[frame["status"] == "ok"]
    assert health.sound and health.calls == len(kept) > 20
    assert all(text.startswith(f"question {row_id[1:]} yes") for row_id, text in zip(kept["row_id"], kept["text"], strict=True))
    assert in_a_new_process(home, LOOK) == f"True {len(kept)} {len(kept)}"

    # A second try on the full disk fails the same way and breaks nothing.
    with pytest.raises(StoreError, match="full"):
        ask(server, name="second try")
    assert care.check(open_ledger(settings.load())).sound
    known = care.check(open_ledger(settings.load())).calls

    small.make_room()
    again = ask(server)
    assert (again.state, again.reused) == ("done", known)
    assert set(again.frame()["status"]) == {"ok"} and care.check(open_ledger(settings.load())).sound
    once = set(kept["row_id"])
    assert all(server.count(f"question {row_id[1:]}") == 1 for row_id in once)  # what was recorded was never bought again
    twice = [row["id"] for row in rows(300) if server.count(row["q"]) > 1]
    named = set(again.frame().set_index("key").loc[again.maybe_paid_twice, "row_id"])
    assert len(twice) <= 3 * CONCURRENCY and set(twice) <= named


def test_a_grid_object_goes_on_by_itself_when_there_is_room(home, disk, server):
    small = disk(home, 12 * 2**20)
    small.fill(leave=3 * 2**20)
    grid = ask(server, wait=False)
    with pytest.raises(StoreError, match="full"):
        grid.wait()
    small.make_room()
    assert grid.resume().state == "done" and set(grid.frame()["status"]) == {"ok"}


def test_a_disk_that_is_full_from_the_start_is_said_before_any_call(home, disk, server):
    small = disk(home, 2**20)
    small.fill()
    with pytest.raises(StoreError, match=str(home)):
        ask(server, 3)
    assert str(home) in in_a_new_process(home, "lab.grid({'p': '{{ q }}'}, [{'q': 1}], models=['echo'])")
    assert server.requests == []
    small.make_room()
    assert ask(server, 3).state == "done"


def test_a_folder_whose_disk_cannot_take_the_table_for_mlflow_is_named_and_nothing_is_lost(home, disk, server, monkeypatch):
    with ModelServer() as nobody:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody.url.removesuffix("/v1"))
    home.mkdir()
    small = disk(home / "outbox", 2**16)
    small.fill()
    with pytest.raises(LabError, match=str(home / "outbox")) as caught:
        ask(server, 5, track=True, name="told later")
    assert isinstance(caught.value, StoreError) and not isinstance(caught.value, BadInput)
    assert set(lab.load("told later").frame()["status"]) == {"ok"}
    assert [path.name for path in (home / "outbox").iterdir()] == ["ballast"]
    small.make_room()
    again = ask(server, 5, track=True)
    assert (again.state, again.calls) == ("done", 0)
    assert [kind for _, kind, _ in open_ledger(settings.load()).outbox_pending()] == ["grid"]


def test_a_backup_that_finds_no_room_leaves_nothing_half_written(home, disk, server, tmp_path):
    ask(server, 20)
    small = disk(tmp_path / "stick", 2**16)
    with pytest.raises(BadInput, match=str(tmp_path / "stick" / "copy.db")):
        care.backup(open_ledger(settings.load()), str(tmp_path / "stick" / "copy.db"))
    assert list(small.path.iterdir()) == []
    assert care.check(open_ledger(settings.load())).sound


def test_forgetting_and_pruning_on_a_full_disk_say_so_and_work_when_there_is_room(home, disk, server):
    small = disk(home, 8 * 2**20)
    ask(server, 60)
    small.fill()
    ledger = open_ledger(settings.load())
    for work in (lambda: care.forget_row(ledger, "r3"), lambda: care.prune(ledger, days=1)):
        with contextlib.suppress(StoreError):  # there may be just enough room in the log
            work()
        assert care.check(ledger).sound
    small.make_room()
    with contextlib.suppress(LabError):
        care.forget_row(ledger, "r3")
    care.prune(ledger, days=1)
    assert care.check(ledger).sound
    assert not any(b"question 3 yes" in path.read_bytes() for path in home.glob("lab.db*"))
