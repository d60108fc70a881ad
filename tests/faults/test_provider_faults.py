"""Every fault of a provider, through a whole grid: a typed failure, tried again or not as it deserves, never scored, counted and billed.

How each fault looks to a single call is held by tests/models/test_openai.py; here it is what the user of a grid gets.
"""

import math
from collections import Counter

import pytest

import llmops_lab as lab
from tests.servers import BEHAVIOURS, FAULTS, chunk, completion, refuses, replies, streams

PRICE = {"input": 1_000_000.0, "output": 10_000_000.0}  # 1 USD for a token that goes in, 10 USD for one that comes out
STREAMED = ("stream cut, until close", "stream cut, chunked", "stream cut, content length", "stalled stream")
ENDS = {
    "rate limit": "rate_limited",
    "500": "server_error",
    "502": "server_error",
    "503": "server_error",
    "529": "server_error",
    "timeout": "timeout",
    "reset": "connection",
    "short body": "connection",
    "bad JSON": "malformed",
    "HTML with 200": "malformed",
    "empty choices": "empty",
    "null content": "empty",
    "stream cut, until close": "incomplete",
    "stream cut, chunked": "connection",
    "stream cut, content length": "connection",
    "stalled stream": "timeout",
}
MAYBE_PAID = {"timeout", "reset", "short body", *STREAMED}
FINAL = {
    "400": "bad_request",
    "401": "unauthorized",
    "403": "unauthorized",
    "404": "not_found",
    "422": "bad_request",
    "429_quota": "rate_limited",
    "content_filter": "content_filter",
}


def run(server, texts, **changes):
    rows = [{"id": text, "question": text} for text in texts]
    wanted = {"models": [f"openai:m@{server.url}"], "scorers": ["exact", said_something], "expected": "question", "retries": 1}
    return lab.grid({"plain": "{{ question }}"}, rows, **{"track": False, "timeout": 0.5, **wanted, **changes})


def said_something(reply, row):
    """A scorer that would call even an empty reply good, if it ever saw one."""
    return True


def cells(grid):
    return {cell["row_id"]: cell for cell in grid.records()}


def test_the_matrix_is_whole():
    assert set(ENDS) == set(FAULTS) and len(FAULTS) == 16


def test_every_fault_that_stays_ends_as_its_own_kind_of_failure_and_is_never_scored(home, server):
    whole, streamed = [each for each in FAULTS if each not in STREAMED], list(STREAMED)
    for fault in FAULTS:
        server.always(FAULTS[fault][-1], text=fault)
    for texts, stream in ((whole, False), (streamed, True)):
        fine = f"fine {stream}"
        grid = run(server, [*texts, fine], stream=stream)
        found = cells(grid)
        assert {text: (found[text]["status"], found[text]["error"]) for text in texts} == {text: ("failed", ENDS[text]) for text in texts}
        for text in texts:
            cell = found[text]
            assert cell["exact"] is cell["said_something"] is cell["text"] is cell["finish_reason"] is None, text
            assert server.count(text) == 2, text  # each of these deserves the one further try
        assert (found[fine]["status"], found[fine]["exact"], found[fine]["said_something"]) == ("ok", True, True)
        line = grid.summary().iloc[0]
        assert (line["n"], line["n_ok"], line["n_failed"]) == (len(texts) + 1, 1, len(texts))
        assert (line["exact_n"], line["exact"], line["said_something_n"]) == (1, 1.0, 1)
        assert grid.calls == 2 * len(texts) + 1 and grid.state == "done"
        # What was sent and never answered whole may have been paid for; what was refused was not.
        named = {cell["row_id"] for cell in found.values() if cell["key"] in set(grid.maybe_paid_twice)}
        assert named == set(texts) & MAYBE_PAID


def test_every_fault_that_passes_is_tried_again_and_the_answer_counts(home, server):
    for stream in (False, True):
        texts = [f"{fault} {stream}" for fault in FAULTS if (fault in STREAMED) == stream]
        for text in texts:
            server.script(FAULTS[text.rsplit(" ", 1)[0]][-1], text=text)
        found = cells(run(server, texts, stream=stream))
        for text in texts:
            assert (found[text]["status"], found[text]["text"], found[text]["exact"]) == ("ok", text, True), text
            assert server.count(text) == 2, text


@pytest.mark.parametrize("stream", [False, True])
def test_what_no_further_try_can_cure_is_asked_once(home, server, stream):
    for behaviour in FINAL:
        server.always(behaviour, text=behaviour)
    grid = run(server, list(FINAL), stream=stream, retries=4)
    assert {text: cell["error"] for text, cell in cells(grid).items()} == FINAL
    assert Counter(seen.text for seen in server.requests) == Counter(list(FINAL)) and grid.calls == len(FINAL)
    assert grid.summary()["exact_n"][0] == 0 and math.isnan(grid.summary().astype({"exact": float})["exact"][0])


