"""The openai provider over real sockets: what is sent, to whom, with which key, and how each thing that breaks is told."""

import asyncio
import contextlib
import datetime
import json
import math
import socket
import ssl
import threading
import time
import warnings
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_lab.errors import FAULT_KINDS, BadInput, ProviderFault
from llmops_lab.models import openai
from llmops_lab.models._wire import StreamedReply, reply
from llmops_lab.records import Message, Reply, Request, Usage
from llmops_lab.remote.faults import refusal
from llmops_lab.settings import Settings
from tests.servers import BEHAVIOURS, FAULTS, ModelServer, answers, chunk, raw, refuses, replies, streams

HELLO = Request((Message("user", "hello there"),), {"temperature": 0})
KEY = "sk-test-0123456789abcdefghij"


@pytest.fixture(scope="module")
def running():
    with ModelServer() as server:
        yield server


@pytest.fixture
def server(running):
    running.clear()
    return running


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def connect(server, name="a-model", **values):
    return openai.connect(f"{name}@{server.url}", settings=Settings(**values))


def ask(provider, request=HELLO, *, timeout=5.0, pieces=None, times=1):
    async def all_of_it():
        try:
            return [await provider.ask(request, timeout=timeout, on_text=None if pieces is None else pieces.append) for _ in range(times)][
                -1
            ]
        finally:
            await provider.close()

    return asyncio.run(all_of_it())


def fault_of(provider, **how):
    with pytest.raises(ProviderFault) as caught:
        ask(provider, **how)
    return caught.value


# --- a good answer


