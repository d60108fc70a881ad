"""A served model as its users meet it: the official client, plain HTTP, the cache, metrics and feedback."""

import json
import signal
import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import openai
import pytest

from tests.commands import Place
from tests.serving.serving_process import Served, body
from tests.waiting import until

QUESTION = "What is 2 plus 7?"


def test_the_official_client_gets_a_completion(tiny):
    assert [model.id for model in tiny.client.models.list()] == ["tiny"]
    answer = tiny.chat(QUESTION)
    assert answer.object == "chat.completion" and answer.model == "tiny" and answer.id.startswith("chatcmpl-")
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.role) == ("stop", "assistant") and choice.message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 2


def test_a_stream_adds_up_to_the_whole_answer(tiny):
    whole = tiny.chat(QUESTION, temperature=0)
    events = list(tiny.chat(QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}, extra_headers=FRESH))
    deltas = [event.choices[0].delta for event in events if event.choices]
    assert deltas[0].role == "assistant" and len(events) > 3
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "stop"
    assert events[-1].usage == whole.usage and not events[-1].choices


FRESH = {"Cache-Control": "no-cache"}


def test_length_stop_and_seed_are_kept_to(tiny):
    assert tiny.chat(QUESTION, max_tokens=1).choices[0].finish_reason == "length"
    assert tiny.chat(QUESTION, max_completion_tokens=1).usage.completion_tokens == 1
    text = tiny.chat(QUESTION).choices[0].message.content
    assert tiny.chat(QUESTION, stop=[text[-1]]).choices[0].message.content == text[: text.index(text[-1])]
    drawn = {tiny.chat(QUESTION, temperature=1.5, seed=5, extra_headers=FRESH).choices[0].message.content for _ in range(3)}
    assert len(drawn) == 1


def test_sure_replies_come_from_the_cache_and_others_do_not(tiny):
    def cache(**more):
        raw = tiny.client.chat.completions.with_raw_response.create(model="tiny", messages=[{"role": "user", "content": "cached?"}], **more)
        return raw.headers["x-llmops-lab-cache"]

    assert [cache(), cache()] == ["miss", "hit"]  # a local model without a temperature is greedy
    assert [cache(temperature=0, seed=3), cache(temperature=0, seed=3)] == ["miss", "hit"]
    assert [cache(temperature=0.7), cache(temperature=0.7)] == ["off", "off"]
    assert cache(extra_headers=FRESH) == "off"


