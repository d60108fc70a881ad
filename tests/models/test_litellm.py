"""The litellm provider against the same broken server, through litellm's own client."""

import asyncio
import json
import subprocess
import sys

import pytest

from llmops_lab.errors import BadInput, MissingExtra, ProviderFault, UnknownName
from llmops_lab.records import Message, Request, Usage
from llmops_lab.settings import Settings
from tests.servers import ModelServer, refuses, replies

pytest.importorskip("litellm")
from llmops_lab.models import litellm as provider_file

HELLO = Request((Message("user", "hello there"),), {"temperature": 0})
KEY = "sk-test-0123456789abcdefghij"


@pytest.fixture(scope="module")
def running():
    with ModelServer() as server:
        yield server


@pytest.fixture
def server(running, monkeypatch):
    running.clear()
    monkeypatch.setenv("HOSTED_VLLM_API_BASE", running.url)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return running


def ask(request=HELLO, *, timeout=20.0, pieces=None):
    provider = provider_file.connect("hosted_vllm/a-model", settings=Settings())
    return asyncio.run(provider.ask(request, timeout=timeout, on_text=None if pieces is None else pieces.append))


def test_an_answer(server):
    got = ask(Request((Message("system", "be brief"), Message("user", "hello there")), {"temperature": 0, "max_tokens": 9}))
    assert (got.text, got.finish_reason, got.usage) == ("hello there", "stop", Usage(4, 2))
    body = server.requests[0].body
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("a-model", 0, 9)
    assert body["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello there"}]


def test_a_stream(server):
    pieces = []
    got = ask(pieces=pieces)
    assert (got.text, "".join(pieces), got.finish_reason, got.usage) == ("hello there", "hello there", "stop", Usage(2, 2))
    assert 0 < got.ttft_s <= got.latency_s


def test_a_tool_call(server):
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    server.script(replies(None, message={"role": "assistant", "content": None, "tool_calls": [call]}, finish_reason="tool_calls"))
    got = ask()
    assert (got.text, got.tool_calls[0]["function"]) == ("", call["function"])


@pytest.mark.parametrize(
    ("behaviour", "kind", "retryable"),
    [
        ("429_seconds", "rate_limited", True),
        ("429_quota", "rate_limited", False),
        ("500", "server_error", True),
        ("503", "server_error", True),
        ("timeout", "timeout", True),
        ("short_body", "connection", True),
        ("empty_choices", "empty", True),
        ("null_content", "empty", True),
        ("bad_json", "malformed", True),
        ("html_200", "malformed", True),
        ("400", "bad_request", False),
        ("401", "unauthorized", False),
        ("404", "not_found", False),
        ("content_filter", "content_filter", False),
    ],
)
def test_a_fault_is_told_and_tried_once(server, behaviour, kind, retryable):
    server.script(behaviour)
    with pytest.raises(ProviderFault) as caught:
        ask(timeout=2 if behaviour == "timeout" else 20)
    assert (caught.value.kind, caught.value.retryable) == (kind, retryable)
    assert server.count("hello there") == 1
    if behaviour == "429_seconds":
        assert caught.value.retry_after == 2.0


def test_a_reset_connection_is_a_fault_although_litellm_tries_again_by_itself(server):
    server.always("reset")
    with pytest.raises(ProviderFault) as caught:
        ask()
    assert (caught.value.kind, caught.value.answered, caught.value.in_doubt) == ("connection", False, True)
    assert server.count("hello there") <= 2


@pytest.mark.parametrize("behaviour", ["cut_stream_close", "cut_stream_chunked", "cut_stream_length"])
def test_a_cut_stream_is_no_reply(server, behaviour):
    server.script(behaviour)
    with pytest.raises(ProviderFault) as caught:
        ask(pieces=[])
    assert (caught.value.kind in ("incomplete", "connection"), caught.value.in_doubt, caught.value.answered) == (True, True, True)


def test_messages_are_short(server):
    server.script(refuses(400, "x" * 5000))
    with pytest.raises(ProviderFault) as caught:
        ask()
    assert len(str(caught.value)) < 400


def test_what_enters_the_call_key(server, monkeypatch):
    provider = provider_file.connect("hosted_vllm/a-model", settings=Settings())
    assert provider.identity == f"litellm:hosted_vllm/a-model@{server.url}"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    provider = provider_file.connect("openai/gpt-4o-mini", settings=Settings())
    assert (provider.identity, provider.pool, provider.local) == ("litellm:openai/gpt-4o-mini", "litellm:openai", False)
    assert provider.price.input == pytest.approx(0.15e-6)


@pytest.mark.parametrize("target", ["", "gpt-4o", "openai/", "/gpt-4o"])
def test_a_malformed_target(target):
    with pytest.raises(BadInput, match="PROVIDER/NAME"):
        provider_file.connect(target, settings=Settings())


def test_an_unknown_provider_names_close_ones():
    with pytest.raises(UnknownName, match="anthropic"):
        provider_file.connect("antropic/claude", settings=Settings())


def test_a_missing_key_is_named(monkeypatch):
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BadInput, match="ANTHROPIC_API_KEY"):
        provider_file.connect("anthropic/claude-sonnet-4-5", settings=Settings())


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"llmops-lab\[litellm\]"):
        provider_file.connect("anthropic/claude", settings=Settings())


def test_nothing_reaches_out_and_no_env_file_is_loaded(tmp_path):
    (tmp_path / ".env").write_text("PLANTED=1\n")
    code = (
        "import os, socket\n"
        "def refuse(*a, **k): raise SystemExit(f'reached out: {a}')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "os.environ['OPENAI_API_KEY'] = 'sk-1'\n"
        "from llmops_lab.models import litellm\n"
        "from llmops_lab.settings import Settings\n"
        "litellm.connect('openai/gpt-4o-mini', settings=Settings())\n"
        "print('quiet', 'PLANTED' in os.environ)\n"
    )
    root = str(provider_file.__file__).rsplit("/llmops_lab/", 1)[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": root, "PATH": ""}, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("quiet False", 0), done.stderr


def test_a_caller_of_a_served_model_does_not_say_where_its_requests_and_keys_go(server):
    from llmops_lab.flows.serve_release import load
    from llmops_lab.serving.asked import asked
    from llmops_lab.serving.protocol import ApiError

    release = asyncio.run(load("litellm:hosted_vllm/a-model", Settings(), beside={}))
    usual = {"model": "m", "messages": [{"role": "user", "content": "hello there"}], "seed": 3}
    assert release.prepare(asked(json.dumps(usual).encode())).params == {"seed": 3}
    for name in ("api_base", "base_url", "api_key", "custom_llm_provider", "extra_headers", "mock_response"):
        with pytest.raises(ApiError) as refused:
            release.prepare(asked(json.dumps({**usual, name: "http://127.0.0.1:9"}).encode()))
        assert (refused.value.code, refused.value.param) == ("unsupported_value", name)


def test_what_is_relayed_is_whole(server):
    provider = provider_file.connect("hosted_vllm/a-model", settings=Settings())
    events = []
    streamed = asyncio.run(provider.relay(HELLO, timeout=20.0, on_choices=events.append))
    assert "".join(choice["delta"].get("content") or "" for choices in events for choice in choices) == "hello there"
    whole = asyncio.run(provider.relay(HELLO, timeout=20.0))
    for found in (streamed, whole):
        assert (found.text, found.usage, len(found.choices)) == ("hello there", Usage(2, 2), 1)
        assert (found.choices[0]["message"]["content"], found.choices[0]["finish_reason"]) == ("hello there", "stop")
        json.dumps([found.choices, found.more])