def test_an_answer_comes_back_whole(server):
    server.script(
        answers(
            200,
            {
                "model": "a-model-2",
                "choices": [{"message": {"content": "hi \ud83d\ude00"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 2},
            },
        )
    )
    got = ask(connect(server))
    assert (got.text, got.finish_reason, got.usage, got.model) == ("hi 😀", "stop", Usage(7, 2), "a-model-2")
    assert 0 < got.latency_s < 5 and got.ttft_s is None


def test_what_is_sent_is_the_request(server):
    parts = ({"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}})
    tools = ({"type": "function", "function": {"name": "weather", "parameters": {}}},)
    schema = {"title": "My answer", "type": "object", "properties": {"a": {"type": "string"}}}
    request = Request(
        (Message("system", "be brief"), Message("user", parts)), {"temperature": 0, "stop": ["\n"], "min_p": 0.1}, schema, tools
    )
    ask(connect(server, "org/name:tag@2024"), request)
    assert server.requests[0].body == {
        "model": "org/name:tag@2024",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": list(parts)}],
        "temperature": 0,
        "stop": ["\n"],
        "min_p": 0.1,
        "stream": False,
        "tools": list(tools),
        "response_format": {"type": "json_schema", "json_schema": {"name": "My_answer", "schema": schema, "strict": False}},
    }


def test_a_schema_is_strict_only_where_openai_takes_it_so(server):
    inner = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"], "additionalProperties": False}
    outer = {"type": "object", "properties": {"a": inner}, "required": ["a"], "additionalProperties": False}
    for schema in (outer, {**outer, "required": []}, {**outer, "properties": {"a": {**inner, "additionalProperties": True}}}):
        ask(connect(server), Request(HELLO.messages, {}, schema))
    assert [seen.body["response_format"]["json_schema"]["strict"] for seen in server.requests] == [True, False, False]


@pytest.mark.parametrize("text", ["", "a\x00b", "\ud800 alone", "שלום", "x" * (5 * 2**20)], ids=["empty", "nul", "surrogate", "rtl", "5MB"])
def test_any_text_goes_there_and_back(server, text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(connect(server), Request((Message("user", text),))).text == text


def test_tool_calls_and_a_null_content_are_an_answer(server):
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    server.script(replies(None, message={"role": "assistant", "content": None, "tool_calls": [call]}, finish_reason="tool_calls"))
    got = ask(connect(server))
    assert (got.text, got.tool_calls, got.finish_reason) == ("", (call,), "tool_calls")


@pytest.mark.parametrize(
    "logprobs", [{"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.25}]}, {"token_logprobs": [None, -0.5, -1.25]}]
)
def test_logprobs_in_both_forms(server, logprobs):
    server.script(replies("ab", logprobs=logprobs))
    assert ask(connect(server), Request(HELLO.messages, {"logprobs": True})).logprobs == (-0.5, -1.25)


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("eos", "stop"),
        ("end_turn", "stop"),
        ("STOP", "stop"),
        ("tool_use", "tool_calls"),
    ],
)
def test_other_servers_words_for_a_finish_reason(server, word, meaning):
    server.script(replies("hi", finish_reason=word))
    assert ask(connect(server)).finish_reason == meaning


def test_variations_of_servers_are_taken_in(server):
    server.script(
        answers(200, {"choices": [{"message": {"content": "no usage, no model"}, "finish_reason": "stop"}], "timings": {"x": 1}}),
        replies("", message={"content": [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]}),
        replies(None, message={"content": None, "refusal": "I will not."}),
        answers(200, b"\xef\xbb\xbf" + json.dumps({"choices": [{"message": {"content": "bom"}, "finish_reason": "stop"}]}).encode()),
    )
    provider = connect(server)
    got = [ask(provider) for _ in range(4)]
    assert [each.text for each in got] == ["no usage, no model", "in parts", "I will not.", "bom"]
    assert got[0].usage == Usage(None, None)


def test_a_reply_that_was_cut_by_the_token_limit_is_a_reply(server):
    server.script("length", "empty_text")
    provider = connect(server)
    assert ask(provider).finish_reason == "length"
    assert (ask(provider).text, ask(provider).finish_reason) == ("", "stop")


def test_one_connection_serves_many_calls_whole_or_streamed(server):
    ports = set()

    async def port(request, body):
        ports.add(request.transport.get_extra_info("peername")[1])
        return await BEHAVIOURS["ok"](request, body)

    server.always(port)
    ask(connect(server), times=3)
    ask(connect(server), times=3, pieces=[])
    assert len(ports) == 2


def test_a_provider_serves_several_event_loops_and_can_be_used_after_close(server):
    provider = connect(server)
    assert [ask(provider).text for _ in range(3)] == ["hello there"] * 3

    async def unclosed():
        return await provider.ask(HELLO, timeout=5)

    assert asyncio.run(unclosed()).text == "hello there"  # that loop is gone with an open session
    asyncio.run(provider.close())


# --- streams


def test_a_stream_hands_over_pieces_and_takes_the_time(server):
    server.script(
        streams(chunk({}, {"role": "assistant"}), 0.05, chunk({}, {"content": "a"}), 0.1, chunk({}, {"content": "b"}, "stop"), "[DONE]")
    )
    pieces = []
    got = ask(connect(server), pieces=pieces)
    assert (got.text, pieces) == ("ab", ["a", "b"])
    assert 0.04 < got.ttft_s < got.latency_s - 0.05


def test_a_stream_reports_usage(server):
    assert ask(connect(server), pieces=[]).usage == Usage(2, 2)
    assert server.requests[0].body["stream_options"] == {"include_usage": True}


def test_streamed_tool_calls_are_put_together(server):
    def piece(index, **function):
        return chunk({}, {"tool_calls": [{"index": index, **({"id": f"c{index}"} if "name" in function else {}), "function": function}]})

    server.script(
        streams(piece(0, name="weather", arguments=""), piece(0, arguments='{"city":'), piece(1, name="time", arguments="{}"),
                piece(0, arguments=' "Bern"}'), chunk({}, {}, "tool_calls"), "[DONE]")
    )  # fmt: skip
    assert ask(connect(server), pieces=[]).tool_calls == (
        {"id": "c0", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}},
        {"id": "c1", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    )


def test_a_stream_in_any_dialect(server):
    first, last = (
        json.dumps(each).encode() for each in (chunk({}, {"content": "hé"}), chunk({}, {"content": "llo", "extra": 1}, "eos_token"))
    )
    logprobs = json.dumps({"choices": [{"delta": None, "logprobs": {"content": [{"logprob": -1.0}]}}]}).encode()
    dialects = {
        "no space, no done": b"data:" + first + b"\n\ndata:" + last + b"\n\n",
        "crlf, comments, names": b": ping\r\nevent: message\r\nid: 1\r\ndata: "
        + first
        + b"\r\n\r\ndata: "
        + last
        + b"\r\n\r\ndata: [DONE]\r\n\r\n",
        "no blank lines": b"data: " + first + b"\ndata: " + logprobs + b"\ndata: " + last + b"\ndata: [DONE]\n",
        "no last line end": b"data: " + first + b"\n\ndata: " + last,
    }
    for name, data in dialects.items():
        for size in (1, 7, len(data)):
            server.script(streams(*(data[start : start + size] for start in range(0, len(data), size))))
            assert ask(connect(server), pieces=[]).text == "héllo", (name, size)


def test_a_server_that_does_not_stream_still_answers(server):
    server.script(replies("all at once"))
    pieces = []
    assert ask(connect(server), pieces=pieces).text == "all at once"
    assert pieces == ["all at once"]


@pytest.mark.parametrize("behaviour", ["cut_after_finish", "cut_chunked_after_finish"])
def test_a_stream_that_breaks_after_its_finish_reason_is_whole(server, behaviour):
    server.script(behaviour)
    got = ask(connect(server), pieces=[])
    assert (got.text, got.usage) == ("the answer is 42", Usage(None, None))


def test_a_stream_that_is_never_closed_after_done_costs_no_time(server):
    server.script(streams(chunk({}, {"content": "hi"}, "stop"), "[DONE]", 30))
    started = time.monotonic()
    assert ask(connect(server), pieces=[]).text == "hi"
    assert time.monotonic() - started < 5


# --- the 16 faults, each as the server really plays it

EXPECTED = {  # kind, retryable, answered, in doubt
    "429_seconds": ("rate_limited", True, True, False),
    "429_date": ("rate_limited", True, True, False),
    "429_ms": ("rate_limited", True, True, False),
    "429_quota": ("rate_limited", False, True, False),
    "500": ("server_error", True, True, False),
    "502": ("server_error", True, True, False),
    "503": ("server_error", True, True, False),
    "529": ("server_error", True, True, False),
    "timeout": ("timeout", True, False, True),
    "reset": ("connection", True, False, True),
    "short_body": ("connection", True, True, True),
    "bad_json": ("malformed", True, True, False),
    "html_200": ("malformed", True, True, False),
    "empty_choices": ("empty", True, True, False),
    "null_content": ("empty", True, True, False),
    "no_finish_reason": ("incomplete", True, True, False),
    "400": ("bad_request", False, True, False),
    "401": ("unauthorized", False, True, False),
    "403": ("unauthorized", False, True, False),
    "404": ("not_found", False, True, False),
    "422": ("bad_request", False, True, False),
    "content_filter": ("content_filter", False, True, False),
}
EXPECTED_STREAMED = {
    "cut_stream_close": ("incomplete", True, True, True),
    "cut_stream_chunked": ("connection", True, True, True),
    "cut_stream_length": ("connection", True, True, True),
    "stalled_stream": ("timeout", True, True, True),
}


def told(fault):
    return fault.kind, fault.retryable, fault.answered, fault.in_doubt


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("behaviour", EXPECTED)
def test_a_fault_is_told_as_what_it_is(server, behaviour, streamed):
    server.script(behaviour)
    fault = fault_of(connect(server), timeout=0.4 if behaviour == "timeout" else 5, pieces=[] if streamed else None)
    assert told(fault) == EXPECTED[behaviour]
    assert server.count("hello there") == 1  # one ask is one try


@pytest.mark.parametrize("behaviour", EXPECTED_STREAMED)
def test_a_broken_stream_is_told_as_what_it_is(server, behaviour):
    server.script(behaviour)
    pieces = []
    fault = fault_of(connect(server), timeout=0.4 if behaviour == "stalled_stream" else 5, pieces=pieces)
    assert told(fault) == EXPECTED_STREAMED[behaviour]
    assert pieces == ["the answer "]


def test_the_matrix_is_whole():
    assert len(FAULTS) == 16
    assert {name for names in FAULTS.values() for name in names} <= EXPECTED.keys() | EXPECTED_STREAMED.keys()


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fault = fault_of(openai.connect(f"m@http://127.0.0.1:{port}/v1", settings=Settings()))
    assert told(fault) == ("connection", True, False, False)
    assert f"http://127.0.0.1:{port}/v1" in str(fault)


def test_an_unknown_host():
    provider = openai.connect("m@http://nobody.invalid/v1", settings=Settings(keys={"http://nobody.invalid": ""}))
    assert told(fault_of(provider)) == ("connection", True, False, False)


def test_a_server_that_does_not_take_the_connection():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(4):  # fill the backlog: later connections hang in their handshake
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            fault = fault_of(openai.connect(f"m@http://127.0.0.1:{full.getsockname()[1]}/v1", settings=Settings()), timeout=0.5)
    assert told(fault) == ("connection", True, False, False)


def test_a_server_that_speaks_no_tls(server):
    provider = openai.connect(f"m@{server.url.replace('http', 'https')}", settings=Settings())
    assert told(fault_of(provider))[:1] == ("connection",)


def test_a_certificate_that_nobody_signed_is_final(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError, ssl.SSLError):
                connection, _ = listener.accept()
                context.wrap_socket(connection, server_side=True)

        threading.Thread(target=serve, daemon=True).start()
        fault = fault_of(openai.connect(f"m@https://127.0.0.1:{listener.getsockname()[1]}/v1", settings=Settings()))
    assert told(fault) == ("connection", False, False, False)


def self_signed(folder):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(pem)
    return folder / "server.pem"


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ((b"garbage that is no HTTP\r\n\r\n",), "malformed"),
        ((b"",), "connection"),
        ((b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n",), "connection"),
        ((b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",), "connection"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",), "malformed"),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), "malformed"),
        ((b'HTTP/1.0 200 OK\r\n\r\n[{"choices": []}]',), "malformed"),
        ((b'HTTP/1.0 200 OK\r\n\r\n{"choices": [5]}',), "malformed"),
    ],
)
def test_broken_http(server, pieces, kind):
    server.script(raw(*pieces))
    fault = fault_of(connect(server))
    assert (fault.kind, fault.retryable) == (kind, True)


def test_a_slow_trickle_ends_at_the_timeout(server):
    server.script(streams(*[0.05, chunk({}, {"content": "x"})] * 1000))
    started = time.monotonic()
    assert told(fault_of(connect(server), timeout=0.5, pieces=[])) == ("timeout", True, True, True)
    assert time.monotonic() - started < 20  # the trickle lasts 50 s


# --- refusals


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({"Retry-After": "-5"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "Fri, 99 Foo 2026"}, None),
        ({}, None),
        ({"Date": formatdate(1_000_000, usegmt=True), "Retry-After": formatdate(1_000_007, usegmt=True)}, 7.0),  # the server's clock counts
        ({"Retry-After": formatdate(1_000_000, usegmt=True)}, 0.0),
    ],
)
def test_retry_after(headers, seconds):
    class Headers(dict):
        def get(self, name, default=None):
            return super().get(name.title() if name != "retry-after-ms" else name, default)

    assert refusal(429, Headers(headers), b"").retry_after == seconds


def test_retry_after_as_a_date_without_the_servers_clock():
    fault = refusal(503, {"retry-after": formatdate(time.time() + 30, usegmt=True)}, b"")
    assert fault.retry_after == pytest.approx(30, abs=1.5)


@pytest.mark.parametrize(
    ("status", "body", "kind", "retryable"),
    [
        (400, {"error": {"code": "content_filter", "message": "no"}}, "content_filter", False),
        (400, {"error": {"code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "content_filter", False),
        (429, {"error": {"type": "insufficient_quota"}}, "rate_limited", False),
        (402, {"error": {"message": "Insufficient Balance"}}, "rate_limited", False),
        (404, {"error": "model 'x' not found, try pulling it first"}, "not_found", False),
        (400, {"object": "error", "message": "too long", "code": 400}, "bad_request", False),
        (405, "Method Not Allowed", "not_found", False),
        (408, "", "timeout", True),
        (409, "", "server_error", True),
        (413, "", "bad_request", False),
        (501, "", "server_error", False),
        (504, "<html>", "server_error", True),
        (599, [1], "server_error", True),
    ],
)
def test_a_refusal(server, status, body, kind, retryable):
    server.script(answers(status, body))
    fault = fault_of(connect(server))
    assert (fault.kind, fault.retryable, fault.status, fault.answered) == (kind, retryable, status, True)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        ({"code": 429, "message": "slow down"}, "rate_limited", True),
        ({"code": "rate_limit_exceeded"}, "rate_limited", True),
        ({"code": "insufficient_quota"}, "rate_limited", False),
        ({"code": "502", "message": "upstream"}, "server_error", True),
        ({"type": "invalid_request_error", "code": "context_length_exceeded"}, "bad_request", False),
        ({"code": "content_filter"}, "content_filter", False),
        ("CUDA out of memory", "server_error", True),
    ],
)
def test_an_error_inside_an_answer_of_200(server, error, kind, retryable, streamed):
    server.script(streams({"error": error}) if streamed else answers(200, {"error": error}))
    fault = fault_of(connect(server), pieces=[] if streamed else None)
    assert (fault.kind, fault.retryable, fault.in_doubt) == (kind, retryable, False)


def test_an_error_in_a_begun_stream_leaves_doubt(server):
    for line in (
        b'data: {"error": {"code": 500, "message": "lost"}}\n\n',
        b'error: {"code": 500, "message": "lost"}\n\n',
        b'{"error": "lost"}\n',
    ):
        server.script(streams(chunk({}, {"content": "the "}), line))
        assert told(fault_of(connect(server), pieces=[])) == ("server_error", True, True, True)


@pytest.mark.parametrize("finish", ["error", "abort", "insufficient_system_resource"])
def test_a_server_that_gives_up_says_so_in_the_finish_reason(server, finish):
    server.script(replies("the ans", finish_reason=finish))
    assert fault_of(connect(server)).retryable


def test_the_server_may_say_whether_to_try_again(server):
    server.script(refuses(500, x_should_retry="false"), refuses(400, x_should_retry="true"))
    provider = connect(server)
    assert [fault_of(provider).retryable, fault_of(provider).retryable] == [False, True]


def test_a_redirect_is_not_followed(server):
    with ModelServer() as elsewhere:
        server.script(answers(307, "", Location=f"{elsewhere.url}/chat/completions"))
        fault = fault_of(connect(server))
        assert elsewhere.requests == []
    assert (fault.kind, fault.retryable) == ("not_found", False)


def test_messages_are_short_and_hold_no_key(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    server.script(
        refuses(401, f"bad key {KEY}" + "x" * 5000),
        answers(200, {"error": {"message": f"who is\n\n {KEY}?"}}),
        answers(500, f"Traceback ... {KEY}"),
        raw(b"HTTP/1.1 nonsense " + KEY.encode() + b"\r\n\r\n"),
        "reset",
    )
    provider = connect(server, keys={server.url: "MY_KEY"})
    for _ in range(5):
        fault = fault_of(provider)
        seen, error = "", fault
        while error is not None:  # what a traceback would show, its chained exceptions too
            seen, error = seen + repr(error), error.__cause__ or error.__context__
        assert KEY not in seen
        assert len(str(fault)) < 400 and "\n" not in str(fault)
    assert KEY not in repr(vars(provider)["identity"]) + provider.pool


def test_an_unknown_model_says_where_to_look(server):
    server.script("404")
    assert "BASE_URL" in str(fault_of(connect(server)))


def test_a_parameter_that_is_no_json_is_not_sent(server):
    for value in (math.nan, object()):
        fault = fault_of(connect(server), request=Request(HELLO.messages, {"temperature": value}))
        assert (fault.kind, fault.retryable) == ("bad_request", False)
    assert server.requests == []


def test_a_newer_name_of_the_token_limit_is_learnt(server):
    server.script(
        refuses(400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
    )
    provider, request = connect(server), Request(HELLO.messages, {"max_tokens": 9})
    fault = fault_of(provider, request=request)
    assert (fault.retryable, fault.retry_after) == (True, 0.0)
    ask(provider, request)
    assert [{name: value for name, value in seen.body.items() if "max" in name} for seen in server.requests] == [
        {"max_tokens": 9},
        {"max_completion_tokens": 9},
    ]


def test_a_server_without_stream_options_is_learnt(server):
    server.script(refuses(422, "extra_forbidden: stream_options"))
    provider = connect(server)
    assert fault_of(provider, pieces=[]).retryable
    assert ask(provider, pieces=[]).text == "hello there"
    assert "stream_options" not in server.requests[1].body


# --- any answer at all


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["stop", "length", "content_filter"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "delta", "content", "finish_reason", "error", "usage", "tool_calls", "function", "code", "logprobs"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
ANSWERS = st.fixed_dictionaries(
    {}, optional={"choices": JSON | st.lists(st.dictionaries(st.sampled_from(["message", "delta", "finish_reason", "logprobs"]), JSON),
                                             max_size=2),
                  "error": JSON, "usage": JSON, "model": JSON, "message": JSON, "detail": JSON},
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(ANSWERS)
def test_any_json_is_a_reply_or_a_fault(payload):
    try:
        got = reply(payload, latency_s=0.0)
    except ProviderFault as fault:
        assert fault.kind in FAULT_KINDS
    else:
        assert isinstance(got, Reply) and isinstance(got.text, str) and got.finish_reason


@settings(max_examples=120, deadline=None)
@given(st.lists(ANSWERS | JSON, max_size=4))
def test_any_stream_of_json_is_a_reply_or_a_fault(payloads):
    collected = StreamedReply()
    try:
        pieces = [collected.add(each) for each in payloads]
        got = collected.reply(latency_s=0.0, ttft_s=None, cut=False)
    except ProviderFault as fault:
        assert fault.kind in FAULT_KINDS
    else:
        assert got.text == "".join(pieces) and got.finish_reason


# --- targets and keys


@pytest.mark.parametrize(
    ("target", "identity", "pool"),
    [
        ("m@http://127.0.0.1:8000/v1", "openai:m@http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("m@HTTP://LocalHost:80/v1/", "openai:m@http://localhost/v1", "http://localhost/v1"),
        ("org/m:7b@q4@http://[::1]:8080", "openai:org/m:7b@q4@http://[::1]:8080", "http://[::1]:8080"),
        ("m@http://0.0.0.0:8000/v1/chat/completions", "openai:m@http://0.0.0.0:8000/v1", "http://0.0.0.0:8000/v1"),
    ],
)
def test_a_target(target, identity, pool):
    provider = openai.connect(target, settings=Settings())
    assert (provider.identity, provider.pool, provider.local, provider.price) == (identity, pool, False, None)


@pytest.mark.parametrize(
    "target",
    ["", "@http://127.0.0.1/v1", "http://127.0.0.1/v1", "m@127.0.0.1:8000/v1", "m@ftp://x/v1", "m@http://", "m@http://h:99999/v1",
     "m@http://a b/v1", "m@http://user:secret@127.0.0.1/v1", "m@http://127.0.0.1/v1?key=secret", "m@http://127.0.0.1/v1#x", "m@http://[::1/v1"],
)  # fmt: skip
def test_a_malformed_target_is_refused(target, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(BadInput) as caught:
        openai.connect(target, settings=Settings())
    assert "secret" not in str(caught.value)


def authorization(server, keys=None):
    server.clear()
    ask(connect(server, keys=keys or {}))
    return server.requests[0].headers.get("Authorization")


def test_a_loopback_server_gets_no_key_unless_it_was_named_for_it(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("MY_KEY", "mine-12345678")
    assert authorization(server) is None
    assert authorization(server, {"http://127.0.0.1": "MY_KEY"}) == "Bearer mine-12345678"
    assert authorization(server, {server.url: "OPENAI_API_KEY"}) == f"Bearer {KEY}"
    assert authorization(server, {"http://127.0.0.1": "OPENAI_API_KEY", server.url: "MY_KEY"}) == "Bearer mine-12345678"  # the longest
    assert authorization(server, {"http://127.0.0.1": "MY_KEY", server.url: ""}) is None


def test_openai_base_url_and_openai_api_key_belong_together(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    provider = openai.connect("m", settings=Settings())
    assert provider.identity == f"openai:m@{server.url}"
    ask(provider)
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    with pytest.raises(BadInput, match=r"tool\.llmops_lab\.keys"):
        openai.connect("m@https://api.openai.com/v1", settings=Settings())


def test_the_default_server_is_openais(monkeypatch):
    with pytest.raises(BadInput, match="OPENAI_API_KEY"):
        openai.connect("gpt-4o-mini", settings=Settings())
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert openai.connect("gpt-4o-mini", settings=Settings()).identity == "openai:gpt-4o-mini@https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("url", "keys", "words"),
    [
        ("https://models.example/v1", {}, "models.example"),
        ("https://models.example/v1", {"https://models.example": "NOT_SET"}, "NOT_SET"),
        ("https://models.example.evil.test/v1", {"https://models.example": "MY_KEY"}, "no key is named"),
        ("https://models.example/v1", {"https://models.example/v": "MY_KEY"}, "no key is named"),
        ("https://models.example/v1", {"models": "MY_KEY", "": "MY_KEY"}, "no key is named"),
        ("http://models.example/v1", {"http://models.example": "MY_KEY"}, "https"),
        ("https://models.example/v1", {"https://models.example": "BROKEN_KEY"}, "BROKEN_KEY"),
    ],
)
def test_a_remote_server_without_its_own_key_is_refused(url, keys, words, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("MY_KEY", "mine-12345678")
    monkeypatch.setenv("BROKEN_KEY", "mine\nInjected: header")
    with pytest.raises(BadInput, match=words) as caught:
        openai.connect(f"m@{url}", settings=Settings(keys=keys))
    assert KEY not in str(caught.value) and "mine" not in str(caught.value)


def test_a_remote_server_may_be_named_as_needing_no_key_and_a_proxy_is_used(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
    provider = openai.connect("m@http://models.example/v1", settings=Settings(keys={"http://models.example": ""}))
    assert ask(provider).text == "hello there"
    assert server.requests[0].headers["Host"] == "models.example"
    assert "Authorization" not in server.requests[0].headers


def test_no_proxy_stands_between_us_and_this_machine(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert ask(connect(server)).text == "hello there"


def test_connecting_sends_nothing(server):
    connect(server)
    assert server.requests == []
