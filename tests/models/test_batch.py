"""How concurrent requests to a local model become batches, shown on an engine that only writes down what it got."""

import asyncio
import time

import pytest

from llmops_lab.errors import ProviderFault
from llmops_lab.models._batch import Batcher, Draft, digest_of
from llmops_lab.records import Message, Request


class Notebook:
    """Answers with one token, "ok"; remembers the prompt lengths of each batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def prepare(self, job) -> Draft:
        ids = [0] * len(job.request.text)
        return Draft(job, ids, 10_000 - len(ids), decode=lambda tokens: "ok" * len(tokens), ends=frozenset({1}))

    def write(self, drafts: list[Draft]) -> None:
        self.batches.append([len(draft.ids) for draft in drafts])
        if drafts[0].job.request.text == "break":
            raise RuntimeError("out of paper")
        time.sleep(0.01)
        for draft in drafts:
            draft.add(7)
            draft.add(1)


def ask_all(batcher: Batcher, texts: list[str], *, close: bool = True):
    async def together():
        asked = [batcher.ask(Request((Message("user", text),), {"max_tokens": 5}), timeout=10) for text in texts]
        replies = await asyncio.gather(*asked, return_exceptions=True)
        if close:
            await batcher.close()
        return replies

    return asyncio.run(together())


def test_what_waits_is_sorted_by_length_and_cut_at_the_most():
    engine = Notebook()
    lengths = [(37 * i) % 101 + 1 for i in range(80)]
    replies = ask_all(Batcher("notebook", lambda: engine, most=32), ["x" * length for length in lengths])
    assert all(reply.text == "ok" for reply in replies)
    assert [reply.usage.input_tokens for reply in replies] == lengths
    assert max(map(len, engine.batches)) <= 32
    assert len(engine.batches) <= 5
    assert all(batch == sorted(batch) for batch in engine.batches)


def test_padded_places_are_limited_too():
    engine = Notebook()
    ask_all(Batcher("notebook", lambda: engine, room=1_000), ["x" * 195] * 12 + ["x" * 5] * 12)
    assert sum(map(len, engine.batches)) == 24
    assert all((max(batch) + 5) * len(batch) <= 1_000 for batch in engine.batches)


def test_a_broken_engine_ends_its_requests_and_not_its_thread():
    batcher = Batcher("notebook", Notebook)
    (fault,) = ask_all(batcher, ["break"], close=False)
    assert isinstance(fault, ProviderFault)
    assert (fault.kind, fault.retryable, str(fault)) == ("server_error", False, "the local model broke: RuntimeError: out of paper")
    (reply,) = ask_all(batcher, ["go on"])
    assert reply.text == "ok"


def test_an_engine_that_cannot_be_opened_is_a_fault():
    def fails():
        raise OSError("no such disk")

    (fault,) = ask_all(Batcher("notebook", fails), ["hello"])
    assert str(fault) == "the local model broke: OSError: no such disk"


def test_closing_an_unused_one_does_nothing():
    asyncio.run(Batcher("notebook", Notebook).close())
    assert ask_all(Batcher("notebook", Notebook), ["hello"])[0].text == "ok"


def test_a_digest_is_of_names_and_contents(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"a" * 3_000_000)
    two.write_bytes(b"b")
    first = digest_of([one, two])
    assert first == digest_of([one, two])
    assert first != digest_of([one])
    two.write_bytes(b"cc")
    assert digest_of([one, two]) != first


@pytest.mark.parametrize("stop", [["ok"], ["k"]])
def test_a_stop_string_at_the_start_leaves_nothing_or_little(stop):
    async def story():
        batcher = Batcher("notebook", Notebook)
        reply = await batcher.ask(Request((Message("user", "x"),), {"stop": stop}), timeout=10)
        await batcher.close()
        return reply

    reply = asyncio.run(story())
    assert (reply.text, reply.finish_reason) == ("ok".split(stop[0])[0], "stop")


def test_loading_the_model_is_no_ones_latency():
    def slowly():
        time.sleep(2)
        return Notebook()

    replies = ask_all(Batcher("notebook", slowly), ["one", "two"])
    assert all(0 < reply.latency_s < 2 for reply in replies)
