"""Real processes on one ledger: writing at once, and killed in the middle of a batch."""

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import time

import pytest

from llmops_lab.records import Outcome, Reply
from llmops_lab.store import care

OK = Outcome("ok", Reply("yes", "stop"))

# Writes without end; each key is written to stdout from the callback that follows its commit, at once.
ENDLESS = """
import os, sys, time
from llmops_lab.records import Outcome, Reply
from llmops_lab.store.ledger import Ledger, dialect_for

ledger = Ledger(dialect_for(sys.argv[1]))
name, waiting = sys.argv[2], 0

def committed(key):
    def done(error):
        global waiting
        waiting -= 1
        os.write(1, f"{'failed' if error else 'kept'} {key} {error or ''}\\n".encode())
    return done

for number in range(10**9):
    key = f"{name}-{number}"
    outcome = Outcome("ok", Reply(key * 50, "stop"))
    waiting += 1
    ledger.put([ledger.claims("g", [key]), ledger.reply("g", key, "r", outcome)], committed(key))
    while waiting > 200:
        time.sleep(0.0005)
"""

# Writes so many and ends; reads meanwhile. Any error ends it with a traceback.
SO_MANY = """
import sys
from llmops_lab.records import Outcome, Reply
from llmops_lab.store.ledger import CellRow, Ledger, dialect_for

ledger = Ledger(dialect_for(sys.argv[1]))
name, count = sys.argv[2], int(sys.argv[3])
ledger.begin(name, name, {}, [CellRow(number, f"{name}-{number}", "p", "m", "r", 0) for number in range(count)])
for number in range(count):
    ledger.write(ledger.claims(name, [f"{name}-{number}"]))
    ledger.write(ledger.reply(name, f"{name}-{number}", "r", Outcome("ok", Reply("x", "stop"))))
    ledger.outbox_done(ledger.outbox_add("grid", {"n": number}), "run")
    assert sum(cell.outcome is not None for cell in ledger.cells(name)) == number + 1
ledger.end(name, "done")
"""


def start(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    )


@pytest.mark.parametrize("round_", range(3))
def test_killed_in_the_middle_of_a_batch_everything_committed_is_there(place, opened, round_):
    child = start(ENDLESS, place, f"c{round_}")
    first = child.stdout.readline()
    time.sleep(random.uniform(0.05, 0.5))
    child.kill()
    out, errors = child.communicate()
    lines = [line.split() for line in [first, *out.splitlines()]]
    kept = [line[1] for line in lines if line[0] == "kept"]
    assert len(kept) > 100 and len(kept) == len(lines), errors
    ledger = opened(place)
    assert care.check(ledger).sound
    found = ledger.answered(kept)
    assert set(found) == set(kept)
    texts = {number: outcome.reply.text for number, outcome in ledger.outcomes(list(found.values()))}
    assert all(texts[found[key]] == key * 50 for key in kept)
    # A claim and a reply that were written together are there together: nothing is half recorded.
    (claims,), (replies,) = ledger.select("SELECT COUNT(*) FROM claims UNION ALL SELECT COUNT(*) FROM replies")
    assert claims == replies >= len(kept)
    ledger.write(ledger.reply("g", "after", "r", OK))
    assert set(ledger.answered(["after"])) == {"after"}


def test_processes_that_write_at_once_do_not_lock_each_other_out(place, opened):
    children = [start(SO_MANY, place, name, 40) for name in ("a", "b", "c")]
    for child in children:
        _, errors = child.communicate(timeout=120)
        assert (child.returncode, errors) == (0, "")
    ledger = opened(place)
    assert {grid["grid"]: grid["state"] for grid in ledger.grids()} == dict.fromkeys("abc", "done")
    assert len(ledger.answered(f"{name}-{number}" for name in "abc" for number in range(40))) == 120
    assert ledger.outbox_pending() == [] and ledger.select("SELECT COUNT(*) FROM outbox") == [(120,)]
    assert care.check(ledger).sound


def test_what_an_unclean_end_leaves_beside_the_file_is_used_and_no_hindrance(tmp_path, opened):
    path = tmp_path / "lab.db"
    child = start(ENDLESS, path, "c")
    kept = [child.stdout.readline().split()[1] for _ in range(50)]
    child.kill()
    child.communicate()
    assert {each.name for each in tmp_path.iterdir()} == {"lab.db", "lab.db-wal", "lab.db-shm"}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as bare:  # without what lies beside it
        names = [name for (name,) in bare.execute("SELECT name FROM sqlite_master")]
        older = bare.execute("SELECT COUNT(*) FROM replies").fetchone()[0] if "replies" in names else 0
    (tmp_path / "lab.db-shm").write_bytes(os.urandom(32768))  # only a cache of the log
    ledger = opened(str(path))
    assert set(ledger.answered(kept)) == set(kept)
    assert ledger.select("SELECT COUNT(*) FROM replies")[0][0] > older
    assert care.check(ledger).sound


@pytest.mark.parametrize("cuts", [40])
def test_a_log_that_a_power_cut_tore_anywhere_opens_with_whole_groups_only(tmp_path, opened, cuts):
    """Not a real power cut: the log is copied and cut at random bytes, as a disk that had not written all of it would leave it."""
    (tmp_path / "live").mkdir()
    child = start(ENDLESS, tmp_path / "live" / "lab.db", "c")
    for _ in range(300):
        child.stdout.readline()
    child.kill()
    child.communicate()
    main, log = ((tmp_path / "live" / name).read_bytes() for name in ("lab.db", "lab.db-wal"))
    for number in range(cuts):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "lab.db").write_bytes(main)
        (folder / "lab.db-wal").write_bytes(log[: random.randrange(len(log) + 1)])
        ledger = opened(str(folder / "lab.db"))
        assert care.check(ledger).sound
        (claims,), (replies,) = ledger.select("SELECT COUNT(*) FROM claims UNION ALL SELECT COUNT(*) FROM replies")
        assert claims == replies
        assert ledger.select("SELECT COUNT(*) FROM replies WHERE body NOT LIKE '{%}'") == [(0,)]
        ledger.close()
