"""What breaks around a served endpoint: its upstream, its callers, its keys, itself. Typed errors, true counters, nothing hangs."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import openai
import pytest
from aiohttp import web

from tests.faults.conftest import full
from tests.postgres import PostgresServer, Unavailable
from tests.servers import ModelServer, chunk, sse, streams
from tests.serving.serving_process import Served, body
from tests.waiting import until

SPEC = "openai:m@{url}"
PRICES = '[tool.llmops_lab.prices]\n"openai:" = { input = 0.0, output = 1_000_000.0 }\n'  # one USD a token that the model writes


@pytest.fixture(scope="module")
def upstream():
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def front(upstream, tmp_path_factory):
    """A server before the upstream, that waits 2 s for it."""
    with Served(tmp_path_factory.mktemp("front"), SPEC.format(url=upstream.url), LLMOPS_LAB_TIMEOUT="2") as served:
        yield served


@pytest.fixture(autouse=True)
def _clean(upstream):
    upstream.clear()


UPSTREAM = [
    ("429_seconds", 429, "upstream_rate_limited", openai.RateLimitError),
    ("429_quota", 429, "upstream_quota", openai.RateLimitError),
    ("500", 502, "upstream_server_error", openai.InternalServerError),
    ("502", 502, "upstream_server_error", openai.InternalServerError),
    ("503", 502, "upstream_server_error", openai.InternalServerError),
    ("timeout", 504, "upstream_timeout", openai.InternalServerError),
    ("reset", 502, "upstream_connection", openai.InternalServerError),
    ("short_body", 502, "upstream_connection", openai.InternalServerError),
    ("bad_json", 502, "upstream_malformed", openai.InternalServerError),
    ("html_200", 502, "upstream_malformed", openai.InternalServerError),
    ("empty_choices", 502, "upstream_empty", openai.InternalServerError),
    ("null_content", 502, "upstream_empty", openai.InternalServerError),
    ("no_finish_reason", 502, "upstream_incomplete", openai.InternalServerError),
    ("400", 400, "bad_request", openai.BadRequestError),
    ("401", 502, "upstream_unauthorized", openai.InternalServerError),
    ("404", 502, "upstream_not_found", openai.InternalServerError),
    ("content_filter", 400, "content_filter", openai.BadRequestError),
]


@pytest.mark.parametrize(("fault", "status", "code", "kind"), UPSTREAM)
@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_of_the_upstream_is_a_typed_error(front, upstream, fault, status, code, kind, stream):
    upstream.always(fault)
    before = front.counter("llmops_lab_errors_total", kind=code)
    with pytest.raises(kind) as raised:
        front.chat("x", stream=stream)
    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert front.counter("llmops_lab_errors_total", kind=code) == before + 1
    assert front.counter("llmops_lab_in_flight_requests") == 0
    if fault == "429_seconds":
        assert raised.value.response.headers["retry-after"] == "2"
    upstream.clear()
    assert front.chat("well again").choices[0].message.content == "well again"


@pytest.mark.parametrize("fault", ["cut_stream_close", "cut_stream_chunked", "cut_stream_length", "stalled_stream"])
def test_a_stream_that_is_cut_ends_with_an_error_and_not_as_if_it_were_whole(front, upstream, fault):
    upstream.script(fault)
    got = []
    with pytest.raises(openai.APIError) as raised:
        for event in front.chat("x", stream=True):
            got += [event.choices[0].delta.content or ""]
    assert "".join(got) == "the answer " and raised.value.code.startswith("upstream_")
    assert front.chat("x", temperature=0).choices[0].message.content == "x"  # nothing of it was kept


def test_a_stream_that_broke_after_its_finish_reason_is_whole(front, upstream):
    upstream.script("cut_after_finish")
    assert "".join(event.choices[0].delta.content or "" for event in front.chat("x", stream=True)) == "the answer is 42"


def test_errors_are_never_kept(front, upstream):
    upstream.script("500", "bad_json", text="again")
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            front.chat("again", temperature=0)
    assert front.chat("again", temperature=0).choices[0].message.content == "again"
    assert front.chat("again", temperature=0).choices[0].message.content == "again"
    assert upstream.count("again") == 3


def test_the_stream_is_passed_on_as_it_comes(front, upstream):
    upstream.script(streams(_piece("one "), 1.0, _piece("two"), _end(), "[DONE]"))
    began, at = time.monotonic(), []
    for event in front.chat("x", stream=True):
        if event.choices[0].delta.content:
            at.append(time.monotonic() - began)
    assert len(at) == 2 and at[1] - at[0] > 0.5


def _piece(text):
    return chunk({"model": "m"}, {"content": text})


def _end():
    return chunk({"model": "m"}, {}, "stop")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_cancels_the_call_upstream(front, upstream, stream):
    gone = threading.Event()

    async def slow(request, asked):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if stream:
            await response.prepare(request)
            await response.write(sse(_piece("one ")))
        while request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.02)
        gone.set()
        return response

    upstream.always(slow)
    before = front.counter("llmops_lab_errors_total", kind="client_gone")
    connection = front.raw("/v1/chat/completions", body(front.names[0], "leave", stream=stream))
    if stream:
        assert b"assistant" in connection.getresponse().read1(10_000)
    until(lambda: upstream.count("leave") == 1)
    connection.sock.shutdown(socket.SHUT_RDWR)
    assert gone.wait(1.5)  # before the server's own patience of 2 s would have ended it
    until(lambda: front.counter("llmops_lab_errors_total", kind="client_gone") == before + 1)
    assert front.counter("llmops_lab_in_flight_requests") == 0


def test_a_client_that_reads_nothing_does_not_hold_a_place_for_ever(front):
    before = front.counter("llmops_lab_errors_total", kind="client_gone")
    parts, asked = urlsplit(front.url), json.dumps(body(front.names[0], "a" * 3_000_000, stream=True)).encode()
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.connect((parts.hostname, parts.port))
        caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(asked) + asked)
        until(lambda: front.counter("llmops_lab_in_flight_requests") == 1)
        until(lambda: front.counter("llmops_lab_in_flight_requests") == 0)
        assert front.counter("llmops_lab_errors_total", kind="client_gone") == before + 1


def test_sigterm_lets_requests_in_flight_end(upstream, tmp_path):
    with Served(tmp_path, SPEC.format(url=upstream.url)) as served, ThreadPoolExecutor() as pool:
        upstream.always(streams(_piece("one "), 1.5, _piece("two"), _end(), "[DONE]"))
        answers = [pool.submit(lambda: [e.choices[0].delta.content for e in served.chat("x", stream=True)]) for _ in range(3)]
        until(lambda: upstream.count("x") == 3)
        assert served.stop() == 0
        assert [list(filter(None, answer.result())) for answer in answers] == [["one ", "two"]] * 3


def test_a_second_ctrl_c_cuts_requests_off_and_says_so(upstream, tmp_path):
    upstream.always("stalled_stream")
    with Served(tmp_path, SPEC.format(url=upstream.url)) as served:
        held = served.raw("/v1/chat/completions", body(served.names[0], "x", stream=True))
        until(lambda: upstream.count("x") == 1)
        served.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            served.process.wait(1.5)
        assert served.stop(signal.SIGINT) == 130
        held.close()


# ---- keys and budgets


@pytest.fixture
def guarded(upstream, tmp_path):
    """A server that asks for keys, and a function that makes one; each token that the upstream writes costs 1 USD."""
    (tmp_path / "pyproject.toml").write_text(PRICES)
    served = Served(tmp_path, SPEC.format(url=upstream.url))

    def key(name, *options):
        done = served.place.run("keys", "create", name, *options)
        assert done.code == 0
        return done.out.strip()

    served.key = key("first")
    with served:
        yield served, key


def _keys(served):
    with sqlite3.connect(served.place.home / "lab.db") as ledger:
        return {name: (spent, held) for name, spent, held in ledger.execute("SELECT name, spent_usd, held_usd FROM api_keys")}


def test_a_wrong_key_is_refused_and_a_new_or_revoked_one_noticed(guarded):
    served, key = guarded
    for wrong in ("sk-lab-" + "a" * 43, "none", "\u00e9"):
        status, error = served.refused("/v1/chat/completions", body(served.names[0]), key=wrong.encode("utf-8").decode("latin-1"))
        assert (status, error["code"]) == (401, "invalid_api_key")
    served.key, good = "none", served.key
    for _ in range(3):  # refused before its body has come, and told so all the same
        answer = served.raw("/v1/chat/completions", body(served.names[0], "a" * 10_000_000)).getresponse()
        assert answer.status == 401 and json.load(answer)["error"]["code"] == "invalid_api_key"
    served.key = good
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=served.url, api_key="wrong", max_retries=0).models.list()
    new = key("second")
    assert served.send("/v1/models", key=new)[0] == 200
    assert served.place.run("keys", "revoke", "second").code == 0
    until(lambda: served.send("/v1/models", key=new)[0] == 401)
    whole = (served.place.home / "lab.db").read_bytes()
    assert new.encode() not in whole and served.key.encode() not in whole
    listed = served.place.run("keys", "list").out
    assert "first" in listed and "revoked" in listed and "sk-lab" not in listed


def test_a_rate_is_kept_to(guarded):
    served, key = guarded
    slow = key("slow", "--rpm", "2")
    answers = [served.send("/v1/chat/completions", body(served.names[0]), key=slow) for _ in range(4)]
    assert [status for status, _, _ in answers] == [200, 200, 429, 429]
    assert json.loads(answers[-1][2])["error"]["code"] == "rate_limit_exceeded" and 0 < int(answers[-1][1]["retry-after"]) <= 60
    assert served.counter("llmops_lab_errors_total", kind="rate_limit_exceeded", key="slow") == 2
    assert served.send("/v1/chat/completions", body(served.names[0]))[0] == 200


def test_a_budget_holds_under_many_callers_at_once_and_over_a_restart(guarded, upstream):
    served, key = guarded
    upstream.latency_s = 0.05
    poor = key("poor", "--budget", "10")
    callers, each = full(40, 400), 1

    def ask(number):
        text = f"word{number}"  # a reply of one token: one USD; held before it: two
        return served.send("/v1/chat/completions", body(served.names[0], text, max_tokens=2), key=poor)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(callers)))
    upstream.latency_s = 0.0
    good = sum(status == 200 for status, _, _ in answers)
    assert 5 <= good <= 10 and {status for status, _, _ in answers} == {200, 429}
    assert all(json.loads(text)["error"]["code"] == "insufficient_quota" for status, _, text in answers if status == 429)
    until(lambda: _keys(served)["poor"] == (good * each, 0))
    assert served.counter("llmops_lab_cost_usd_total", key="poor") == good

    assert served.stop() == 0
    served.start()
    more = [served.send("/v1/chat/completions", body(served.names[0], f"more{n}", max_tokens=2), key=poor)[0] for n in range(12)]
    assert more.count(200) == 9 - good  # the last USD is too little for what a request may cost
    until(lambda: _keys(served)["poor"] == (9, 0))
    assert f"{9} of 10 USD spent" in served.place.run("keys", "list").out


def test_all_that_is_sent_counts_towards_what_a_call_may_cost(upstream, tmp_path):
    (tmp_path / "pyproject.toml").write_text(PRICES.replace("input = 0.0", "input = 1_000_000.0"))
    served = Served(tmp_path, SPEC.format(url=upstream.url))
    served.key = served.place.run("keys", "create", "some", "--budget", "1000").out.strip()
    form = {"type": "json_schema", "json_schema": {"name": "form", "schema": {"type": "object", "description": "word " * 400}}}
    with served:
        status, error = served.refused("/v1/chat/completions", body(served.names[0], "form", max_tokens=2, response_format=form))
        assert (status, error["code"], upstream.count("form")) == (429, "insufficient_quota", 0)
        assert served.send("/v1/chat/completions", body(served.names[0], "form", max_tokens=2))[0] == 200


def test_what_may_have_been_paid_for_counts_as_spent(guarded, upstream):
    served, key = guarded
    mean = key("mean", "--budget", "100")
    upstream.script("500", "cut_stream_close")
    assert served.send("/v1/chat/completions", body(served.names[0], "x", max_tokens=7), key=mean)[0] == 502
    until(lambda: _keys(served)["mean"] == (0, 0))  # refused: not paid for
    served.send("/v1/chat/completions", body(served.names[0], "x", max_tokens=7, stream=True), key=mean)
    until(lambda: _keys(served)["mean"] == (7, 0))  # cut: nobody knows
    upstream.always("timeout")
    open_ = [served.raw("/v1/chat/completions", body(served.names[0], "x", max_tokens=5))]  # without a budget nothing is held
    served.key, first = mean, served.key
    open_ += [served.raw("/v1/chat/completions", body(served.names[0], "x", max_tokens=5))]
    until(lambda: upstream.count("x") == 4)
    assert _keys(served)["mean"] == (7, 5)
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.wait()
    upstream.clear()
    served.start()
    assert _keys(served)["mean"] == (12, 0)
    until(lambda: "5 USD that a server that is gone had held count as spent" in served.log)
    served.key = first
    assert len(open_) == 2  # they were held open until here


def test_a_cached_reply_costs_nothing_and_a_model_without_a_price_has_no_budget(guarded, upstream, tmp_path):
    served, key = guarded
    some = key("some", "--budget", "3")
    for _ in range(5):
        assert served.send("/v1/chat/completions", body(served.names[0], "same", temperature=0, max_tokens=2), key=some)[0] == 200
    assert upstream.count("same") == 1
    until(lambda: _keys(served)["some"] == (1, 0))
    (tmp_path / "pyproject.toml").write_text("")
    served.stop()
    served.start()
    status, error = served.refused("/v1/chat/completions", body(served.names[0], "other"), key=some)
    assert (status, error["code"]) == (403, "price_unknown")


def test_a_key_with_a_budget_gets_replies_that_end(guarded, upstream):
    served, key = guarded
    rich = key("rich", "--budget", "100000")
    served.send("/v1/chat/completions", body(served.names[0], "limited"), key=rich)
    served.send("/v1/chat/completions", body(served.names[0], "free"))
    limits = {seen.text: seen.body.get("max_tokens") for seen in upstream.requests}
    assert limits == {"limited": 1024, "free": None}


def test_a_ledger_that_was_lost_lets_no_budget_be_passed(guarded, upstream):
    served, key = guarded
    lost = key("lost", "--budget", "5")
    assert served.send("/v1/chat/completions", body(served.names[0], "before", max_tokens=1), key=lost)[0] == 200
    (served.place.home / "lab.db").rename(served.place.home / "away.db")
    for _ in range(3):
        status, error = served.refused("/v1/chat/completions", body(served.names[0], "after", max_tokens=1), key=lost)
        assert (status, error["code"]) in [(503, "ledger_unavailable"), (429, "insufficient_quota"), (401, "invalid_api_key")]
    assert upstream.count("after") == 0


def test_keys_that_cannot_be_looked_up_are_told(guarded):
    served, _ = guarded
    assert served.health()["status"] == "ok" and served.health()["keys"] == {"asked_for": True, "problem": ""}
    ledger = served.place.home / "lab.db"
    ledger.rename(served.place.home / "away.db")
    ledger.write_bytes(b"no database " * 1000)
    until(lambda: served.health()["status"] == "stuck")
    assert served.health()["keys"]["problem"] and "keys cannot be looked up" in served.log
    assert served.send("/v1/models")[0] == 200  # what was known stands
    ledger.unlink()
    (served.place.home / "away.db").rename(ledger)
    until(lambda: served.health()["status"] == "ok")


def test_a_ledger_that_cannot_be_read_is_told_and_counted(guarded, upstream):
    """Whose key it is can be asked of the ledger alone, and so can whether a budget has room."""
    served, key = guarded
    new, rich = key("new"), key("rich", "--budget", "1000")
    served.send("/v1/models", key=rich)
    until(lambda: served.send("/v1/models", key=rich)[0] == 200)
    ledger = served.place.home / "lab.db"
    ledger.rename(served.place.home / "away.db")
    ledger.write_bytes(b"no database " * 1000)
    until(lambda: served.health()["status"] == "stuck")
    status, error = served.refused("/v1/chat/completions", body(served.names[0], "lost"), key="sk-lab-" + "b" * 43)
    assert (status, error["code"], error["type"]) == (503, "unavailable", "api_error")
    assert served.counter("llmops_lab_errors_total", kind="unavailable") == 1
    status, error = served.refused("/v1/chat/completions", body(served.names[0], "lost", max_tokens=1), key=rich)
    assert (status, error["code"]) == (503, "ledger_unavailable") and upstream.count("lost") == 0
    assert served.counter("llmops_lab_errors_total", kind="ledger_unavailable", key="rich") == 1
    with pytest.raises(openai.InternalServerError):
        openai.OpenAI(base_url=served.url, api_key="sk-lab-" + "b" * 43, max_retries=0).models.list()
    free = served.send("/v1/chat/completions", body(served.names[0], "free", temperature=0))  # its key is known, it has no budget
    assert free[0] == 200
    assert served.refused("/v1/feedback", {"request_id": json.loads(free[2])["id"], "value": True})[0] == 503
    until(lambda: "requests cannot be recorded" in served.log)
    ledger.unlink()
    (served.place.home / "away.db").rename(ledger)
    until(lambda: served.health()["status"] == "ok")
    assert served.send("/v1/chat/completions", body(served.names[0], "back", max_tokens=1), key=rich)[0] == 200
    assert served.send("/v1/models", key=new)[0] == 200
    assert served.counter("llmops_lab_in_flight_requests") == 0


def test_a_postgresql_that_is_gone_is_told_and_counted(postgres, upstream, tmp_path):
    (tmp_path / "pyproject.toml").write_text(PRICES)
    served = Served(tmp_path, SPEC.format(url=upstream.url), LLMOPS_LAB_LEDGER=postgres.database())
    served.key = _made(served, "free")
    rich = _made(served, "rich", "--budget", "1000")
    with served:
        assert served.send("/v1/chat/completions", body(served.names[0], "here", max_tokens=1), key=rich)[0] == 200
        postgres.stop()
        try:
            status, error = served.refused("/v1/chat/completions", body(served.names[0], "lost", max_tokens=1), key=rich)
            assert (status, error["code"]) == (503, "ledger_unavailable") and upstream.count("lost") == 0
            status, error = served.refused("/v1/chat/completions", body(served.names[0], "lost"), key="sk-lab-" + "b" * 43)
            assert (status, error["code"]) == (503, "unavailable")
            assert served.counter("llmops_lab_errors_total", kind="unavailable") == 1
            assert served.send("/v1/chat/completions", body(served.names[0], "free"))[0] == 200
        finally:
            postgres.start()
        until(lambda: served.send("/v1/chat/completions", body(served.names[0], "back", max_tokens=1), key=rich)[0] == 200)
        until(lambda: served.health()["status"] == "ok")


def _made(served, name, *options):
    environment = served.place.environment(**served._environment)
    command = [sys.executable, "-m", "llmops_lab.cli", "keys", "create", name, *options]
    return subprocess.run(command, cwd=served.place.folder, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def postgres():
    try:
        with PostgresServer() as server:
            yield server
    except Unavailable as reason:
        pytest.skip(str(reason))


# ---- callers who only hold connections


def test_a_head_that_never_ends_holds_no_connection(front):
    """Byte by byte, each of them in time, for longer than a head may take: here 2 s."""
    slow = full(1, 40)
    callers = [socket.create_connection((urlsplit(front.url).hostname, urlsplit(front.url).port), timeout=60) for _ in range(slow + 1)]
    began = time.monotonic()
    for caller in callers[1:]:  # the first says nothing at all
        caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n")
    while _open(callers):
        assert time.monotonic() - began < 40
        time.sleep(0.2)
    assert front.send("/health")[0] == 200


def _open(callers):
    for caller in list(callers):
        caller.setblocking(False)
        try:
            caller.send(b"a")
            gone = caller.recv(1000) == b""
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        if gone:
            caller.close()
            callers.remove(caller)
    return callers


def test_more_connections_than_there_is_room_for_are_turned_away(upstream, tmp_path):
    with Served(tmp_path, SPEC.format(url=upstream.url), files=190) as served:  # room for 31 callers
        callers = [socket.create_connection((urlsplit(served.url).hostname, urlsplit(served.url).port), timeout=60) for _ in range(40)]
        answers = [caller.recv(65536) for caller in callers[31:]]
        assert all(answer.startswith(b"HTTP/1.1 503") and b'"overloaded"' in answer for answer in answers)
        for caller in callers:
            caller.close()
        assert until(lambda: served.chat("room again")).choices[0].message.content == "room again"
