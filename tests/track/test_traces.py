"""Prompt calls as MLflow traces. Pitfalls of MLflow that these tests hold:

- ``random.seed`` makes trace ids collide, so that one trace of three is stored: ``test_a_seed_neither_doubles_ids_nor_is_disturbed``
- background export loses traces with a warning only: ``test_many_threads_lose_nothing``, ``test_a_trace_that_cannot_be_stored_raises``
- a model is priced by its name, also one on the user's own machine: ``test_an_unknown_price_stays_unknown``
- latency is that of the logging call: ``test_a_trace_tells_all_that_is_known`` has times a hundred seconds past
"""

import random
from concurrent.futures import ThreadPoolExecutor

import mlflow.utils.providers
import pytest

from llmops_lab.errors import LabError
from llmops_lab.track import connect, runs, traces


def stored(lab, filters=""):
    client = connect.client(lab)
    experiment = client.get_experiment_by_name(lab.experiment).experiment_id
    return client.search_traces(locations=[experiment], filter_string=filters, max_results=500)


def test_a_trace_tells_all_that_is_known(lab, call):
    payload = call(tags={"cell": "3"}, session="thread-1")
    logged = traces.log_trace(payload, lab)
    trace = connect.client(lab).get_trace(logged)
    assert trace.info.trace_id == logged == traces.trace_id(payload["id"])
    assert (trace.info.state, trace.info.execution_duration) == ("OK", 1500)
    assert abs(trace.info.request_time - payload["started"] * 1000) < 1
    assert trace.info.token_usage == {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14}
    assert trace.info.cost["total_cost"] == 0.25
    assert (trace.info.request_preview, trace.info.response_preview) == ("Where is it?", "Here.")
    assert trace.info.tags["cell"] == "3" and trace.info.tags["mlflow.traceName"] == "qa"
    assert trace.info.trace_metadata["mlflow.user"] == runs.author()
    assert trace.info.trace_metadata["mlflow.trace.session"] == "thread-1"
    (span,) = trace.data.spans
    assert span.inputs == {"messages": payload["inputs"], "temperature": 0}
    assert span.outputs["choices"][0] == {"index": 0, "message": {"role": "assistant", "content": "Here."}, "finish_reason": "stop"}
    assert (span.span_type, span.attributes["mlflow.llm.model"], span.attributes["llmops_lab.ttft_s"]) == ("CHAT_MODEL", "tiny", 0.1)
    assert span.end_time_ns - span.start_time_ns == pytest.approx(1.5e9, abs=1e4)


def test_a_failed_call_keeps_its_kind_of_fault(lab, call):
    payload = call(
        status="failed", error="rate_limited", message="429: slow down", output=None, usage={}, cost_usd=None, finish_reason=None
    )
    trace = connect.client(lab).get_trace(traces.log_trace(payload, lab))
    assert trace.info.state == "ERROR" and trace.info.tags["llmops_lab.error"] == "rate_limited"
    assert trace.data.spans[0].status.description == "rate_limited: 429: slow down"
    assert trace.data.spans[0].outputs is None and trace.info.token_usage is None
    assert [found.info.trace_id for found in stored(lab, "trace.status = 'ERROR'")] == [trace.info.trace_id]


def test_an_unknown_price_stays_unknown(lab, call):
    assert sum(mlflow.utils.providers.cost_per_token(model="gpt-4o-mini", prompt_tokens=11, completion_tokens=3)) > 0  # MLflow would guess
    trace = connect.client(lab).get_trace(traces.log_trace(call(model="gpt-4o-mini", cost_usd=None), lab))
    assert trace.info.cost is None and trace.info.token_usage["input_tokens"] == 11


def test_the_same_call_again_is_the_same_trace(lab, call):
    payload = call(prompt={"name": "qa", "version": 1})
    assert traces.log_trace(payload, lab) == traces.log_trace(payload, lab)
    (trace,) = stored(lab)
    assert len(trace.data.spans) == 1 and trace.info.token_usage["total_tokens"] == 14


