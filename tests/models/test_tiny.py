"""The embedded model on onnxruntime, asked as a grid asks it."""

import asyncio
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from llmops_lab import plugins
from llmops_lab.errors import BadInput, ProviderFault
from llmops_lab.records import Message, Reply, Request
from llmops_lab.settings import Settings
from tests.models.prompts_of_all_kinds import MIXED


def request(text: str, **params: object) -> Request:
    return Request((Message("user", text),), params)


def connect(target: str = ""):
    return plugins.find("models", "tiny").connect(target, settings=Settings())


def ask_all(provider, requests, timeout=60.0) -> list[Reply]:
    async def together():
        return await asyncio.gather(*(provider.ask(each, timeout=timeout) for each in requests))

    return asyncio.run(together())


def ask(provider, text: str, *, on_text=None, timeout=60.0, **params: object) -> Reply:
    return asyncio.run(provider.ask(request(text, **params), timeout=timeout, on_text=on_text))


@pytest.fixture(scope="module")
def tiny():
    provider = connect()
    yield provider
    asyncio.run(provider.close())


def test_answers(tiny):
    reply = ask(tiny, "Who are you?")
    assert (reply.text, reply.finish_reason, reply.model) == ("I am a tiny demo assistant.", "stop", "tiny")
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0
    assert reply.latency_s > 0
    assert reply.ttft_s is None


def test_a_batch_writes_what_single_requests_write(tiny):
    requests = [request(text, max_tokens=40) for text in MIXED]
    together = ask_all(tiny, requests)
    alone = [asyncio.run(tiny.ask(each, timeout=60)) for each in requests]
    assert len({len(reply.text) for reply in alone}) > 5
    assert [reply.text for reply in together] == [reply.text for reply in alone]
    assert [reply.usage for reply in together] == [reply.usage for reply in alone]


def test_the_same_seed_draws_the_same_text_in_any_company(tiny):
    hot = {"temperature": 3.0, "max_tokens": 12}
    alone = [ask(tiny, "Hello", seed=seed, **hot).text for seed in range(8)]
    together = [reply.text for reply in ask_all(tiny, [request("Hello", seed=seed, **hot) for seed in range(8)])]
    assert alone == together
    assert len(set(alone)) > 1


def test_a_narrow_nucleus_is_greedy(tiny):
    greedy = ask(tiny, "Repeat: lamp chair", max_tokens=12).text
    assert ask(tiny, "Repeat: lamp chair", temperature=3.0, top_p=1e-9, seed=1, max_tokens=12).text == greedy


def test_the_token_limit_is_said(tiny):
    reply = ask(tiny, "Who are you?", max_tokens=3)
    assert (reply.finish_reason, reply.usage.output_tokens) == ("length", 3)
    assert "I am a tiny demo assistant.".startswith(reply.text)


def test_the_context_ends_a_reply_that_is_too_long(tiny):
    words = "lamp " * 90
    prompt = ask(tiny, words, max_tokens=1).usage.input_tokens
    replies = [ask(tiny, words, max_tokens=10_000, temperature=20.0, seed=seed) for seed in range(6)]
    filled = [reply for reply in replies if reply.finish_reason == "length"]
    assert filled
    assert {prompt + reply.usage.output_tokens for reply in filled} == {512}


def test_logprobs_are_of_the_replys_tokens(tiny):
    reply = ask(tiny, "Who are you?", logprobs=True)
    assert len(reply.logprobs) == reply.usage.output_tokens
    assert all(-1 < value <= 0 for value in reply.logprobs)
    assert ask(tiny, "Who are you?").logprobs is None


@given(stop=st.lists(st.sampled_from(["demo", "m a", "tiny d", "assistant.", "Z", "I", " am", "."]), min_size=1, max_size=3))
@hypothesis_settings(max_examples=30, deadline=None)
def test_a_stop_string_cuts_and_streams_nothing_beyond(tiny, stop):
    pieces: list[str] = []
    reply = ask(tiny, "Who are you?", stop=stop, on_text=pieces.append)
    whole = "I am a tiny demo assistant."
    wanted = min((whole.split(each)[0] for each in stop), key=len)
    assert reply.text == wanted
    assert "".join(pieces) == wanted
    assert reply.finish_reason == "stop"


