"""In front of an upstream: what OpenAI's clients and vLLM's ask for goes through as it is, and its answers come back as they are."""

import json
import sqlite3

import openai
import pytest
from aiohttp import web

from tests.servers import ModelServer, chunk, completion, replies, streams
from tests.serving.serving_process import Served, body
from tests.waiting import until

SPEC = "openai:m@{url}"
FORM = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "how it is", "parameters": FORM}}]
CALLS = [
    {"id": f"call_{at}", "type": "function", "function": {"name": "weather", "arguments": json.dumps({"city": city})}}
    for at, city in enumerate(("Oslo", "Rome"))
]
LOGPROBS = {"content": [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -2.0, "bytes": [98]}]}]}


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    with ModelServer() as server, Served(tmp_path_factory.mktemp("front"), SPEC.format(url=server.url)) as served:
        served.upstream = server
        yield served


@pytest.fixture(autouse=True)
def _clean(front):
    front.upstream.clear()


def sent(front):
    """The body of the last request, as the upstream got it."""
    return front.upstream.requests[-1].body


def test_a_conversation_with_tools_is_passed_on_and_its_calls_come_back(front):
    front.upstream.script(replies(None, message={"role": "assistant", "content": None, "tool_calls": CALLS}, finish_reason="tool_calls"))
    first = front.chat("how is it?", tools=TOOLS, tool_choice="required", parallel_tool_calls=True)
    assert (sent(front)["tools"], sent(front)["tool_choice"], sent(front)["parallel_tool_calls"]) == (TOOLS, "required", True)
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert [call.model_dump() for call in choice.message.tool_calls] == CALLS

    said = [
        {"role": "user", "content": "how is it?", "name": "eve"},
        choice.message.model_dump(exclude_none=True),
        *({"role": "tool", "tool_call_id": call["id"], "content": "fine"} for call in CALLS),
    ]
    answer = front.client.chat.completions.create(model=front.names[0], messages=said, tools=TOOLS)
    assert answer.choices[0].message.content == "fine"
    assert sent(front)["messages"] == [said[0], {"content": None, **said[1]}, *said[2:]]


def test_streamed_calls_of_tools_add_up(front):
    pieces = [
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 0, "id": "call_0", "type": "function", "function": {"name": "weather", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]},
        {"tool_calls": [{"index": 1, **CALLS[1]}]},
    ]
    events = [chunk({}, piece) for piece in pieces]
    front.upstream.script(streams(*events, chunk({}, {}, "tool_calls"), chunk({}, None, usage=USAGE), "[DONE]"), text="stream calls")
    wanted = {"tools": TOOLS, "temperature": 0, "stream_options": {"include_usage": True}}
    for _ in range(2):  # the second time they come from the cache, whole
        with front.client.chat.completions.stream(
            model=front.names[0], messages=[{"role": "user", "content": "stream calls"}], **wanted
        ) as events:
            final = list(events) and events.get_final_completion()
        calls = [call.model_dump(exclude_unset=True) for call in final.choices[0].message.tool_calls]
        assert [(call["id"], json.loads(call["function"]["arguments"])["city"]) for call in calls] == [
            ("call_0", "Oslo"),
            ("call_1", "Rome"),
        ]
        assert final.choices[0].finish_reason == "tool_calls" and final.usage.prompt_tokens_details.cached_tokens == 3
    whole = front.chat("stream calls", tools=TOOLS, temperature=0)
    assert [call.function.name for call in whole.choices[0].message.tool_calls] == ["weather", "weather"]
    assert front.upstream.count("stream calls") == 1


USAGE = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9, "prompt_tokens_details": {"cached_tokens": 3}}


def several(finish="stop"):
    """Two choices with log probabilities, and what else an upstream may say."""

    async def play(request, asked):
        said = [{"role": "assistant", "content": text, "reasoning_content": "hm"} for text in ("one", "two")]
        ends = ("stop", finish)
        choices = [{"index": at, "message": said[at], "logprobs": LOGPROBS, "finish_reason": ends[at]} for at in (0, 1)]
        return web.json_response({**completion("", asked), "choices": choices, "usage": USAGE, "system_fingerprint": "fp_1"})

    return play


