"""Cancel, resume, budget, Retry-After and a dead provider, while many calls are in flight. The server's log is the judge."""

import collections
import json
import threading
import time

import pytest

import llmops_lab as lab
from tests.faults.conftest import full
from tests.servers import ModelServer, refuses
from tests.waiting import until

ROWS = [{"id": str(number), "question": f"question {number}"} for number in range(full(300, 3000))]


def run(spec, **changes):
    wanted = {"models": [spec], "scorers": ["exact"], "expected": "question", "concurrency": 32, "track": False}
    return lab.grid({"plain": "{{ question }}"}, changes.pop("rows", ROWS), **{**wanted, **changes})


@pytest.fixture
def server():
    with ModelServer(latency_ms=30) as server:
        yield server


@pytest.fixture
def priced(server):
    spec = f"openai:m@{server.url}"
    lab.configure(prices={spec: {"input": 1_000_000.0, "output": 1_000_000.0}})  # 1 USD a token
    yield spec
    lab.configure(prices=None)


def test_cancelled_again_and_again_and_resumed_loses_nothing_and_doubles_nothing(home, server, seeded):
    random, seed = seeded
    spec = f"openai:m@{server.url}"
    grid = run(spec, wait=False)
    for share in sorted(random.sample(range(10, 90), full(3, 8))):
        until(lambda share=share: len(server.requests) >= len(ROWS) * share / 100, every=0.005)
        grid.cancel()
        grid.wait()
        assert grid.state == "cancelled", seed
        frame = grid.frame()
        assert set(frame["status"]) == {"ok", "cancelled"}, seed
        done = frame.query("status == 'ok'")
        # Calls in flight come home before the end, so what the server answered is what is on record.
        assert len(done) == len(server.requests) == grid.calls and (done["text"] == "question " + done["row_id"]).all(), seed
        grid.start()
    grid.wait()
    frame = grid.frame()
    assert grid.state == "done" and set(frame["status"]) == {"ok"} and frame["exact"].all(), seed
    assert collections.Counter(seen.text for seen in server.requests) == collections.Counter(row["question"] for row in ROWS), seed
    assert grid.maybe_paid_twice == [] and grid.calls == len(ROWS), seed


def test_calls_that_do_not_come_home_after_a_cancel_are_named(home, server):
    server.always("timeout", text="question 5")
    grid = run(f"openai:m@{server.url}", rows=ROWS[:40], wait=False, timeout=60)
    until(lambda: server.count("question 5") == 1)
    grid.cancel()
    started = time.monotonic()
    grid.wait()
    assert grid.state == "cancelled" and time.monotonic() - started < 20  # it does not wait for the minute of the timeout
    lost = grid.frame().set_index("row_id").loc["5"]
    assert lost["status"] == "cancelled" and grid.maybe_paid_twice == [lost["key"]]
    server.clear()
    again = grid.resume()
    assert again.state == "done" and server.count("question 5") == 1 and set(again.frame()["status"]) == {"ok"}
    assert again.maybe_paid_twice == [lost["key"]]


@pytest.mark.parametrize("cap", [7.0, 150.0, 1000.0])
def test_the_budget_is_never_passed_with_many_calls_in_flight(home, server, priced, cap):
    # A call costs four tokens, two in and two out; it is sent only while the most that it may cost is still there.
    grid = run(priced, budget=cap, params={"max_tokens": 4})
    charged = 4.0 * len(server.requests)
    assert charged <= cap and grid.spent == pytest.approx(charged)
    assert grid.state == "budget" and grid.calls == len(server.requests)
    frame = grid.frame()
    assert (frame["status"] == "ok").sum() == len(server.requests) and set(frame.query("status == 'skipped'")["error"]) == {"budget"}
    if cap >= 150:
        assert charged > cap / 2  # careful, but of use


