"""Jobs whose ledger is a PostgreSQL server: it may be away for a while, and its password is written nowhere."""

import pytest

import llmops_lab as lab
from tests.jobs.queues import notebook, project, services
from tests.postgres import QUOTED, PostgresServer, Unavailable
from tests.waiting import until


@pytest.fixture(scope="module")
def server():
    try:
        with PostgresServer() as running:
            yield running
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_jobs_that_wait_keep_their_environment_while_the_ledger_is_away(server, tmp_path, empty_mlflow, monkeypatch):
    with project(tmp_path, empty_mlflow):
        monkeypatch.setenv("LLMOPS_LAB_LEDGER", server.database())
        monkeypatch.setenv("LLMOPS_LAB_JOBS_AT_ONCE", "1")
        slow = notebook(tmp_path / "slow.ipynb", "import time\nprint('began', flush=True)\ntime.sleep(5)")
        path = notebook(tmp_path / "told.ipynb", "import os\nprint(os.environ['WHO_ASKS'])")
        first = lab.run(slow)
        monkeypatch.setenv("WHO_ASKS", "ann")
        second = lab.run(path)
        monkeypatch.setenv("WHO_ASKS", "bob")
        until(lambda: "began" in first.logs())
        service = services(tmp_path / "home")
        server.stop()
        until(lambda: _said(tmp_path), 20, "the service does not say that the ledger is away")
        server.start()
        assert [each.wait(60).state for each in (first, second)] == ["succeeded", "succeeded"]
        assert services(tmp_path / "home") == service != [] and second.logs() == "ann\n"
        kept = [file for file in tmp_path.rglob("*") if file.is_file() and QUOTED.encode() in file.read_bytes()]
        assert kept == []


def _said(folder):
    return "".join(log.read_text() for log in (folder / "home").glob("service*.log"))
