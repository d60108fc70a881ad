"""Looking after the ledger from a terminal."""

import sqlite3

import pytest

from llmops_lab import cli

GRID = ["grid", "--prompts", "p.toml", "--rows", "r.csv", "--model", "echo", "--no-track"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
    (tmp_path / "p.toml").write_text('[plain]\ntemplate = "{{ question }}"\n')
    (tmp_path / "r.csv").write_text("id,question\ncustomer-1,first words\ncustomer-2,second words\n")
    assert cli.main(GRID) == 0
    return tmp_path / "home"


def replies(path):
    return sqlite3.connect(path).execute("SELECT COUNT(*) FROM replies").fetchone()[0]


def test_a_backup_is_a_whole_ledger_and_overwrites_nothing(tmp_path, capsys):
    assert cli.main(["ledger", "backup", "copy.db"]) == 0
    assert "copy.db" in capsys.readouterr().out and replies(tmp_path / "copy.db") == 2
    assert cli.main(["ledger", "backup", "copy.db"]) == 2
    assert "copy.db" in capsys.readouterr().err


def test_a_forgotten_row_is_gone_and_a_row_that_nobody_knows_is_named(home, capsys):
    assert cli.main(["ledger", "forget", "customer-1"]) == 0
    assert "customer-1" in capsys.readouterr().out
    assert all(b"first words" not in path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert replies(home / "lab.db") == 1
    assert cli.main(["ledger", "forget", "customer-9"]) == 2
    assert "customer-9" in capsys.readouterr().err


def test_pruning_keeps_what_is_young_and_wants_a_number_of_days(home, capsys):
    assert cli.main(["ledger", "prune", "--days", "1"]) == 0
    assert "0 replies" in capsys.readouterr().out and replies(home / "lab.db") == 2
    assert cli.main(["ledger", "prune", "--days", "soon"]) == 2
    assert "soon" in capsys.readouterr().err