def test_the_budget_holds_when_answers_fail_and_are_asked_again(home, server, priced):
    server.always("null_content")  # billed: the prompt's two tokens
    grid = run(priced, budget=150.0, params={"max_tokens": 4}, retries=1, concurrency=8, rows=ROWS[:60])
    assert 2.0 * len(server.requests) <= 150.0 and grid.spent == pytest.approx(2.0 * len(server.requests))
    assert grid.calls == len(server.requests) and set(grid.frame()["status"]) <= {"failed", "skipped"}


def test_retry_after_is_honoured_by_all_calls_to_that_provider(home, server):
    server.script("429_seconds", text="question 40")
    run(f"openai:m@{server.url}", rows=ROWS[:200], concurrency=8)
    (told, asked_again) = [seen.t for seen in server.requests if seen.text == "question 40"]
    refused = told + server.latency_s
    assert 2.0 <= asked_again - refused < 4.0
    # Those already in flight finish; nothing new is sent to a provider that said "not for two seconds".
    pause = [seen.text for seen in server.requests if refused + 0.25 < seen.t < refused + 1.9]
    assert pause == []
    assert set(collections.Counter(seen.text for seen in server.requests).values()) == {1, 2}


def test_overload_halves_the_calls_in_flight_and_everything_is_answered_in_the_end(home):
    with ModelServer(latency_ms=20) as server:
        refuse = refuses(429, "slow down", retry_after_ms="50")

        async def crowded(request, body):
            if server.in_flight > 8:
                return await refuse(request, body)
            from aiohttp import web

            from tests.servers import completion, last_text

            return web.json_response(completion(last_text(body), body))

        server.always(crowded)
        grid = run(f"openai:m@{server.url}", rows=ROWS[:150], retries=20)
        refused = len(server.requests) - 150
        assert set(grid.frame()["status"]) == {"ok"} and grid.calls == len(server.requests)
        assert refused < 150, f"{refused} of {len(server.requests)} calls were refused: the pool does not learn"


def test_one_provider_down_does_not_stop_another(home, server):
    with ModelServer() as other:
        gone = f"openai:gone@{other.url}"
    with ModelServer() as stuck:
        stuck.always("timeout")
        models = [f"openai:m@{server.url}", gone, f"openai:stuck@{stuck.url}"]
        grid = run(models[0], models=models, rows=ROWS[:60], retries=1, timeout=0.5, concurrency=8)
    frame = grid.frame().groupby("model")["status"].value_counts()
    assert frame[models[0], "ok"] == 60 and grid.state == "done"
    assert (gone, "ok") not in frame.index and (models[2], "ok") not in frame.index
    assert frame[gone, "failed"] > 0 and frame[models[2], "failed"] > 0
    # It is not tried once for each row when nothing ever came back; what was not sent can be asked later.
    assert len(stuck.requests) < 60
    summary = grid.summary().set_index("model")
    assert summary.loc[gone, "exact_n"] == 0 and summary.loc[models[0], "exact_n"] == 60


def test_two_grids_at_once_do_not_disturb_each_other(home, server):
    spec, found = f"openai:m@{server.url}", {}

    def work(name):
        rows = [{"id": row["id"], "question": f"{name} {row['question']}"} for row in ROWS[:80]]
        found[name] = run(spec, rows=rows, name=name)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c")]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(found) == ["a", "b", "c"] and {grid.state for grid in found.values()} == {"done"}
    assert collections.Counter(seen.text for seen in server.requests).most_common(1)[0][1] == 1 and len(server.requests) == 240
    for name, grid in found.items():
        assert all(text.startswith(f"{name} question") for text in grid.frame()["text"])


def test_the_ledger_lists_what_the_log_of_the_server_lists(home, logged_server):
    server = logged_server("--latency-ms", "5")
    grid = run(f"openai:m@{server.url}")
    asked, _ = server.settled()
    assert collections.Counter(asked) == collections.Counter(grid.frame()["text"]) and len(asked) == len(ROWS)
    assert json.loads(grid.frame()[["text"]].to_json())["text"]["0"] == "question 0"