def test_failed_cells_are_asked_again_when_the_grid_is_run_again(home, server):
    server.always("401", text="locked")
    first = run(server, ["locked", "open"])
    assert first.summary()["n_failed"][0] == 1
    server.clear()
    again = run(server, ["locked", "open"])
    assert (again.calls, again.reused) == (1, 1) and server.count("locked") == 1 and server.count("open") == 0
    assert set(again.frame()["status"]) == {"ok"}


def strange(text):
    async def play(request, body):
        from aiohttp import web

        return web.json_response(completion(text, body, message="a message that is no object"))

    return play


BILLED = {
    "content filter": (replies("half an ans", finish_reason="content_filter"), 1),
    "no finish reason": (replies("half an ans", finish_reason=None), 2),
    "null content": (replies(None), 2),
    "strange message": (strange("half an ans"), 2),
}


def test_a_reply_that_cannot_be_used_is_billed_all_the_same(home, server):
    for text, (behaviour, _) in BILLED.items():
        server.always(behaviour, text=text)
    spec = f"openai:m@{server.url}"
    lab.configure(prices={spec: PRICE})
    try:
        grid = run(server, [*BILLED, "fine"])
    finally:
        lab.configure(prices=None)
    found, total = cells(grid), 0.0
    for text, (_, tries) in BILLED.items():
        cell, out = found[text], 0 if text == "null content" else 3
        assert (cell["status"], cell["exact"]) == ("failed", None) and server.count(text) == tries
        assert (cell["input_tokens"], cell["output_tokens"]) == (tries * len(text.split()), tries * out), text
        assert cell["cost_usd"] == pytest.approx(cell["input_tokens"] + 10 * cell["output_tokens"]), text
        total += cell["cost_usd"]
    total += found["fine"]["cost_usd"]
    assert found["fine"]["cost_usd"] == pytest.approx(1 + 10)
    assert grid.spent == pytest.approx(total) == pytest.approx(grid.summary()["cost_usd"][0])
    again = run(server, [*BILLED, "fine"])
    assert cells(again)["content filter"]["status"] == "failed" and lab.load(grid.grid_id).frame()["cost_usd"].sum() == pytest.approx(total)


def test_a_billed_try_before_a_good_one_is_part_of_the_cells_cost(home, server):
    server.script(replies(None), text="second time lucky")
    spec = f"openai:m@{server.url}"
    lab.configure(prices={spec: PRICE})
    try:
        grid = run(server, ["second time lucky"])
    finally:
        lab.configure(prices=None)
    cell = grid.records()[0]
    assert (cell["status"], cell["input_tokens"], cell["output_tokens"]) == ("ok", 3, 3)
    assert cell["cost_usd"] == pytest.approx(3 + (3 + 30)) == pytest.approx(grid.spent)


def test_a_stream_that_is_filtered_is_billed(home, server):
    usage = {"prompt_tokens": 2, "completion_tokens": 4}
    server.always(streams(chunk({}, {"content": "half"}), chunk({}, {}, "content_filter"), chunk({}, None, usage=usage), "[DONE]"))
    spec = f"openai:m@{server.url}"
    lab.configure(prices={spec: PRICE})
    try:
        cell = run(server, ["x"], stream=True).records()[0]
    finally:
        lab.configure(prices=None)
    assert (cell["error"], cell["input_tokens"], cell["output_tokens"], cell["cost_usd"]) == ("content_filter", 2, 4, 42.0)


def test_billed_failures_count_against_the_budget(home, server):
    server.always(replies(None))
    spec = f"openai:m@{server.url}"
    lab.configure(prices={spec: PRICE})
    try:
        grid = run(server, [f"one two {number}" for number in range(60)], budget=150.0, params={"max_tokens": 5}, retries=0, concurrency=4)
    finally:
        lab.configure(prices=None)
    assert grid.state == "budget" and 0 < grid.spent <= 150
    assert grid.spent == pytest.approx(3 * len(server.requests)) and grid.summary()["n_skipped"][0] == 60 - len(server.requests)


def test_a_fault_of_every_behaviour_of_the_server_has_a_known_name(home, server):
    from llmops_lab.errors import FAULT_KINDS

    refused = [name for name in BEHAVIOURS if name not in ("timeout", "stalled_stream")]
    for behaviour in refused:
        server.always(behaviour, text=behaviour)
    for stream in (False, True):
        found = cells(run(server, refused, stream=stream, retries=0))
        assert {cell["status"] for cell in found.values()} == {"ok", "failed"}
        assert {cell["error"] for cell in found.values() if cell["status"] == "failed"} <= set(FAULT_KINDS)
        assert all((cell["error"] == "") == (cell["status"] == "ok") == (cell["text"] is not None) for cell in found.values())
        server.clear()
        for behaviour in refused:
            server.always(behaviour, text=behaviour)


def test_a_status_nobody_has_heard_of_is_still_a_named_failure(home, server):
    for status in (402, 409, 418, 451, 501, 599):
        server.always(refuses(status), text=str(status))
    found = cells(run(server, ["402", "409", "418", "451", "501", "599"], retries=0))
    assert [found[text]["error"] for text in ("402", "409", "418", "451", "501", "599")] == [
        "rate_limited",
        "server_error",
        "bad_request",
        "bad_request",
        "server_error",
        "server_error",
    ]