def test_several_choices_and_log_probabilities_come_back_whole(front):
    front.upstream.script(several("length"))
    answer = front.chat("two of them", n=2, logprobs=True, top_logprobs=1)
    assert (sent(front)["n"], sent(front)["logprobs"], sent(front)["top_logprobs"]) == (2, True, 1)
    assert [(each.index, each.message.content, each.finish_reason) for each in answer.choices] == [(0, "one", "stop"), (1, "two", "length")]
    assert answer.choices[1].logprobs.model_dump(exclude_unset=True) == LOGPROBS
    assert answer.system_fingerprint == "fp_1" and answer.choices[0].message.reasoning_content == "hm"
    assert answer.usage.model_dump(exclude_unset=True) == USAGE
    assert answer.model == front.names[0] and answer.id.startswith("chatcmpl-") and answer.id != "chatcmpl-1"


def test_several_streamed_choices_keep_their_places(front):
    def piece(index, delta, finish=None, **more):
        return {**chunk({}, {}), "choices": [{"index": index, "delta": delta, "finish_reason": finish, **more}]}

    front.upstream.script(
        streams(
            piece(0, {"role": "assistant"}),
            piece(1, {"role": "assistant"}),
            piece(1, {"content": "two"}, logprobs=LOGPROBS),
            piece(0, {"content": "one"}),
            piece(1, {}, "stop"),
            piece(0, {}, "stop"),
            "[DONE]",
        )
    )
    events = [event.choices[0] for event in front.chat("streams", n=2, stream=True)]
    texts = ["".join(each.delta.content or "" for each in events if each.index == index) for index in (0, 1)]
    assert texts == ["one", "two"] and [each.index for each in events if each.finish_reason] == [1, 0]
    assert [each.logprobs.content[0].token for each in events if each.logprobs] == ["a"]


def test_a_stream_of_which_one_choice_has_no_end_is_broken(front):
    first = {**chunk({}, {}), "choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": "stop"}]}
    second = {**chunk({}, {}), "choices": [{"index": 1, "delta": {"content": "tw"}, "finish_reason": None}]}
    for events in ([first, second, "[DONE]"], [first]):  # without the closing mark, the second choice may be what is missing
        front.upstream.script(streams(*events))
        with pytest.raises(openai.APIError) as raised:
            list(front.chat("streams", n=2, stream=True))
        assert raised.value.code == "upstream_incomplete"


def test_an_upstream_that_gives_one_choice_whatever_is_asked_for_is_taken_at_its_word(front):
    front.upstream.script(replies("one"), streams(chunk({}, {"content": "one"}), chunk({}, {}, "stop"), "[DONE]"))
    assert [each.message.content for each in front.chat("several", n=2).choices] == ["one"]
    assert "".join(event.choices[0].delta.content or "" for event in front.chat("several", n=2, stream=True)) == "one"


def test_numbers_that_json_does_not_have_become_null(front):
    never = {"content": [{"token": "a", "logprob": float("-inf"), "bytes": None, "top_logprobs": []}]}

    async def play(request, asked):
        choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "logprobs": never, "finish_reason": "stop"}
        return web.Response(text=json.dumps({**completion("", asked), "choices": [choice]}), content_type="application/json")

    piece = {**chunk({}, {}), "choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": never, "finish_reason": None}]}
    front.upstream.script(play, streams(piece, chunk({}, {}, "stop"), "[DONE]"))
    for stream in (False, True):
        _, _, answer = front.send("/v1/chat/completions", body(front.names[0], logprobs=True, stream=stream))
        assert b'"logprob":null' in answer and b"Infinity" not in answer


def test_a_filtered_choice_does_not_spoil_the_others(front):
    front.upstream.script(several("content_filter"))
    assert [each.finish_reason for each in front.chat("x", n=2).choices] == ["stop", "content_filter"]


def test_thoughts_that_met_the_limit_are_a_reply(front):
    message = {"role": "assistant", "content": None, "reasoning_content": "so many thoughts"}
    front.upstream.script(replies(None, message=message, finish_reason="length"))
    answer = front.chat("think")
    assert answer.choices[0].message.reasoning_content == "so many thoughts" and answer.choices[0].finish_reason == "length"


PASSED = {
    "stop": ["\n"],
    "seed": 7,
    "frequency_penalty": 0.5,
    "presence_penalty": 0,
    "logit_bias": {"5": -100},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": False}},
    "user": "eve",
    "metadata": {"a": "b"},
    "top_p": 0.9,
}