def test_a_stream_comes_in_pieces_on_the_callers_loop(tiny):
    pieces, threads = [], set()

    def hear(piece: str) -> None:
        pieces.append(piece)
        threads.add(threading.current_thread())

    reply = ask(tiny, "Who are you?", on_text=hear)
    assert len(pieces) > 3
    assert "".join(pieces) == reply.text
    assert 0 < reply.ttft_s <= reply.latency_s
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"frequency_penalty": 1}, "frequency_penalty"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"top_p": 0}, "top_p"),
        ({"seed": 1.5}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"logprobs": 3}, "logprobs"),
    ],
)
def test_a_wrong_parameter_is_named(tiny, params, names):
    with pytest.raises(ProviderFault, match=names) as caught:
        ask(tiny, "Hello", **params)
    assert (caught.value.kind, caught.value.retryable) == ("bad_request", False)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (request("word " * 600), "512"),
        (Request((Message("user", ({"type": "image_url", "image_url": {"url": "data:"}},)),)), "image"),
        (Request((Message("user", "Hello"),), tools=({"type": "function"},)), "tools"),
        (Request(()), "no messages"),
    ],
)
def test_what_it_cannot_take_is_a_bad_request(tiny, wrong, says):
    with pytest.raises(ProviderFault, match=says) as caught:
        asyncio.run(tiny.ask(wrong, timeout=60))
    assert caught.value.kind == "bad_request"


def test_a_bad_request_spares_its_neighbours(tiny):
    async def together():
        asked = [request("Who are you?"), request("word " * 600), request("Hello")]
        return await asyncio.gather(*(tiny.ask(each, timeout=60) for each in asked), return_exceptions=True)

    first, second, third = asyncio.run(together())
    assert (first.text, third.text) == ("I am a tiny demo assistant.", "Hello! How can I help?")
    assert second.kind == "bad_request"


def test_a_timeout_is_a_fault_that_another_try_may_cure(tiny):
    with pytest.raises(ProviderFault, match="1e-09 s") as caught:
        ask(tiny, "Hello", timeout=1e-9)
    assert (caught.value.kind, caught.value.retryable, caught.value.answered) == ("timeout", True, True)


def test_a_cancelled_request_lets_the_next_one_in(tiny):
    async def story():
        long = asyncio.create_task(tiny.ask(request("Hello", temperature=50.0, seed=1, max_tokens=400), timeout=60))
        await asyncio.sleep(0.02)
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        return await tiny.ask(request("Who are you?"), timeout=60)

    assert asyncio.run(story()).text == "I am a tiny demo assistant."


def test_text_parts_and_system_messages_are_read(tiny):
    parts = Request((Message("system", "Answer briefly."), Message("user", ({"type": "text", "text": "Who are you?"},))))
    assert asyncio.run(tiny.ask(parts, timeout=60)).text == "I am a tiny demo assistant."


@given(text=st.text(max_size=60))
@hypothesis_settings(max_examples=40, deadline=None)
def test_any_text_gets_a_reply(tiny, text):
    reply = ask(tiny, text, max_tokens=4)
    assert reply.finish_reason in ("stop", "length")
    assert reply.usage.output_tokens <= 4


def test_close_ends_the_thread_and_a_later_request_opens_it_again():
    provider = connect()
    assert ask(provider, "Hello").text == "Hello! How can I help?"
    ours = [thread for thread in threading.enumerate() if thread.name == "llmops_lab tiny"]
    asyncio.run(provider.close())
    assert any(not thread.is_alive() for thread in ours)
    assert ask(provider, "Hello").text == "Hello! How can I help?"
    asyncio.run(provider.close())


def test_it_is_free_unless_it_is_priced_and_has_one_identity(tiny):
    assert tiny.price.cost(ask(tiny, "Hello").usage, 1.0) == 0
    priced = plugins.find("models", "tiny").connect("", settings=Settings(prices={"tiny": {"gpu_hour": 3.6}}))
    assert priced.price.cost(ask(tiny, "Hello").usage, 1.0) == pytest.approx(0.001)
    assert tiny.identity == priced.identity
    assert tiny.identity.startswith("tiny:")


def test_a_target_is_refused():
    with pytest.raises(BadInput, match="hf:some/folder"):
        connect("some/folder")


def test_importing_it_imports_nothing_heavy():
    heavy = ("numpy", "onnxruntime", "tokenizers", "torch", "jinja2")
    code = f"import sys, llmops_lab.models.tiny; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
