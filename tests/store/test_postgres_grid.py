"""Whole grids with the ledger in PostgreSQL: the setting is a URL, and nothing else is different."""

import time

import pandas
import pytest

import llmops_lab as lab
from llmops_lab import cli, settings
from llmops_lab.errors import StoreError
from llmops_lab.store import care
from llmops_lab.store.ledger import open_ledger
from tests.servers import ModelServer

ROWS = [
    {"id": f"r{number}", "question": f"Say {number} \u00e9 \u202e %s ?", "answer": f"Say {number} \u00e9 \u202e %s ?"}
    for number in range(30)
]
PROMPTS = {"plain": "{{ question }}", "more": "Please: {{ question }}"}
TIMES = ["latency_s", "ttft_s", "latency_p50", "latency_p95"]


def ask(server, **changes):
    wanted = {"rows": ROWS, "models": [f"openai:m@{server.url}"], "scorers": ["exact", "length"], "expected": "answer", "repeats": 2}
    return lab.grid(PROMPTS, **{**wanted, "track": False, "retries": 0, **changes})


@pytest.fixture
def in_postgres(home, postgres, monkeypatch):
    url = postgres.database()
    monkeypatch.setenv("LLMOPS_LAB_LEDGER", url)
    return url


def without_times(frame):
    return frame.drop(columns=[name for name in TIMES if name in frame])


def test_a_grid_fails_in_part_is_gone_on_with_and_equals_the_one_in_sqlite(home, postgres, monkeypatch):
    frames, summaries = [], []
    with ModelServer() as server:
        for ledger in (None, postgres.database()):
            if ledger:
                monkeypatch.setenv("LLMOPS_LAB_LEDGER", ledger)
            server.clear()
            for number in range(0, 30, 3):
                server.script("500", "500", text=f"Say {number} \u00e9 \u202e %s ?")
            grid = ask(server)
            assert grid.state == "done" and set(grid.frame()["status"]) == {"ok", "failed"}
            failed = grid.frame()
            grid.resume()
            frames += [without_times(failed), without_times(grid.frame())]
            summaries.append(without_times(grid.summary()))
            assert grid.calls == 140 and set(grid.frame()["status"]) == {"ok"}
            again = ask(server)
            assert (again.calls, again.reused) == (0, 120)
            pandas.testing.assert_frame_equal(without_times(again.frame()), frames[-1])
            pandas.testing.assert_frame_equal(without_times(lab.load(grid.grid_id).frame()), frames[-1])
    pandas.testing.assert_frame_equal(frames[0], frames[2])
    pandas.testing.assert_frame_equal(frames[1], frames[3])
    pandas.testing.assert_frame_equal(summaries[0], summaries[1])
    assert care.check(open_ledger(settings.load())).calls == 140


def test_the_ledger_s_file_is_not_made_and_the_run_is_logged(home, in_postgres, mlflow_store):
    grid = lab.grid(PROMPTS, ROWS[:3], models=["echo"], scorers=["exact"], expected="answer")
    assert grid.run_id and lab.load(grid.run_id).grid_id == grid.grid_id
    assert not list(home.glob("lab.db*"))
    assert lab.compare(grid, a="plain", b="more", scorer="exact").delta == -1.0


def test_a_server_that_is_updated_between_two_grids_is_no_matter(in_postgres, postgres):
    with ModelServer() as server:
        ask(server)
        postgres.restart()
        again = ask(server)
    assert (again.state, again.calls, again.reused) == ("done", 0, 120)


def test_a_server_that_goes_away_in_the_middle_ends_the_grid_with_its_name_and_it_can_be_gone_on_with(in_postgres, postgres):
    with ModelServer(latency_ms=50) as server:
        grid = ask(server, wait=False, concurrency=4)
        while len(server.requests) < 30:
            time.sleep(0.01)
        postgres.stop()
        try:
            with pytest.raises(StoreError, match=f"127.0.0.1:{postgres.port}"):
                grid.wait()
        finally:
            postgres.start()
        server.latency_s = 0
        again = ask(server)
        assert again.state == "done" and again.reused >= 20 and set(again.frame()["status"]) == {"ok"}
        sent_twice = sum(count > 2 for count in server.counts.values())
    assert sent_twice <= 4 and len(again.maybe_paid_twice) >= sent_twice


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///x?host=127.0.0.1&port=1&user=u&password=hunter2hunter2",
        "postgresql://u:hun/hunter2hunter2@127.0.0.1:1/db",
        "postgresql://u:hunter2hunter2@127.0.0.1:1/db",
    ],
)
def test_doctor_shows_no_password_of_any_url(home, monkeypatch, capsys, url):
    monkeypatch.setenv("LLMOPS_LAB_LEDGER", url)
    cli.main(["doctor"])
    said = capsys.readouterr()
    assert "hunter2" not in said.out + said.err
    assert "ledger = 'postgresql://" in said.out


def test_the_command_line_says_what_is_wrong_without_the_password(home, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LLMOPS_LAB_LEDGER", "postgresql://lab:hunter2hunter2@127.0.0.1:1/lab")
    (tmp_path / "p.toml").write_text('[plain]\ntemplate = "{{ question }}"\n')
    (tmp_path / "r.csv").write_text("id,question\n1,a\n")
    assert cli.main(["grid", "--prompts", "p.toml", "--rows", "r.csv", "--model", "echo", "--no-track"]) == 1
    said = capsys.readouterr()
    assert "127.0.0.1:1/lab" in said.err and "hunter2" not in said.err + said.out