def test_parameters_go_through_as_they_are_and_unknown_ones_too(front):
    strange = {"top_k": 5, "guided_choice": ["a", "b"], "chat_template_kwargs": {"enable_thinking": False}}  # vLLM's
    front.chat("pass", max_completion_tokens=9, **PASSED, extra_body=strange)
    got = sent(front)
    assert {name: got[name] for name in (*PASSED, *strange)} == {**PASSED, **strange} and got["max_tokens"] == 9
    assert got["model"] == "m" and set(got) == {*PASSED, *strange, "max_tokens", "model", "messages", "stream"}
    front.upstream.script("400")
    with pytest.raises(openai.BadRequestError, match="temperature must be at most 2"):
        front.chat("refused", extra_body={"nonsense": 1})


def test_the_cache_looks_at_the_whole_request(front):
    def cache(**more):
        raw = front.client.chat.completions.with_raw_response.create(
            model=front.names[0], messages=[{"role": "user", "content": "cached?"}], temperature=0, **more
        )
        return raw.headers["x-llmops-lab-cache"]

    asked = [{}, {"tools": TOOLS}, {"n": 2}, {"user": "eve"}, {"logprobs": True}, {"tools": TOOLS, "tool_choice": "none"}]
    front.upstream.always(several())
    assert [cache(**each) for each in asked] == ["miss"] * len(asked)
    assert [cache(**each) for each in asked] == ["hit"] * len(asked)
    again = front.chat("cached?", temperature=0, n=2)
    assert [each.message.content for each in again.choices] == ["one", "two"] and again.usage.total_tokens == 9
    events = list(front.chat("cached?", temperature=0, n=2, stream=True))
    assert {event.choices[0].index: event.choices[0].delta.content for event in events if event.choices[0].delta.content} == {
        0: "one",
        1: "two",
    }


def test_parts_that_are_no_text_are_passed_on(front):
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    assert front.client.chat.completions.create(model=front.names[0], messages=[{"role": "user", "content": parts}]).choices
    assert sent(front)["messages"][0]["content"] == parts


WRONG = [
    ({"n": 0}, "n"),
    ({"n": True}, "n"),
    ({"n": 10**6}, "n"),
    ({"tools": [5]}, "tools"),
    ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "assistant", "content": None, "tool_calls": []}]}, "messages[0].content"),
]


@pytest.mark.parametrize(("wrong", "param"), WRONG)
def test_what_no_upstream_could_mean_is_refused_here(front, wrong, param):
    status, error = front.refused("/v1/chat/completions", {**body(front.names[0]), **wrong})
    assert (status, error["code"], error["param"]) == (400, "invalid_value", param) and not front.upstream.requests


def test_what_an_upstream_quotes_of_one_caller_changes_nothing_for_the_next(front):
    async def quotes(request, asked):
        name = next(name for name in asked if name.startswith("x_"))
        return web.json_response({"error": {"message": f"Unrecognized request argument supplied: {name}"}}, status=400)

    for name in ("x_stream_options", "x_max_completion_tokens"):
        front.upstream.script(quotes)
        with pytest.raises(openai.BadRequestError, match=name):
            list(front.chat("odd", stream=True, max_tokens=5, extra_body={name: 1}))
    list(front.chat("even", stream=True, max_tokens=5))
    assert sent(front)["stream_options"] == {"include_usage": True} and sent(front)["max_tokens"] == 5


def test_an_upstream_with_another_word_for_the_limit_is_asked_in_its_own(front):
    async def picky(request, asked):
        if "max_tokens" in asked:
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return web.json_response({"error": {"message": message, "code": "unsupported_parameter"}}, status=400)
        return web.json_response(completion("fine", asked))

    front.upstream.always(picky)
    assert front.chat("limited", max_completion_tokens=5).choices[0].message.content == "fine"
    assert sent(front)["max_completion_tokens"] == 5 and front.upstream.count("limited") == 2


def test_models_are_found_by_their_names(front):
    found = front.client.models.retrieve(front.names[0])
    assert found.id == front.names[0] and found.owned_by == "llmops-lab" and found == front.client.models.list().data[0]
    with pytest.raises(openai.NotFoundError, match="no model called 'm' is served here") as raised:
        front.client.models.retrieve("m")
    assert raised.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="POST /v1/chat/completions"):
        front.client.completions.create(model=front.names[0], prompt="the older way")


# ---- what it costs


PRICES = '[tool.llmops_lab.prices]\n"openai:" = { input = 1_000_000.0, output = 1_000_000.0 }\n'  # one USD a token


