import contextlib
import dataclasses
import http.server
import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llmops_lab.errors import BadInput, StoreError
from llmops_lab.settings import Settings
from llmops_lab.track import connect


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    for name in connect.DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    return Settings(home=str(tmp_path / "home"))


@pytest.fixture
def with_store(settings, mlflow_home):
    """The settings of a home that has a store already."""
    shutil.copytree(mlflow_home, settings.home)
    return settings


def run(code, home, **environment):
    env = {**{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}, "LLMOPS_LAB_HOME": str(home), **environment}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    script = f"from llmops_lab import settings\nfrom llmops_lab.track import connect\nsettings = settings.load()\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home.parent
    )


def finished(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out, err


def test_several_processes_may_start_on_an_empty_store_at_once(tmp_path):
    code = "print(len(connect.client(settings).search_experiments()))"
    processes = [run(code, tmp_path / "home") for _ in range(3)]
    for process in processes:
        assert finished(process) == ("1\n", "")
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == [
        ".gitignore",
        ".mlflow.db.lock",
        ".mlflow.db.version",
        "mlflow.db",
    ]


def test_a_lean_start_has_what_a_job_needs_and_leaves_pandas_to_who_wants_it(tmp_path):
    code = """
connect.open_lean(settings)
client = connect.client(settings)
run = client.create_run("0").info.run_id
client.log_metric(run, "cells", 3.0)
import sys
loaded = [name for name in ("mlflow", "numpy", "pandas") if name in sys.modules]
import pandas
print(loaded, client.get_run(run).data.metrics, pandas.DataFrame({"a": [1]}).a.sum())
"""
    assert finished(run(code, tmp_path / "home"))[0] == "['mlflow'] {'cells': 3.0} 1\n"


def test_the_process_is_pinned_before_mlflow_is_imported(tmp_path):
    code = """
import os, sys
uri = connect.prepare(settings)
import mlflow
assert mlflow.get_tracking_uri() == uri, mlflow.get_tracking_uri()
connect.client(settings)
import logging; logging.disable()
print(uri, mlflow.set_experiment("mine").artifact_location)
print(os.environ["MLFLOW_DISABLE_TELEMETRY"], os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"])
from mlflow.telemetry import get_telemetry_client
print(get_telemetry_client())
"""
    out, _ = finished(run(code, tmp_path / "home"))
    home = tmp_path / "home"
    assert out == f"sqlite:///{home}/mlflow.db {home}/mlartifacts/1\ntrue false\nNone\n"


def test_the_tracking_uri_that_the_user_set_is_kept(settings, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert connect.prepare(settings) == "http://127.0.0.1:9"
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"
    chosen = dataclasses.replace(settings, tracking_uri="http://127.0.0.1:10")
    assert connect.prepare(chosen) == "http://127.0.0.1:10"
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"


def test_variables_that_the_user_set_are_kept(settings, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "99")
    connect.prepare(settings)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "99"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"


def test_each_home_has_its_own_store(settings, tmp_path):
    first = connect.tracking_uri(settings)
    os.environ["MLFLOW_TRACKING_URI"] = ""
    other = dataclasses.replace(settings, home=str(tmp_path / "100% a?b c"))
    assert first == f"sqlite:///{tmp_path}/home/mlflow.db"
    assert connect.client(other).search_experiments()[0].artifact_location.endswith("a?b c/mlartifacts/0")
    assert (tmp_path / "100% a?b c" / "mlflow.db").is_file()
    assert connect.client(other) is connect.client(other)
    assert connect.tracking_uri(settings) == first


def test_a_relative_store_belongs_to_the_project_or_to_the_variable(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").mkdir()
    relative = dataclasses.replace(settings, tracking_uri="sqlite:///x.db", project=str(tmp_path / "project"))
    assert connect.tracking_uri(relative) == f"sqlite:///{tmp_path}/project/x.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///x.db")
    assert connect.tracking_uri(relative) == f"sqlite:///{tmp_path}/x.db"


def revision(path):
    with contextlib.closing(sqlite3.connect(path)) as store:
        return store.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def test_an_old_store_is_upgraded_after_a_copy_was_made(with_store, tmp_path):
    uri = connect.prepare(with_store)
    path = tmp_path / "home" / "mlflow.db"
    head = revision(path)
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config

    logging.disable()
    command.downgrade(_get_alembic_config(uri), "-1")
    logging.disable(logging.NOTSET)
    old = revision(path)
    assert old != head
    (tmp_path / "home" / ".mlflow.db.version").write_text("3.16.0")
    assert connect.client(with_store).search_experiments()
    assert revision(path) == head
    assert revision(tmp_path / "home" / "mlflow.db.before-upgrade") == old


def test_a_store_of_a_later_mlflow_is_refused_with_a_copy_made(with_store, tmp_path):
    path = tmp_path / "home" / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    (tmp_path / "home" / ".mlflow.db.version").unlink()
    with pytest.raises(StoreError, match=r"cannot be used by MLflow .*A copy is"):
        connect.client(with_store)


def test_a_store_that_cannot_be_made_names_its_path(settings, tmp_path):
    (tmp_path / "file").write_text("")
    blocked = dataclasses.replace(settings, tracking_uri=f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(StoreError, match=r"file/mlflow.db cannot be made.*Make space") as raised:
        connect.client(blocked)
    assert raised.value.path == f"{tmp_path}/file/mlflow.db"


def test_a_store_that_is_no_database_is_said_at_once(settings, tmp_path):
    (tmp_path / "broken.db").write_text("not a database, " * 100)
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"broken\.db cannot be opened: file is not a database") as raised:
        connect.client(dataclasses.replace(settings, tracking_uri=f"sqlite:///{tmp_path}/broken.db"))
    assert raised.value.path == f"{tmp_path}/broken.db"
    assert time.monotonic() - started < 30


def test_a_uri_that_mlflow_refuses_is_wrong_use(settings):
    with pytest.raises(BadInput, match=r"MLflow refuses the tracking URI nonsense://\[redacted\]@x"):
        connect.client(dataclasses.replace(settings, tracking_uri="nonsense://user:hunter2@x"))


def test_a_file_store_is_always_reachable(settings):
    assert connect.reachable(settings)


class Answer(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(("status", "up"), [(200, True), (401, True), (404, True), (500, True), (502, False), (503, False)])
def test_any_answer_but_a_proxys_complaint_means_reachable(settings, status, up):
    handler = type("Handler", (Answer,), {"status": status})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert connect.reachable(dataclasses.replace(settings, tracking_uri=f"http://127.0.0.1:{server.server_port}/")) is up


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_nobody_there_is_known_at_once(settings, scheme):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    assert not connect.reachable(dataclasses.replace(settings, tracking_uri=f"{scheme}://u:p@127.0.0.1:{port}/db"))
    assert time.monotonic() - started < 20  # nothing here is timed: it must only not hang


def test_a_server_that_hangs_costs_no_more_than_was_given(settings):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hung = dataclasses.replace(settings, tracking_uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert not connect.reachable(hung, 0.3)
        assert time.monotonic() - started < 20
        assert connect.reachable(dataclasses.replace(settings, tracking_uri=f"postgresql://127.0.0.1:{silent.getsockname()[1]}/db"))


def test_checking_reachability_loads_no_mlflow(tmp_path):
    code = "import sys; print(connect.reachable(settings, 0.5), 'mlflow' in sys.modules)"
    assert finished(run(code, tmp_path / "home", MLFLOW_TRACKING_URI="http://127.0.0.1:9")) == ("False False\n", "")


def test_a_store_that_is_not_ours_is_left_to_its_owner(settings, mlflow_home, tmp_path):
    shutil.copy(mlflow_home / "mlflow.db", tmp_path / "theirs.db")
    connect.client(dataclasses.replace(settings, tracking_uri=f"sqlite:///{tmp_path}/theirs.db"))
    assert [path.name for path in tmp_path.glob("*theirs*")] == ["theirs.db"]
    assert not (tmp_path / "home" / "mlflow.db").exists()
