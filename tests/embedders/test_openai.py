import http.server
import json
import socket
import threading
from dataclasses import replace

import numpy
import pytest

from llmops_lab.embedders import openai
from llmops_lab.errors import BadInput, ProviderFault
from llmops_lab.settings import Settings


def vectors(body):
    data = [{"index": index, "embedding": [float(len(text)), 1.0]} for index, text in enumerate(body["input"])]
    return 200, {}, json.dumps({"data": data[::-1]})


@pytest.fixture
def server():
    """A server whose ``answers`` are used up one by one, then ``vectors``; ``asked`` holds (path, authorization, body)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            here.asked.append((self.path, self.headers["Authorization"], body))
            status, headers, text = (here.answers.pop(0) if here.answers else vectors)(body)
            data = text.encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    here = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.asked, here.answers = [], []
    here.url = f"http://127.0.0.1:{here.server_port}/v1"
    threading.Thread(target=here.serve_forever, daemon=True).start()
    yield here
    here.shutdown()
    here.server_close()


def says(status, text="", **headers):
    return lambda body: (status, headers, text)


@pytest.fixture
def embed(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(openai.time, "sleep", lambda seconds: None)
    return openai.connect(f"nomic@{server.url}", settings=Settings())


def test_texts_become_unit_rows_in_their_order(embed, server):
    rows = embed(["a", "abc"])
    assert numpy.allclose(rows, [[2**-0.5, 2**-0.5], [3 / 10**0.5, 1 / 10**0.5]])
    assert rows.dtype == numpy.float32
    assert server.asked == [("/v1/embeddings", None, {"model": "nomic", "input": ["a", "abc"], "encoding_format": "float"})]


def test_many_texts_go_in_batches(embed, server):
    assert embed([str(number) for number in range(150)]).shape == (150, 2)
    assert [len(body["input"]) for _, _, body in server.asked] == [64, 64, 22]
    assert embed([]).shape[0] == 0


@pytest.mark.parametrize(
    "answer", [says(429, **{"Retry-After": "0"}), says(500), says(503), says(200, "no json"), says(200, '{"data": []}')]
)
def test_what_another_try_can_cure_is_tried_again(embed, server, answer):
    server.answers[:] = [answer, answer]
    assert embed(["a"]).shape == (1, 2)
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "unauthorized"), (403, "unauthorized"), (404, "not_found"), (400, "bad_request"), (307, "not_found")]
)
def test_what_it_cannot_is_not(embed, server, status, kind):
    server.answers[:] = [says(status, '{"error": "sk-abcdefghijklmnopqrst is wrong"}', Location="http://127.0.0.1:9/")]
    with pytest.raises(ProviderFault) as raised:
        embed(["a"])
    assert (raised.value.kind, raised.value.status, len(server.asked)) == (kind, status, 1)
    assert "sk-abc" not in str(raised.value)


def test_a_wait_that_is_too_long_is_not_waited(embed, server):
    server.answers[:] = [says(429, **{"Retry-After": "900"})]
    with pytest.raises(ProviderFault) as raised:
        embed(["a"])
    assert (raised.value.kind, raised.value.retry_after) == ("rate_limited", 900)


@pytest.mark.parametrize(
    "data",
    [
        '{"data": [{"index": 0}]}',
        '{"data": [{"index": 1, "embedding": [1]}]}',
        '{"data": [{"index": 0, "embedding": ["x"]}]}',
        '{"data": [{"index": 0, "embedding": []}]}',
        '{"data": [{"index": 0, "embedding": [NaN]}]}',
        '{"error": "model not loaded"}',
        "[]",
        "null",
    ],
)
def test_an_answer_without_vectors_is_malformed(embed, server, data):
    server.answers[:] = [says(200, data)] * 3
    with pytest.raises(ProviderFault) as raised:
        embed(["a"])
    assert raised.value.kind == "malformed"


def test_a_body_cut_short_is_a_fault(embed, server):
    server.answers[:] = [says(200, '{"data"', **{"Content-Length": "100"})] * 3
    server.timeout = 0.2
    embed._timeout = 0.3
    with pytest.raises(ProviderFault) as raised:
        embed(["a"])
    assert raised.value.kind in ("timeout", "connection")


def test_nobody_there_is_a_connection_fault(embed):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = openai.connect(f"m@http://127.0.0.1:{free.getsockname()[1]}/v1", settings=Settings())
        with pytest.raises(ProviderFault, match="cannot be reached") as raised:
            away(["a"])
    assert raised.value.kind == "connection"


def test_a_server_that_is_silent_times_out(embed):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        slow = openai.connect(f"m@http://127.0.0.1:{silent.getsockname()[1]}/v1", settings=replace(Settings(), timeout=0.1))
        with pytest.raises(ProviderFault) as raised:
            slow(["a"])
    assert raised.value.kind == "timeout"


def test_each_server_sees_its_own_key_only(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "openai-key-123456")
    monkeypatch.setenv("MY_KEY", "my-key-12345678")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    openai.connect(f"m@{server.url}", settings=Settings())(["a"])
    openai.connect(f"m@{server.url}", settings=replace(Settings(), keys={f"http://127.0.0.1:{server.server_port}": "MY_KEY"}))(["a"])
    openai.connect(f"m@{server.url}", settings=replace(Settings(), keys={server.url[:-4]: "MY_KEY"}))(["a"])
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
    openai.connect("m", settings=Settings())(["a"])
    assert [key for _, key, _ in server.asked] == [None, "Bearer my-key-12345678", None, "Bearer openai-key-123456"]


def test_a_key_that_is_missing_or_could_be_overheard_is_refused(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(BadInput, match="OPENAI_API_KEY is not set"):
        openai.connect("text-embedding-3-small", settings=Settings())
    with pytest.raises(BadInput, match="no key is named for https://example"):
        openai.connect("m@https://example.com/v1", settings=Settings())
    monkeypatch.setenv("MY_KEY", "my-key-12345678")
    with pytest.raises(BadInput, match="plain http"):
        openai.connect("m@http://example.com/v1", settings=replace(Settings(), keys={"http://example.com": "MY_KEY"}))
    assert openai.connect("m@https://example.com/v1", settings=replace(Settings(), keys={"https://example.com": ""}))


def test_a_key_that_the_server_repeats_is_not_told(server, monkeypatch):
    monkeypatch.setenv("ENTRANCE", "correct-horse-battery")
    embed = openai.connect(f"m@{server.url}", settings=replace(Settings(), keys={server.url: "ENTRANCE"}))
    server.answers[:] = [says(401, '{"error": {"message": "correct-horse-battery is wrong"}}')]
    with pytest.raises(ProviderFault, match=r"\[redacted\] is wrong"):
        embed(["a"])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("", "names no model. Write it as openai:NAME@"),
        ("@http://127.0.0.1:1", "names no model"),
        ("m@", "must be a base URL"),
        ("m@ftp://x", "must be a base URL"),
        ("m@http://", "is not a base URL"),
        ("m@http://u:p@h/v1", "holds a user name or password"),
        ("m@http://h/v1?k=v", "has a query"),
        ("m@http://[::1", "is not a URL"),
    ],
)
def test_a_malformed_target_is_refused(target, words):
    with pytest.raises(BadInput, match=words):
        openai.connect(target, settings=replace(Settings(), keys={}))