def test_a_try_that_broke_off_is_finished(lab, call):
    for broken in range(3):
        payload, left = call(), iter(range(broken))

        def break_off(left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            traces.log_trace(payload, lab, on_progress=break_off)
        traces.log_trace(payload, lab)
    found = stored(lab)
    assert len(found) == 3 and all(len(trace.data.spans) == 1 and trace.info.state == "OK" for trace in found)


def test_a_seed_neither_doubles_ids_nor_is_disturbed(lab, call):
    for _ in range(3):
        random.seed(42)
        state = random.getstate()
        traces.log_trace(call(), lab)
        assert random.getstate() == state
    assert len({trace.info.trace_id for trace in stored(lab)}) == 3


def test_many_threads_lose_nothing(lab, call):
    payloads = [call() for _ in range(48)]
    with ThreadPoolExecutor(8) as pool:
        logged = list(pool.map(lambda payload: traces.log_trace(payload, lab), payloads))
    found = stored(lab)
    assert {trace.info.trace_id for trace in found} == set(logged) and len(logged) == 48
    assert all(len(trace.data.spans) == 1 for trace in found)


def test_a_trace_that_cannot_be_stored_raises(lab, call):
    client = connect.client(lab)
    client.delete_experiment(runs.experiment_id(client, lab.experiment))
    with pytest.raises(LabError, match="was deleted"):
        traces.log_trace(call(), lab)


def test_links_to_prompt_and_run_can_be_searched(lab, call, grid_entry):
    client = connect.client(lab)
    name = f"qa-{lab.experiment}"
    version = client.register_prompt(name, "{{ question }}").version
    entry = grid_entry()
    run_id = runs.log_grid(entry, lab)
    prompt = {"name": name, "version": version, "sha256": "ab" * 32}
    by_grid, by_run = (traces.log_trace(call(prompt=prompt, **link), lab) for link in ({"grid": entry["grid"]}, {"run_id": run_id}))
    traces.log_trace(call(grid="0" * 32), lab)  # a grid that is not there, or not yet: the tag still tells
    assert {trace.info.trace_id for trace in stored(lab, f"prompt = '{name}/{version}'")} == {by_grid, by_run}
    assert {trace.info.trace_id for trace in stored(lab, f"metadata.`mlflow.sourceRun` = '{run_id}'")} == {by_grid, by_run}
    assert len(stored(lab, f"tags.`{runs.GRID_TAG}` = '{'0' * 32}'")) == 1


def test_the_users_active_span_and_run_stay(lab, call):
    connect.client(lab)
    mlflow.set_experiment(f"{lab.experiment}-mine")
    with mlflow.start_run() as active, mlflow.start_span("mine") as span:
        logged = traces.log_trace(call(), lab)
        assert mlflow.get_current_active_span().span_id == span.span_id
        assert mlflow.active_run().info.run_id == active.info.run_id
    mlflow.flush_trace_async_logging()
    trace = connect.client(lab).get_trace(logged)
    assert len(trace.data.spans) == 1 and "mlflow.sourceRun" not in trace.info.trace_metadata


def test_wild_text_and_secrets(lab, call, mlflow_home, monkeypatch):
    secret = "correct-horse-staple-" + lab.experiment
    monkeypatch.setenv("OTHER_TOKEN", secret)
    wild = "a\x00b\ud800c<script>" + "x" * 300_000
    payload = call(inputs=[{"role": "user", "content": f"{wild} {secret}"}], output=f"{secret} {wild}", tags={"t": secret}, model=secret)
    trace = connect.client(lab).get_trace(traces.log_trace(payload, lab))
    assert trace.data.spans[0].outputs["choices"][0]["message"]["content"] == f"[redacted] {wild}"
    assert len(trace.info.request_preview) == 1000
    for path in mlflow_home.glob("mlflow.db*"):
        assert secret.encode() not in path.read_bytes()
