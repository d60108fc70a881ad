"""Where a ledger may lie: filesystems, files that are damaged or taken away, and URLs whose password nobody may see."""

import contextlib
import os
import sqlite3
import traceback

import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput, LabError, StoreError
from llmops_lab.records import Outcome
from llmops_lab.settings import Settings
from llmops_lab.store import care
from llmops_lab.store._dialect import dialect_for, filesystem_of, journal_mode
from llmops_lab.store.ledger import Ledger, open_ledger
from tests.postgres import PASSWORD, QUOTED

MOUNTS = r"""
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/me/fast tmpfs rw 0 0
//nas/share /mnt/my\040share cifs rw 0 0
/dev/sdb1 /mnt/my\040shared ext4 rw 0 0
sshfs /mnt/far fuse.sshfs rw 0 0
overlay /mnt/container fuse.fuse-overlayfs rw 0 0
drive /mnt/stick fuseblk rw 0 0
C: /mnt/c 9p rw 0 0
/dev/sdc1 /over ext4 rw 0 0
server:/over /over nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind", "journal"),
    [
        ("/srv/lab.db", "ext4", "wal"),
        ("/home/me/lab.db", "nfs4", "delete"),
        ("/homes/me/lab.db", "ext4", "wal"),
        ("/home/me/fast/lab.db", "tmpfs", "wal"),
        ("/mnt/my share/lab.db", "cifs", "delete"),
        ("/mnt/my shared/lab.db", "ext4", "wal"),
        ("/mnt/far/lab.db", "fuse.sshfs", "delete"),
        ("/mnt/container/lab.db", "fuse.fuse-overlayfs", "wal"),
        ("/mnt/stick/lab.db", "fuseblk", "wal"),
        ("/mnt/c/lab.db", "9p", "delete"),
        ("/over/lab.db", "nfs", "delete"),
    ],
)
def test_a_rollback_journal_on_a_network_filesystem(path, kind, journal):
    assert filesystem_of(path, MOUNTS) == kind
    assert journal_mode(path, MOUNTS) == journal


def test_a_link_into_a_network_filesystem_is_followed(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "project").symlink_to(tmp_path / "far")
    mounts = f"/dev/vda / ext4 rw 0 0\nserver:/x {tmp_path}/far nfs rw 0 0\n"
    assert journal_mode(str(tmp_path / "project" / "lab.db"), mounts) == "delete"


def test_without_a_table_of_mounts_the_disk_is_local():
    assert filesystem_of("/srv/lab.db", "") == "" and journal_mode("/srv/lab.db", "") == "wal"


def test_a_ledger_on_a_network_filesystem_works_and_the_check_says_so(tmp_path):
    path = str(tmp_path / "lab.db")
    Ledger(dialect_for(path)).close()  # made on a local disk, moved later
    ledger = Ledger(dialect_for(path, mounts=f"server:/x {tmp_path} nfs4 rw 0 0"))
    ledger.begin("g", "name", {}, [])
    ledger.write(ledger.reply("g", "k", "r", Outcome("failed", None, "timeout", "slow")))
    health = care.check(ledger)
    assert (health.journal, health.sound, health.calls) == ("delete", True, 1)
    assert sorted(os.listdir(tmp_path)) == ["lab.db"]
    assert ledger.grid("g")["name"] == "name"
    ledger.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=str(tmp_path / "file")) as caught:
        open_ledger(Settings(home=str(tmp_path / "file" / "home")))
    assert caught.value.path.startswith(str(tmp_path))
    with pytest.raises(StoreError, match="Is its folder there"):
        open_ledger(Settings(ledger=str(tmp_path / "nowhere" / "lab.db")))


def test_a_file_that_is_no_ledger_is_named_and_left_alone(tmp_path):
    path = tmp_path / "lab.db"
    path.write_bytes(b"not a database, but somebody's only copy of something " * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="put a backup in its place") as caught:
        open_ledger(Settings(ledger=str(path)))
    assert str(path) in str(caught.value) and path.read_bytes() == before


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_ledger_taken_away_in_use_is_noticed_and_the_next_one_begins(home, how):
    """Without a look at the file, SQLite goes on writing into one that nobody will ever find."""
    wanted = {"rows": [{"id": "1", "q": "a"}], "models": ["echo"], "track": False}
    grid = lab.grid({"p": "{{ q }}"}, **wanted)
    for path in home.glob("lab.db*"):
        path.unlink() if how == "deleted" else path.rename(path.with_suffix(".old"))
    if how == "replaced":
        with contextlib.closing(sqlite3.connect(home / "lab.db")) as other:
            other.execute("CREATE TABLE something (x)")
    with pytest.raises(StoreError, match=r"deleted or replaced") as caught:
        grid.frame()
    assert caught.value.path == str(home / "lab.db")
    again = lab.grid({"p": "{{ q }}"}, **wanted)
    assert (again.state, again.calls, again.reused) == ("done", 1, 0)
    with contextlib.closing(sqlite3.connect(home / "lab.db")) as file:
        assert file.execute("SELECT COUNT(*) FROM replies").fetchone() == (1,)


# -- URLs --------------------------------------------------------------------------------------------------------------------
def everything_shown(error):
    return "".join(traceback.format_exception(error)) + repr(error) + str(error) + "".join(error._render_traceback_())


def assert_hidden(text):
    for secret in (PASSWORD, QUOTED, "p@ss", "p%40ss", "w:rd", "w%3Ard", "%235", "#5"):
        assert secret not in text


def test_the_password_of_a_working_ledger_is_shown_nowhere(postgres):
    url = postgres.database()
    ledger = open_ledger(Settings(ledger=url))
    assert ledger.place == f"127.0.0.1:{postgres.port}/{url.rpartition('/')[2]}"
    assert_hidden(f"{ledger.place} {ledger!r} {ledger.dialect!r} {ledger!s} {care.check(ledger)!r} {Settings(ledger=url)!r}")
    with pytest.raises(StoreError) as caught:
        ledger.write(("INSERT INTO nowhere VALUES (?)", [(1,)]))
    assert_hidden(everything_shown(caught.value))
    with pytest.raises(BadInput, match="pg_dump") as refused:
        care.backup(ledger, "copy.db")
    assert_hidden(everything_shown(refused.value))


def test_the_password_as_a_parameter_of_the_url_works_and_is_hidden_too(postgres):
    name = postgres.database().rpartition("/")[2]
    ledger = open_ledger(Settings(ledger=f"postgresql:///{name}?host=127.0.0.1&port={postgres.port}&user=lab&password={QUOTED}"))
    assert ledger.place == f"127.0.0.1:{postgres.port}/{name}" and care.check(ledger).sound


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://lab:{QUOTED}x@127.0.0.1:PORT/postgres",  # the wrong one
        f"postgresql://lab:{QUOTED}@127.0.0.1:1/postgres",  # nobody there
        f"postgresql://lab:{QUOTED}@127.0.0.1:PORT/nowhere",  # no such database
        f"postgresql://lab:{PASSWORD}@127.0.0.1:PORT/postgres",  # not percent-encoded
        "postgresql://lab:p@ss/w@127.0.0.1:PORT/postgres",
        "postgresql://lab:5432/p@ss@127.0.0.1:PORT/postgres",
        "postgresql://lab:55?p@ss=w:rd@127.0.0.1:PORT/postgres",
        f"postgresql:///postgres?host=127.0.0.1&port=PORT&user=lab&pasword={QUOTED}",  # a slip of the pen
        f"postgresql+psycopg://lab:{QUOTED}@127.0.0.1:PORT/postgres",
        f"mysql://lab:{QUOTED}@127.0.0.1/lab",
    ],
)
def test_an_error_about_the_url_never_shows_the_password(postgres, url):
    with pytest.raises(LabError) as caught:
        open_ledger(Settings(ledger=url.replace("PORT", str(postgres.port))))
    assert isinstance(caught.value, StoreError | BadInput)
    assert_hidden(everything_shown(caught.value))


FIRST = {"grids", "cells", "claims", "replies", "doubts", "scores", "outbox"}
BEFORE_JOBS = FIRST | {"rows", "summaries", "queues", "items", "ratings", "leases", "adjudications", "cards"}


@pytest.mark.parametrize("known", [FIRST, BEFORE_JOBS], ids=["the first", "before jobs"])
def test_a_ledger_of_an_older_version_gets_the_tables_that_came_later(tmp_path, known):
    place = str(tmp_path / "lab.db")
    ledger = Ledger(dialect_for(place))
    ledger.begin("g1", "first", {}, ())
    ledger.close()
    with contextlib.closing(sqlite3.connect(place)) as older:
        tables = {name for (name,) in older.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")}
        later = tables - known
        for name in later:
            older.execute(f"DROP TABLE {name}")
    assert {"jobs", "audit"} <= later
    ledger = Ledger(dialect_for(place))
    assert {name: ledger.select(f"SELECT COUNT(*) FROM {name}") for name in later} == {name: [(0,)] for name in later}
    assert ledger.grid("first")["grid"] == "g1"
    ledger.close()
