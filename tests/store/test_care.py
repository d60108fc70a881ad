"""Check, backup and prune, on ledgers that are in use."""

import contextlib
import sqlite3
import threading
import time

import pytest

from llmops_lab.errors import BadInput, StoreError, UnknownName
from llmops_lab.records import Outcome, Reply, Score
from llmops_lab.store import care
from llmops_lab.store._dialect import dialect_for
from llmops_lab.store.ledger import CellRow, Ledger
from tests.store.conftest import DEAD

DAY = 86400.0
OK = Outcome("ok", Reply("yes", "stop"))


def make(ledger, grid, *keys, state="done", reply=True):
    """A whole grid: claimed, answered, scored, ended."""
    ledger.begin(grid, f"name of {grid}", {"scorers": ["exact"]}, [CellRow(at, key, "p", "m", key, 0) for at, key in enumerate(keys)])
    ledger.write(ledger.claims(grid, keys))
    if reply:
        ledger.write(*(ledger.reply(grid, key, key, OK) for key in keys))
        ledger.write(ledger.scores(grid, [(at, key, "exact", "m", Score(1.0)) for at, key in enumerate(keys)]))
    if state != "running":
        ledger.end(grid, state)


def age(place, days):
    """Make all that is recorded so far this much older."""
    dialect = dialect_for(place)
    with contextlib.closing(dialect.connect()) as connection:
        columns = ("grids", "started"), ("grids", "ended"), ("claims", "at"), ("replies", "at"), ("doubts", "at"), ("outbox", "done_at")
        for table, column in columns:
            connection.execute(f"UPDATE {table} SET {column} = {column} - {days * DAY}")


def rows(ledger, table):
    return ledger.select(f"SELECT COUNT(*) FROM {table}")[0][0]


# -- check -----------------------------------------------------------------------------------------------------------------
def test_a_sound_ledger(ledger, place):
    make(ledger, "g", "a", "b")
    ledger.write(ledger.doubts("g", ["a", "a"], "retried", "timeout"))
    ledger.outbox_done(ledger.outbox_add("grid", {}), "run")
    ledger.outbox_add("grid", {})
    health = care.check(ledger)
    assert (health.sound, health.problem, health.calls, health.waiting, health.doubts) == (True, "", 2, 1, 1)
    assert health.kind == ("sqlite" if place.endswith(".db") else "postgresql")
    assert health.journal == ("wal" if place.endswith(".db") else "")


