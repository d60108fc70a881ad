"""The main job through the public door: real ledger, real HTTP server, real exit codes."""

import sqlite3

import pytest

import llmops_lab as lab
from llmops_lab import cli
from llmops_lab.errors import BadInput, DoesNotPair, UnknownName
from tests.servers import ModelServer

ROWS = [{"id": str(number), "question": f"What is {number} plus 1?", "answer": f"What is {number} plus 1?"} for number in range(12)]

pytestmark = pytest.mark.usefixtures("home")


def ask(**changes):
    wanted = {"prompts": {"plain": "{{ question }}"}, "rows": ROWS, "models": ["echo"], "scorers": ["exact"], "expected": "answer"}
    return lab.grid(**{**wanted, "track": False, **changes})


def test_a_grid_is_scored_and_read_back():
    grid = ask(prompts={"plain": "{{ question }}", "more": "Please: {{ question }}"})
    assert grid.state == "done" and grid.calls == 24
    frame = grid.frame()
    assert list(frame["status"].unique()) == ["ok"] and frame["key"].nunique() == 24
    means = grid.summary().set_index("prompt")["exact"]
    assert means["plain"] == 1.0 and means["more"] == 0.0


def test_recorded_calls_are_not_sent_again_and_fresh_ones_are():
    ask()
    again = ask()
    assert (again.calls, again.reused) == (0, 12) and again.summary()["exact"][0] == 1.0
    assert ask(reuse=False).calls == 12


def test_twin_rows_and_repeats_are_not_collapsed():
    twins = [{"question": "Same", "answer": "Same"}] * 3
    grid = ask(rows=twins, repeats=2)
    assert grid.calls == 6 and grid.frame()["key"].nunique() == 6


def test_a_comparison_ends_in_a_verdict():
    grid = ask(prompts={"plain": "{{ question }}", "more": "Please: {{ question }}"})
    verdict = lab.compare(grid, a="plain", b="more", scorer="exact")
    assert verdict.outcome == "worse" and verdict.delta == -1.0 and verdict.n_pairs == 12
    with pytest.raises(DoesNotPair):
        lab.compare(ask(rows=ROWS[:6], name="few"), ask(rows=ROWS[6:], name="others"), scorer="exact")


def test_a_grid_that_is_cancelled_at_once_is_cancelled():
    rows = [{"question": str(number)} for number in range(500)]
    for _ in range(10):
        grid = ask(rows=rows, scorers=[], expected=None, reuse=False, wait=False)
        grid.cancel()
        assert grid.wait().state == "cancelled" and grid.calls < 500


def test_failed_calls_are_failed_cells_and_never_scored():
    with ModelServer() as server:
        server.always("401")
        grid = ask(models=[f"openai:m@{server.url}"])
    frame = grid.frame()
    assert set(frame["status"]) == {"failed"} and set(frame["error"]) == {"unauthorized"}
    assert frame["exact"].isna().all() and grid.summary()["exact_n"][0] == 0
    assert "12 failed (row 0: unauthorized, HTTP 401" in repr(grid)


def test_no_answer_at_all_is_unreachable_and_resumable():
    with ModelServer() as server:
        url = server.url
    grid = ask(models=[f"openai:m@{url}"], retries=0)
    assert grid.state == "unreachable" and grid.summary()["n_ok"][0] == 0


def test_a_budget_stops_before_the_call_that_would_pass_it():
    with ModelServer() as server:
        spec = f"openai:m@{server.url}"
        with pytest.raises(BadInput, match="price"):
            ask(models=[spec], budget=1.0)
        lab.configure(prices={spec: {"input": 1000.0, "output": 1000.0}})
        try:
            grid = ask(models=[spec], budget=0.1, params={"max_tokens": 10}, concurrency=2)
        finally:
            lab.configure(prices=None)
        assert grid.state == "budget" and 0 < grid.spent <= 0.1
        assert set(grid.frame().query("status == 'skipped'")["error"]) == {"budget"}


def test_a_secret_is_sent_but_not_stored(home, monkeypatch):
    monkeypatch.setenv("PLANTED_API_KEY", "planted-value-12345")
    with ModelServer() as server:
        ask(rows=[{"id": "1", "question": "planted-value-12345", "answer": "x"}], models=[f"openai:m@{server.url}"])
        assert server.count("planted-value-12345") == 1
    for path in home.rglob("*"):
        if path.is_file():
            assert b"planted-value-12345" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"models": ["tinny"]}, UnknownName, "tiny"),
        ({"scorers": ["exactt"]}, UnknownName, "exact"),
        ({"prompts": {"p": "{{ qestion }}"}}, BadInput, "question"),
        ({"expected": "anser"}, UnknownName, "answer"),
        ({"rows": []}, BadInput, "no rows"),
        ({"rows": [{"id": "1", "question": "a", "answer": "b"}] * 2}, BadInput, "'1' occurs 2 times"),
        ({"budget": 0}, BadInput, "budget"),
        ({"repeats": "two"}, BadInput, "repeats"),
    ],
)
def test_bad_input_names_the_thing_before_any_call(changes, error, words, home):
    with pytest.raises(error, match=words):
        ask(**changes)
    ledger = home / "lab.db"
    assert not ledger.exists() or sqlite3.connect(ledger).execute("SELECT COUNT(*) FROM grids").fetchone() == (0,)


def test_the_command_line_exits_as_the_table_says(tmp_path, capsys):
    (tmp_path / "p.toml").write_text('[plain]\ntemplate = "{{ question }}"\n')
    (tmp_path / "r.csv").write_text("id,question,answer\n1,a,a\n2,b,b\n")
    base = ["grid", "--prompts", "p.toml", "--rows", "r.csv", "--scorer", "exact", "--expected", "answer", "--no-track"]
    assert cli.main([*base, "--model", "echo"]) == 0
    assert "state: done" in capsys.readouterr().out
    assert cli.main([*base, "--model", "ecko"]) == 2
    assert "echo" in capsys.readouterr().err
    (tmp_path / "r.csv").write_bytes(b"id,question,answer\n1,\xff,a\n")
    assert cli.main([*base, "--model", "echo"]) == 2
    assert "line 2" in capsys.readouterr().err
