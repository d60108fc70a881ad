"""The same against a real ``mlflow server`` that is killed and started again.

Held here: a tracking URI that the user set is honoured; the run's address is not printed into the user's cell; an outage in the
middle of a grid loses and doubles nothing.
"""

import dataclasses
import shutil
import time

import pandas
import pytest

from llmops_lab.track import connect, runs, traces
from llmops_lab.track import outbox as boxes
from tests.mlflow_server import MlflowServer


@pytest.fixture(scope="module")
def mlflow_server(mlflow_home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(mlflow_home / "mlflow.db", folder)  # a store of the right schema: making one takes seconds
    server = MlflowServer(folder)
    yield server
    server.kill()


@pytest.mark.faults
@pytest.mark.timeout(900)  # two starts of a server, each a minute on a busy machine
def test_a_server_that_dies_and_comes_back_has_everything_once(mlflow_server, lab, outbox, grid_entry, call, capfd):
    remote = dataclasses.replace(lab, tracking_uri=mlflow_server.url)
    mlflow_server.start()
    before = grid_entry()
    for kind, payload in (
        ("grid", before),
        ("trace", call(grid=before["grid"], prompt={"name": "qa", "version": 1}, cost_usd=None, model="gpt-4o-mini")),
    ):
        outbox.outbox_add(kind, payload)
    (_, run_id, grid_error), (_, trace_id, trace_error) = deliver_all(outbox, remote)
    assert grid_error is None and trace_error is None
    client = connect.client(remote)
    trace = client.get_trace(trace_id)
    assert (trace.info.execution_duration, trace.info.token_usage["total_tokens"], trace.info.cost) == (1500, 14, None)
    assert trace.info.trace_metadata["mlflow.sourceRun"] == run_id
    experiment = runs.experiment_id(client, lab.experiment)
    assert len(client.search_traces(locations=[experiment], filter_string="prompt = 'qa/1'")) == 1
    cells, info = runs.load_cells(run_id, remote)
    assert len(pandas.read_parquet(cells)) == 4 and info["grid"] == before["grid"]
    assert runs.list_runs(lab) == []  # nothing went to the store of the folder
    assert capfd.readouterr().out == ""

    during, steps = grid_entry(), []

    def die_in_the_middle():
        steps.append(1)
        if len(steps) == 3:
            mlflow_server.kill()

    with pytest.raises(Exception, match=r"Connection (refused|aborted)"):
        runs.log_grid(during, remote, on_progress=die_in_the_middle)
    idents = [
        outbox.outbox_add("grid", during),
        outbox.outbox_add("grid", grid_entry()),
        outbox.outbox_add("trace", call(grid=during["grid"])),
    ]
    assert all(found is None and "does not answer" in error for _, found, error in boxes.deliver(outbox, remote))

    mlflow_server.start()
    told = deliver_all(outbox, remote)
    assert [(ident, error) for ident, _, error in told] == [(ident, None) for ident in idents]
    assert [run["status"] for run in runs.list_runs(remote)] == ["FINISHED"] * 3
    assert {run["grid"] for run in runs.list_runs(remote)} >= {before["grid"], during["grid"]}

    outbox.outbox_add("grid", before)  # its acknowledgement was lost, so it is sent again
    assert [found for _, found, _ in deliver_all(outbox, remote)] == [run_id]
    assert len(runs.list_runs(remote)) == 3
    assert len(client.search_traces(locations=[experiment])) == 2
    assert traces.trace_id(trace.info.tags[traces.ID_TAG]) == trace_id


def deliver_all(outbox, settings):
    """What a user sees in the end: the machine may be too slow for one call to end within its wait."""
    told = {}
    until = time.monotonic() + 120
    while outbox.outbox_pending() and time.monotonic() < until:
        told |= {ident: (ident, found, error) for ident, found, error in boxes.deliver(outbox, settings)}
    return list(told.values())