@pytest.mark.parametrize("where", ["a table", "an index", "all pages but those of the schema"])
def test_a_damaged_file_is_not_sound_and_what_is_wrong_is_said(tmp_path, opened, where):
    path = tmp_path / "lab.db"
    ledger = opened(str(path))
    make(ledger, "g", *(f"key-{number:04}" for number in range(400)))
    pages = dict(ledger.select("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"))
    size = ledger.select("PRAGMA page_size")[0][0]
    ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    others = [page for page in range(2, len(data) // size + 1) if b"CREATE " not in data[(page - 1) * size : page * size]]
    damaged = {"a table": [pages["replies"]], "an index": [pages["replies_key"]]}.get(where, others)
    with open(path, "r+b") as file:
        for page in damaged:
            file.seek((page - 1) * size)
            file.write(b"\x5a" * size)
    health = care.check(opened(str(path)))
    assert not health.sound and health.problem
    assert health.place == str(path)


# -- backup ------------------------------------------------------------------------------------------------------------------
def test_a_backup_of_a_ledger_that_is_being_written_is_whole(tmp_path, opened):
    ledger = opened(str(tmp_path / "lab.db"))
    committed, stop = [], threading.Event()

    def write():
        while not stop.is_set():
            number = len(committed)
            ledger.write(ledger.claims("g", [f"k{number}"]), ledger.reply("g", f"k{number}", "r", OK))
            committed.append(f"k{number}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            while len(committed) < 20 * (number + 1):
                time.sleep(0.001)
            before = list(committed)
            path = care.backup(ledger, str(tmp_path / f"copy{number}.db"))
            copy = opened(str(path))
            assert care.check(copy).sound
            assert set(before) <= set(copy.answered(before))
            assert rows(copy, "claims") == rows(copy, "replies")  # what was written together is there together
    finally:
        stop.set()
        writer.join(30)
    assert not list(tmp_path.glob(".*"))


def test_a_backup_overwrites_nothing_and_names_what_is_wrong(tmp_path, opened):
    ledger = opened(str(tmp_path / "lab.db"))
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(BadInput, match="exists already"):
        care.backup(ledger, str(tmp_path / "copy.db"))
    assert (tmp_path / "copy.db").read_text() == "mine"
    with pytest.raises(BadInput, match=str(tmp_path / "nowhere")):
        care.backup(ledger, str(tmp_path / "nowhere" / "copy.db"))
    with pytest.raises(BadInput, match="cannot be written"):
        care.backup(ledger, "/proc/copy.db")


# -- prune -------------------------------------------------------------------------------------------------------------------
def test_old_grids_go_with_all_that_is_theirs(ledger, place):
    make(ledger, "old", "a", "b")
    ledger.outbox_done(ledger.outbox_add("grid", {"grid": "old"}), "run")
    age(place, 31)
    make(ledger, "new", "c")
    assert care.prune(ledger, days=30) == 2
    assert [grid["grid"] for grid in ledger.grids()] == ["new"]
    assert {table: rows(ledger, table) for table in ("cells", "claims", "replies", "scores", "outbox")} == {
        "cells": 1, "claims": 1, "replies": 1, "scores": 1, "outbox": 0,
    }  # fmt: skip
    assert ledger.answered(["a", "b", "c"]).keys() == {"c"}
    assert care.prune(ledger, days=30) == 0


def test_a_reply_that_a_young_grid_uses_stays_whatever_its_age(ledger, place):
    make(ledger, "old", "a", "b")
    age(place, 400)
    number = ledger.answered(["a"])["a"]
    ledger.begin("new", "new", {"scorers": []}, [CellRow(0, "a", "p", "m", "a", 0, reused=number)])
    ledger.end("new", "done")
    assert care.prune(ledger, days=30) == 1
    (cell,) = ledger.cells("new")
    assert cell.outcome == OK


def test_a_grid_that_was_gone_on_with_lately_stays_whole(ledger, place):
    make(ledger, "g", "a")
    age(place, 400)
    make(ledger, "g", "a", "b")
    assert care.prune(ledger, days=30) == 0
    assert [cell.outcome for cell in ledger.cells("g")] == [OK, OK]


def test_a_grid_that_runs_or_that_mlflow_has_not_got_stays(ledger, place, opened):
    make(ledger, "running", "a", state="running")
    make(ledger, "waiting", "b")
    ledger.outbox_add("grid", {"grid": "waiting"})
    make(opened(place, DEAD), "interrupted", "c", state="running")
    age(place, 400)
    assert care.prune(ledger, days=30) == 1
    assert {grid["grid"] for grid in ledger.grids()} == {"running", "waiting"}
    assert set(ledger.answered(["a", "b", "c"])) == {"a", "b"}
    assert len(ledger.outbox_pending()) == 1


def test_a_call_in_doubt_is_not_forgotten(ledger, place, opened):
    """A claim without an outcome says that a call may have been paid for. Pruned, the next grid would not name it."""
    make(opened(place, DEAD), "old", "lost", reply=False)
    ledger.begin("older", "older", {}, [CellRow(0, "told", "p", "m", "r", 0)])
    ledger.write(ledger.doubts("older", ["told"], "retried", "timeout"), ledger.reply("older", "told", "r", OK))
    ledger.end("older", "done")
    age(place, 400)
    care.prune(ledger, days=30)
    assert ledger.grids() == []
    ledger.begin("new", "new", {}, [CellRow(0, "lost", "p", "m", "r", 0), CellRow(1, "told", "p", "m", "r", 0)])
    assert ledger.settle_doubts("new", ["lost", "told"]) == ["lost"]
    assert ledger.doubted("new") == ["lost", "told"]


def test_a_call_half_of_whose_story_is_old_is_kept_whole(ledger, place, opened):
    dead = opened(place, DEAD)
    dead.write(dead.claims("g", ["k"]))
    age(place, 400)
    ledger.write(ledger.reply("g", "k", "r", OK))
    care.prune(ledger, days=30)
    dead.write(dead.claims("g", ["k"]))  # lost for good, this one: it must not be set off against the old claim's reply
    assert ledger.settle_doubts("g", ["k"]) == ["k"]


def test_pruning_gives_the_space_back(tmp_path, opened):
    path = tmp_path / "lab.db"
    ledger = opened(str(path))
    ledger.write(*(ledger.reply("g", f"k{number}", "r", Outcome("ok", Reply("x" * 10_000, "stop"))) for number in range(300)))
    age(str(path), 2)
    assert care.prune(ledger, days=1) == 300
    assert path.stat().st_size < 300_000  # of the three million that the replies were


@pytest.mark.parametrize("days", [0, -1, float("nan")])
def test_a_number_of_days_that_is_none_is_refused(tmp_path, opened, days):
    with pytest.raises(BadInput, match="days"):
        care.prune(opened(str(tmp_path / "lab.db")), days=days)


# -- forget: the ledger's part (the whole story is in test_forget) -----------------------------------------------------------
def test_a_row_is_forgotten_in_every_grid_and_the_others_stay(ledger):
    make(ledger, "g1", "a", "b")
    make(ledger, "g2", "a", "c")
    gone = care.forget_row(ledger, "a")
    assert {grid["grid"] for grid in gone.grids} == {"g1", "g2"} and (gone.cells, gone.replies) == (2, 2)
    assert [[cell.row.key for cell in ledger.cells(grid)] for grid in ("g1", "g2")] == [["b"], ["c"]]
    assert [key for key, *_ in ledger.select("SELECT key FROM scores ORDER BY seq")] == ["b", "c"]
    assert not any(rows(ledger, f"{table} WHERE key = 'a'") for table in ("claims", "replies", "doubts", "scores", "cells"))
    with pytest.raises(UnknownName, match="row"):
        care.forget_row(ledger, "a")


def test_a_row_with_an_id_that_no_database_takes_can_be_forgotten(ledger):
    ledger.begin("g", "g", {}, [CellRow(0, "k", "p", "m", "id \x00\ud800", 0)])
    ledger.write(ledger.reply("g", "k", "id \x00\ud800", OK))
    ledger.end("g", "done")
    assert care.forget_row(ledger, "id \x00\ud800").cells == 1


def test_a_row_whose_text_another_row_shares_takes_that_cell_along_and_says_so(ledger):
    make(ledger, "g", "k")
    ledger.begin("g2", "g2", {}, [CellRow(0, "k", "p", "m", "twin", 0, reused=ledger.answered(["k"])["k"])])
    ledger.end("g2", "done")
    gone = care.forget_row(ledger, "k")
    assert gone.other_rows == ("twin",) and list(ledger.cells("g2")) == []


def test_a_row_of_a_grid_that_runs_is_refused(ledger):
    make(ledger, "g", "a", state="running")
    with pytest.raises(BadInput, match="still runs"):
        care.forget_row(ledger, "a")
    assert set(ledger.answered(["a"])) == {"a"}


def test_bytes_that_a_reader_holds_on_to_are_not_called_overwritten(tmp_path, opened, monkeypatch):
    monkeypatch.setattr("llmops_lab.store._dialect.BUSY_SECONDS", 0.2)
    path = tmp_path / "lab.db"
    ledger = Ledger(dialect_for(str(path)))
    make(ledger, "g", "planted-in-the-ledger", "b")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM replies").fetchone()
        with pytest.raises(StoreError, match="not overwritten yet"):
            care.forget_row(ledger, "planted-in-the-ledger")
    assert any(b"planted-in-the-ledger" in file.read_bytes() for file in tmp_path.glob("lab.db*"))
    care.prune(ledger, days=1000)
    assert not any(b"planted-in-the-ledger" in file.read_bytes() for file in tmp_path.glob("lab.db*"))
    ledger.close()
