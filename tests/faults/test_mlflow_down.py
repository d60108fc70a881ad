"""MLflow away before, during and after a grid, in every way: the grid returns, nothing is lost, nothing is there twice once it is back.

A real ``mlflow server`` is killed and started again. For the moments that a kill seldom hits there is a line in front of it that
can be cut at any request, before the server has seen it or after it has answered. What the tests look at is read from the server
itself, past the line.
"""

import asyncio
import contextlib
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import aiohttp
import pandas
import pytest
from aiohttp import web

import llmops_lab as lab
from llmops_lab.settings import Settings, load
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track import connect
from llmops_lab.track import outbox as boxes
from tests.faults.conftest import FULL, environment, full
from tests.mlflow_server import MlflowServer
from tests.servers import ModelServer

GENEROUS = 60.0  # seconds; MLflow's own way of finding out that its server is away takes four minutes
ROWS = [{"id": str(number), "question": f"question {number}"} for number in range(30)]
LOCKED = ("question 3", "question 17")  # cells that fail, so that each gets a trace


class Line:
    """What lies between a client and the server; ``cut(n, seen)`` breaks it at the n-th request from now on."""

    def __init__(self, target):
        self._target, self._loop, self._ready = target, asyncio.new_event_loop(), threading.Event()
        self.requests, self._at, self._seen, self.broken = 0, None, False, False
        threading.Thread(target=self._run, daemon=True, name="line").start()
        self._ready.wait(10)

    def cut(self, at, seen):
        self.requests, self._at, self._seen = 0, at, seen

    def mend(self):
        self.requests, self._at, self.broken = 0, None, False

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.run_forever()

    async def _serve(self):
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._ready.set()

    async def _pass(self, request):
        body = await request.read()
        self.requests += 1
        last = self.requests == self._at
        if self.broken or (last and not self._seen):
            return self._abort(request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")}
        try:
            async with self._session.request(request.method, self._target + request.raw_path, headers=headers, data=body) as answer:
                data = await answer.read()
        except aiohttp.ClientError:  # the server itself is away
            request.transport.abort()
            return web.Response()
        if last:
            return self._abort(request)
        kept = {name: value for name, value in answer.headers.items() if name.lower() in ("content-type", "content-encoding")}
        return web.Response(status=answer.status, body=data, headers=kept)

    def _abort(self, request):
        self.broken = True
        request.transport.abort()
        return web.Response()


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_mlflow):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_mlflow / "mlflow.db", folder)
    server = MlflowServer(folder)
    yield server
    server.kill()


@pytest.fixture
def models():
    with ModelServer(latency_ms=10) as models:
        for text in LOCKED:
            models.always("401", text=text)
        yield models