@pytest.fixture(scope="module")
def dear(front, tmp_path_factory):
    """A server that asks for keys: ``open`` without a budget, ``some`` and ``mean`` with one; each token costs one USD."""
    folder = tmp_path_factory.mktemp("dear")
    (folder / "pyproject.toml").write_text(PRICES)
    served = Served(folder, SPEC.format(url=front.upstream.url))
    keys = {name: served.place.run("keys", "create", name, *more).out.strip() for name, more in KEYS.items()}
    served.key = keys["open"]
    with served:
        yield served, keys


KEYS = {"open": (), "some": ("--budget", "300"), "mean": ("--budget", "100")}


def spent(served, name):
    with sqlite3.connect(served.place.home / "lab.db") as ledger:
        return ledger.execute("SELECT spent_usd FROM api_keys WHERE name = ?", (name,)).fetchone()[0]


UNPRICED = [
    {"service_tier": "priority"},
    {"prediction": {"content": "a"}},
    {"models": ["dearer"]},
    {"tools": [{"type": "web_search"}]},
]


def test_choices_and_tools_and_calls_count_towards_what_a_call_may_cost(front, dear):
    served, keys = dear
    some = keys["some"]
    large = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "description": "word " * 100}}]
    for more in [
        {"n": 100},
        {"tools": large},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{**CALLS[0], "function": {"name": "a" * 500}}]}]},
        {"chat_template": "word " * 100},
    ]:
        status, error = served.refused("/v1/chat/completions", {**body(served.names[0], "x", max_tokens=5), **more}, key=some)
        assert (status, error["code"]) == (429, "insufficient_quota")
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    for more in [{"messages": [{"role": "user", "content": image}]}, *UNPRICED]:
        status, error = served.refused("/v1/chat/completions", {**body(served.names[0], "x", max_tokens=5), **more}, key=some)
        assert (status, error["code"]) == (403, "price_unknown")
    assert not front.upstream.requests
    front.upstream.script(several())
    assert served.send("/v1/chat/completions", body(served.names[0], "x", max_tokens=5, n=2), key=some)[0] == 200
    until(lambda: spent(served, "some") == 9)  # as the upstream counted, for both choices
    assert served.counter("llmops_lab_tokens_total", key="some") == 9 and served.counter("llmops_lab_cost_usd_total", key="some") == 9


def test_a_call_that_broke_off_is_booked_without_a_budget_too(front, dear):
    served, _ = dear
    front.upstream.always(streams(*(chunk({}, {"content": "word"}) for _ in range(10)), 3600))
    asked = body(served.names[0], "a" * 400, stream=True)
    connection = served.raw("/v1/chat/completions", asked)
    answer = connection.getresponse()
    seen = b""
    while seen.count(b'"word"') < 10:
        seen += answer.read1(100_000)
    answer.close()
    connection.close()
    until(lambda: served.counter("llmops_lab_errors_total", kind="client_gone", key="open") == 1)
    until(lambda: spent(served, "open") > 0)
    assert 110 <= spent(served, "open") <= 120  # a token for four letters of what was sent, and one for each piece that came
    assert served.counter("llmops_lab_tokens_total", key="open", direction="output") == 10
    assert served.counter("llmops_lab_cost_usd_total", key="open") == spent(served, "open")
    assert f"{spent(served, 'open'):.4g} USD spent" in served.place.run("keys", "list").out


def test_a_stream_that_was_cut_and_an_answer_without_counts_are_booked(front, dear):
    served, _ = dear
    begin, counted = spent(served, "open"), served.counter("llmops_lab_cost_usd_total", key="open")
    front.upstream.script("cut_stream_close", "500", _uncounted)
    with pytest.raises(openai.APIError):
        list(served.chat("x", stream=True))
    until(lambda: spent(served, "open") > begin)
    cut = spent(served, "open")
    with pytest.raises(openai.InternalServerError):
        served.chat("x")
    assert served.chat("x").choices[0].message.content == "four letters a token"
    until(lambda: spent(served, "open") > cut)
    assert cut + 5 <= spent(served, "open") <= cut + 15  # the refused one between them cost nothing
    assert served.counter("llmops_lab_cost_usd_total", key="open") - counted == spent(served, "open") - begin


async def _uncounted(request, asked):
    answer = completion("four letters a token", asked)
    del answer["usage"]
    return web.json_response(answer)


def test_a_reply_that_is_of_no_use_may_have_been_paid_for(front, dear):
    served, keys = dear
    front.upstream.script("empty_choices")
    assert served.send("/v1/chat/completions", body(served.names[0], "x", max_tokens=7), key=keys["mean"])[0] == 502
    until(lambda: spent(served, "mean") >= 7)