REFUSED = [
    ("{", 400, "invalid_json"),
    ("", 400, "invalid_json"),
    ("[]", 400, "invalid_json"),
    ('{"model": "tiny", "messages": [{"role": "user", "content": "a"}], "temperature": NaN}', 400, "invalid_json"),
    ("[" * 100_000, 400, "invalid_json"),
    ({"messages": [{"role": "user", "content": "a"}]}, 400, "invalid_value"),
    ({"model": "tiny"}, 400, "invalid_value"),
    ({"model": "tiny", "messages": []}, 400, "invalid_value"),
    ({"model": "tiny", "messages": ["a"]}, 400, "invalid_value"),
    ({"model": "tiny", "messages": [{"role": "user", "content": 5}]}, 400, "invalid_value"),
    ({"model": "tiny", "messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, 400, "invalid_value"),
    ({"model": "tiny", "messages": [{"role": "tool", "content": "a", "tool_call_id": "1"}]}, 400, "unsupported_value"),
    (body("tiny", n=2), 400, "unsupported_value"),
    (body("tiny", logprobs=True), 400, "unsupported_value"),
    (body("tiny", top_logprobs=3), 400, "unsupported_value"),
    (body("tiny", tools=[{"type": "function", "function": {"name": "a"}}]), 400, "unsupported_value"),
    ({"model": "tiny", "messages": [{"role": "user", "content": "a", "name": "eve"}]}, 400, "unsupported_value"),
    (
        {"model": "tiny", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]},
        400,
        "unsupported_value",
    ),
    ({"model": "tiny", "messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]}, 400, "unsupported_value"),
    (body("tiny", tool_choice="required"), 400, "bad_request"),
    (body("tiny", response_format={"type": "json_object"}), 400, "bad_request"),
    (body("tiny", presence_penalty=1), 400, "bad_request"),
    (body("tiny", stream="yes"), 400, "invalid_value"),
    (body("tiny", max_tokens=0), 400, "invalid_value"),
    (body("tiny", max_tokens=10**400), 400, "invalid_value"),
    (body("tiny", temperature=-1), 400, "invalid_value"),
    (body("tiny", temperature=10**400), 400, "invalid_value"),
    ('{"model": "tiny", "messages": [{"role": "user", "content": "a"}], "temperature": 1e999}', 400, "invalid_json"),
    (body("tiny", top_p=7), 400, "bad_request"),
    (body("tiny", nonsense=7), 400, "bad_request"),
    (body("tiny", "word " * 5000), 400, "bad_request"),
    (body("tiny", prompt_variables=[1]), 400, "invalid_value"),
    (body("tinny"), 404, "model_not_found"),
]


@pytest.mark.parametrize(("sent", "status", "code"), REFUSED)
def test_what_cannot_be_answered_is_refused_by_name(tiny, sent, status, code):
    found, error = tiny.refused("/v1/chat/completions", sent.encode() if isinstance(sent, str) else sent)
    assert (found, error["code"]) == (status, code)
    if code in ("invalid_value", "unsupported_value", "model_not_found"):
        assert error["param"]


def test_what_asks_for_nothing_more_than_a_text_is_not_refused(tiny):
    nothing = {"n": 1, "logprobs": False, "presence_penalty": 0, "tool_choice": "none", "tools": [], "response_format": {"type": "text"}}
    silent = {"user": "eve", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}
    assert tiny.chat(QUESTION, **nothing, **silent).choices[0].message.content == tiny.chat(QUESTION).choices[0].message.content


def test_a_model_is_found_by_its_name(tiny):
    assert tiny.client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="Did you mean tiny"):
        tiny.client.models.retrieve("tinny")


def test_a_model_that_is_not_served_is_an_error_that_the_client_knows(tiny):
    with pytest.raises(openai.NotFoundError, match=r"Did you mean tiny\? Known: tiny"):
        tiny.chat(model="tinny")


def test_a_body_of_ten_megabytes_is_too_large(tiny):
    assert tiny.refused("/v1/chat/completions", body("tiny", "a" * 10_000_000))[0] == 413
    with pytest.raises(openai.APIStatusError) as refused:
        tiny.chat("a" * 10_000_000)
    assert refused.value.status_code == 413 and refused.value.code == "request_too_large"


def test_other_paths_and_methods_are_refused_in_the_same_shape(tiny):
    assert tiny.refused("/v1/nothing")[0] == 404
    status, error = tiny.refused("/v1/chat/completions")
    assert status == 405 and "POST /v1/chat/completions" in error["message"]


def test_without_keys_only_this_machine_is_answered(tiny):
    status, error = tiny.refused("/v1/chat/completions", body("tiny"), Host="evil.example:80")
    assert (status, error["code"]) == (403, "no_keys") and "keys create" in error["message"]
    page = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    root = tiny.url.removesuffix("/v1")
    request = urllib.request.Request(f"{root}/v1/chat/completions", json.dumps(body("tiny")).encode(), page)
    with pytest.raises(urllib.error.HTTPError, match="415"):
        urllib.request.urlopen(request, timeout=60)
    place = tiny.place.run("serve", "tiny", "--host", "0.0.0.0", "--port", "0")
    assert place.code == 2 and "keys create" in place.err and not place.out


def test_an_answer_is_one_piece_and_a_head_without_a_body_does_not_wait(tiny):
    parts = urlsplit(tiny.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as caller:
        data = json.dumps(body("tiny", QUESTION)).encode()
        for _ in range(2):
            caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
            assert caller.recv(65536).endswith(b"}}")
        caller.sendall(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = caller.recv(65536)
        assert head.startswith(b"HTTP/1.1 200") and head.endswith(b"\r\n\r\n")
        caller.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert caller.recv(65536).endswith(b"}") and caller.recv(1) == b""


def test_figures_are_for_who_is_on_this_machine_and_calls_it_by_its_own_name(tiny):
    assert tiny.send("/metrics")[0] == 200 and "releases" in tiny.health()
    for foreign in ({"Host": "evil.example"}, {"Host": "evil.example:80"}, {"X-Forwarded-For": "192.0.2.1"}, {"Via": "1.1 proxy"}):
        status, error = tiny.refused("/metrics", **foreign)
        assert (status, error["code"]) == (401, "missing_api_key")
        assert set(json.loads(tiny.send("/health", **foreign)[2])) == {"status"}


def test_no_page_of_another_origin_may_ask(tiny):
    status, headers, _ = tiny.send("/v1/models", Origin="http://evil.example")
    assert status == 200 and not [name for name in headers if name.lower().startswith("access-control-")]
    with socket.create_connection((urlsplit(tiny.url).hostname, urlsplit(tiny.url).port), timeout=60) as caller:
        ask = b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n"
        caller.sendall(ask + b"Access-Control-Request-Method: POST\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: caller.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 405") and b"access-control" not in answer.lower()


def test_a_head_without_end_is_refused(tiny):
    with socket.create_connection((urlsplit(tiny.url).hostname, urlsplit(tiny.url).port), timeout=60) as caller:
        caller.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        for _ in range(20):
            try:
                caller.sendall(b"a" * 8192)
            except OSError:
                break
        answer = caller.recv(65536)
    assert answer.startswith(b"HTTP/1.1 431") and json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "headers_too_large"
    assert tiny.send("/health")[0] == 200


def test_metrics_and_health(tiny):
    before = {name: tiny.counter(f"llmops_lab_{name}") for name in ("requests_total", "errors_total", "tokens_total")}
    tiny.chat("a new question for the counters")
    list(tiny.chat("a new question for the counters, streamed", stream=True))
    tiny.refused("/v1/chat/completions", body("tiny", n=2))
    assert tiny.counter("llmops_lab_requests_total") == before["requests_total"] + 3
    assert tiny.counter("llmops_lab_errors_total", kind="unsupported_value") >= 1
    assert tiny.counter("llmops_lab_errors_total") == before["errors_total"] + 1
    assert tiny.counter("llmops_lab_tokens_total", direction="output", release="tiny") > 0
    assert tiny.counter("llmops_lab_tokens_total") > before["tokens_total"]
    assert tiny.counter("llmops_lab_ttft_seconds_count", release="tiny") >= 1
    assert tiny.counter("llmops_lab_request_seconds_count") == tiny.counter("llmops_lab_requests_total")
    assert tiny.counter("llmops_lab_in_flight_requests") == 0
    health = tiny.health()
    assert health["status"] == "ok" and [each["name"] for each in health["releases"]] == ["tiny"]


def test_feedback_belongs_to_a_request(tiny):
    answer = tiny.chat("was this good?")
    status, _, said = tiny.send("/v1/feedback", {"request_id": answer.id, "value": False, "comment": "no; my key is sk-" + "a" * 24})
    assert status == 200 and json.loads(said)["request_id"] == answer.id
    assert tiny.refused("/v1/feedback", {"request_id": "chatcmpl-none", "value": True})[0] == 404
    assert tiny.refused("/v1/feedback", {"request_id": answer.id})[1]["param"] == "value"
    assert tiny.refused("/v1/feedback", {"request_id": answer.id, "value": -(10**400)})[1]["param"] == "value"
    assert tiny.refused("/v1/feedback", b'{"request_id": "a", "value": 1e999}')[1]["code"] == "invalid_json"  # no number in JSON
    ledger = until(lambda: tiny.place.count("served_feedback"))
    assert ledger == 1 and b"a" * 24 not in (tiny.place.home / "lab.db").read_bytes()


def test_a_restart_keeps_the_cache_and_the_requests(tmp_path):
    with Served(tmp_path, "tiny") as served:
        first = served.chat("kept?")
        assert served.stop() == 0
        served.start()
        raw = served.client.chat.completions.with_raw_response.create(model="tiny", messages=[{"role": "user", "content": "kept?"}])
        assert raw.headers["x-llmops-lab-cache"] == "hit"
        assert raw.parse().choices == first.choices and raw.parse().usage == first.usage
        assert served.send("/v1/feedback", {"request_id": first.id, "value": 1})[0] == 200  # answered before the restart
        assert served.stop(signal.SIGINT) == 0


BAD_USE = [
    (["tinny"], "no model or release called 'tinny'. Did you mean tiny?"),
    (["tiny", "tiny"], "named twice"),
    (["bot@"], "does not say which version"),
    (["hf:nowhere"], "no folder 'nowhere'"),
    (["tiny", "--trace", "2"], "must be a share from 0 to 1"),
]


@pytest.mark.parametrize(("words", "said"), BAD_USE)
def test_bad_use_ends_before_anything_is_served(tmp_path, words, said):
    done = Place(tmp_path).run("serve", *words, "--port", "0")
    assert (done.code, done.out) == (2, "") and said in done.err and "Traceback" not in done.err


def test_a_port_that_is_taken_is_said_before_anything_loads(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = Place(tmp_path).run("serve", "hf:nowhere", "--port", port)
    assert done.code == 2 and f"127.0.0.1:{port} cannot be used: Address already in use" in done.err and "nowhere" not in done.err