@pytest.fixture
def tracked(home, monkeypatch):
    """Sends this process's runs to a URI."""

    def use(uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    return use


def run(models, **changes):
    wanted = {"models": [lab.model(f"openai:m@{models.url}", label="m")], "scorers": ["exact"], "expected": "question", "concurrency": 4}
    return lab.grid({"plain": "{{ question }}"}, ROWS, **{**wanted, **changes})


def pending():
    return open_ledger(load()).outbox_pending()


def deliver_all(seconds=120):
    """What the next grids of a user would do; a busy machine may need more than one."""
    until = time.monotonic() + seconds
    while pending():
        assert time.monotonic() < until, boxes.deliver(open_ledger(load()), load())
        boxes.deliver(open_ledger(load()), load())


def assert_once(server, grid):
    """The server has this grid exactly once and whole: one run, every cell, every metric once, one trace for each failed cell."""
    client = connect.client(Settings(tracking_uri=server.url))
    experiment = client.get_experiment_by_name("llmops_lab").experiment_id
    runs = client.search_runs([experiment], f"tags.`llmops_lab.grid` = '{grid.grid_id}'")
    assert len(runs) == 1
    (run,) = runs
    assert run.info.status == "FINISHED" and run.info.end_time
    frame = grid.frame()
    assert run.data.metrics["exact/plain/m"] == 1.0
    assert all(len(client.get_metric_history(run.info.run_id, name)) == 1 for name in run.data.metrics)
    cells = pandas.read_parquet(client.download_artifacts(run.info.run_id, "cells.parquet"))
    assert cells["text"].tolist() == frame["text"].tolist() and cells["status"].tolist() == frame["status"].tolist()
    assert len(run.inputs.dataset_inputs) == 1
    traces = client.search_traces(locations=[experiment], filter_string=f"tags.`llmops_lab.grid` = '{grid.grid_id}'")
    assert sorted(trace.info.request_preview for trace in traces) == sorted(LOCKED)
    assert {trace.info.trace_metadata["mlflow.sourceRun"] for trace in traces} == {run.info.run_id}


@pytest.mark.timeout(600)
def test_away_before_during_and_after_a_grid(server, models, tracked):
    """At full count the server is killed; else the line to it is cut, for a second start costs as much as all the rest."""
    line = Line(server.url)
    tracked(server.url if FULL else line.url)
    started = time.monotonic()
    before = run(models, reuse=False)  # the server was never started
    assert time.monotonic() - started < GENEROUS
    assert before.state == "done" and before.run_id is None and len(before.frame()) == len(ROWS) and pending()

    server.start()
    kept = run(models, reuse=False)
    deliver_all()
    assert_once(server, before)
    assert_once(server, kept)
    assert lab.load(kept.grid_id).run_id == kept.run_id

    during = run(models, reuse=False, wait=False)
    while during.calls < 5 and during.state == "running":
        time.sleep(0.001)
    line.broken = True
    if FULL:
        server.kill()
    started = time.monotonic()
    during.wait()
    after = run(models, reuse=False)
    assert time.monotonic() - started < 2 * GENEROUS
    assert (during.state, after.state, during.run_id, after.run_id) == ("done", "done", None, None)

    line.mend()
    if FULL:
        server.start()
    deliver_all()
    for grid in (before, kept, during, after):
        assert_once(server, grid)
    boxes.deliver(open_ledger(load()), load())
    forget_acknowledgements()
    deliver_all()
    for grid in (before, kept, during, after):
        assert_once(server, grid)


def forget_acknowledgements():
    """As after a crash between MLflow's answer and our note of it: everything is sent again."""
    connection = sqlite3.connect(open_ledger(load()).place)
    with connection:
        assert connection.execute("UPDATE outbox SET done_at = NULL, remote_id = NULL").rowcount
    connection.close()


@pytest.mark.timeout(full(300, 1800))
def test_a_line_that_breaks_at_any_request_loses_and_doubles_nothing(server, models, tracked, seeded):
    random, seed = seeded
    if not server.runs:
        server.start()
    line = Line(server.url)
    tracked(line.url)
    first = run(models, reuse=False)
    deliver_all()
    assert_once(server, first)
    assert line.requests > 10
    points = range(1, line.requests + 1) if full(False, True) else sorted(random.sample(range(2, line.requests), 3))
    for at in points:
        line.cut(at, seen=random.random() < 0.7)
        started = time.monotonic()
        grid = run(models, reuse=False)
        assert time.monotonic() - started < GENEROUS and grid.state == "done", (at, seed)
        line.mend()
        deliver_all()
        assert_once(server, grid)
    assert_once(server, first)


def test_a_server_that_takes_calls_and_never_answers_holds_nobody_up(models, tracked):
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        tracked(f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        grid = run(models)
        assert time.monotonic() - started < GENEROUS
    assert grid.state == "done" and grid.run_id is None and len(pending()) >= 1


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_is_broken_holds_nobody_up_and_the_run_waits(models, tracked, status):
    async def broken(request):
        return web.Response(status=status, text="broken")

    with answering(broken) as url:
        tracked(url)
        started = time.monotonic()
        grid = run(models)
        assert time.monotonic() - started < GENEROUS
    assert grid.state == "done" and grid.run_id is None and len(pending()) >= 1
    assert grid.frame()["status"].value_counts().to_dict() == {"ok": len(ROWS) - 2, "failed": 2}


@contextlib.contextmanager
def answering(handler):
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), []

    async def serve():
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        ready.set()

    def work():
        loop.run_until_complete(serve())
        loop.run_forever()

    threading.Thread(target=work, daemon=True).start()
    ready.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(loop.stop)


@pytest.mark.skipif(not FULL, reason="two more processes with MLflow in them: at full count only")
def test_an_unreachable_server_costs_a_grid_no_row_even_when_the_process_ends(logged_server, tmp_path, mlflow_store):
    """A script that runs one grid and exits: its run is still there to be sent by the next script, into the store of that time."""
    mlflow_store(tmp_path / "home")
    server = logged_server()
    script = "import sys, llmops_lab as lab\ng = lab.grid({'p': '{{ q }}'}, [{'q': str(n)} for n in range(20)], models=[sys.argv[1]])\n"
    script += "print('state', g.state, 'run', g.run_id)"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    results = []
    for uri in (nobody, ""):
        child = subprocess.run(
            [sys.executable, "-c", script, f"openai:m@{server.url}"],
            env=environment(tmp_path / "home", **({"MLFLOW_TRACKING_URI": uri} if uri else {})),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert child.returncode == 0, child.stderr
        results.append(child.stdout.split())
    assert results[0][-4:] == ["state", "done", "run", "None"] and results[1][-3:-1] == ["done", "run"] and results[1][-1] != "None"
    connection = sqlite3.connect(tmp_path / "home" / "mlflow.db")
    found = connection.execute("SELECT COUNT(DISTINCT run_uuid), COUNT(*) FROM tags WHERE key = 'llmops_lab.grid'").fetchone()
    connection.close()
    assert found == (2, 2) and len(server.asked()[0]) == 20
