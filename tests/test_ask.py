"""``lab.ask``: what is sent, what comes back, what is on record, and how it fails."""

import subprocess
import sys
import threading

import pytest

import llmops_lab as lab
from llmops_lab import settings
from llmops_lab.errors import BadInput, ProviderFault, UnknownName
from llmops_lab.store.ledger import open_ledger
from tests.servers import chunk, streams

pytestmark = pytest.mark.usefixtures("home")


def test_the_answer_says_all_that_is_known():
    answer = lab.ask("What is the intent? I was charged {{ often }}.", "tiny", often="twice", track=False, stream=True)
    assert (answer.text, str(answer), answer.finish_reason, answer.model) == ("invoice", "invoice", "stop", "tiny")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.cost_usd) == (20, 1, 0.0)
    assert 0 < answer.ttft_s <= answer.latency_s
    assert (answer.run_id, answer.trace_id) == (None, None)
    assert (answer.prompt.name, answer.prompt.version, len(answer.prompt.sha256)) == ("", None, 64)
    assert [(message.role, message.content) for message in answer.messages] == [("user", "What is the intent? I was charged twice.")]


def test_the_answer_of_a_question_is_not_the_answer_of_the_next(server):
    model = f"openai:m@{server.url}"
    server.script(*(streams(chunk({}, {"content": word}), chunk({}, {}, "stop"), "[DONE]") for word in ("one", "two")))
    assert [lab.ask("the same", model, stream=True, track=False).text for _ in range(2)] == ["one", "two"]
    assert server.count("the same") == 2


def test_a_grid_never_takes_an_answer_from_ask(server):
    model = f"openai:m@{server.url}"
    lab.ask("asked {{ x }}", model, x="before", track=False)
    grid = lab.grid({"p": "asked {{ x }}"}, [{"x": "before"}], models=[model], track=False)
    assert (grid.calls, server.count("asked before")) == (1, 2)


def test_slots_with_the_names_of_arguments_are_filled_through_values():
    prompt = "{{ prompt }} {{ model }} {{ params }} {{ values }} {{ track }}"
    names = ("prompt", "model", "params", "values", "track")
    assert lab.ask(prompt, "echo", values={name: name.upper() for name in names}, track=False).text == "PROMPT MODEL PARAMS VALUES TRACK"


def test_values_may_be_a_row_and_a_keyword_goes_before_it():
    row = {"a": 1, "b": 2, "unused": 3}
    assert lab.ask("{{ a }} {{ b }}", "echo", values=row, b="mine", track=False).text == "1 mine"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"temprature": 0.5}, BadInput, "{{ temprature }}"),
        ({"parms": {}}, BadInput, "Did you mean params?"),
        ({"model": "tinny"}, UnknownName, "Did you mean tiny?"),
        ({"model": 7}, BadInput, "not 7"),
        ({"model": ""}, None, ""),
        ({"params": {"max_tokens": 0}}, ProviderFault, "max_tokens"),
    ],
)
def test_what_is_wrong_is_named(arguments, error, words):
    if error is None:
        assert lab.ask("Hello!", track=False, **arguments).model == "tiny"
        return
    with pytest.raises(error) as caught:
        lab.ask("Hello!", track=False, **{"model": "tiny", **arguments})
    assert words in str(caught.value)


def test_a_missing_value_is_named_before_anything_is_sent(server):
    with pytest.raises(BadInput, match="country"):
        lab.ask("Capital of {{ country }}?", f"openai:m@{server.url}", track=False)
    assert server.requests == []


def test_params_of_the_call_win_over_those_of_the_model_and_the_prompt(server):
    prompt = lab.Prompt("hi", params={"temperature": 0.1, "max_tokens": 11, "top_p": 0.1})
    model = lab.model(f"openai:m@{server.url}", temperature=0.2, max_tokens=22)
    lab.ask(prompt, model, params={"temperature": 0.3}, track=False)
    body = server.requests[0].body
    assert (body["temperature"], body["max_tokens"], body["top_p"]) == (0.3, 22, 0.1)


def test_progress_is_called_in_the_callers_thread_with_growing_text(server):
    server.always(streams(*(item for n in range(20) for item in (chunk({}, {"content": f"w{n} "}), 0.03)), chunk({}, {}, "stop"), "[DONE]"))
    seen = []
    answer = lab.ask("count", f"openai:m@{server.url}", track=False, progress=lambda p: seen.append((threading.get_ident(), p.texts[0])))
    assert {thread for thread, _ in seen} == {threading.get_ident()}
    texts = [text for _, text in seen]
    assert 2 <= len(texts) <= 12
    assert all(answer.text.startswith(text) for text in texts)
    assert texts == sorted(texts, key=len)


def test_a_failed_call_raises_and_is_on_record(server):
    server.always("404")
    with pytest.raises(ProviderFault) as caught:
        lab.ask("hi", f"openai:m@{server.url}", track=False)
    assert (caught.value.kind, caught.value.answered) == ("not_found", True)
    assert [(each["status"], each["error"]) for each in lab.load("asks").records()] == [("failed", "not_found")]


def test_a_server_that_is_not_there_is_told_from_one_that_refuses():
    settings.configure(retries=0)
    try:
        with pytest.raises(ProviderFault) as caught:
            lab.ask("hi", "openai:m@http://127.0.0.1:9/v1", track=False)
    finally:
        settings.configure(retries=None)
    assert (caught.value.kind, caught.value.answered) == ("connection", False)


def test_a_reply_is_on_disk_before_it_is_returned(home):
    answer = lab.ask("hello", "echo", track=False)
    script = "import llmops_lab as lab; print([each['text'] for each in lab.load('asks').records()])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[{answer.text!r}]"


def test_secrets_are_sent_and_never_stored(server, home, monkeypatch):
    secret = "sk-" + "q7Yz" * 8
    monkeypatch.setenv("SOME_API_KEY", own := "correct-horse-battery")
    answer = lab.ask("{{ a }} {{ b }}", f"openai:m@{server.url}", a=secret, b=own, params={"user": own})
    assert server.count(f"{secret} {own}") == 1
    assert answer.text == "[redacted] [redacted]"
    assert not any(part in repr(answer) + answer._repr_html_() + repr(answer.messages) for part in (secret, own))
    open_ledger(settings.load()).close()
    stored = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"q7Yzq7Yz" not in stored
    assert own.encode() not in stored


def test_a_local_model_stays_loaded_between_two_questions():
    def loaded():
        return [thread.name for thread in threading.enumerate() if thread.name == "llmops_lab tiny"]

    lab.ask("Hello!", "tiny", track=False)
    first = loaded()
    lab.ask("Hello!", "tiny", track=False)
    assert loaded() == first == ["llmops_lab tiny"]


def test_a_price_that_changes_is_used_although_the_model_stays_loaded():
    lab.ask("Hello!", "tiny", track=False)
    settings.configure(prices={"tiny": {"input": 1e6, "output": 0.0}})
    try:
        answer = lab.ask("Hello!", "tiny", track=False)
    finally:
        settings.configure(prices=None)
    assert answer.cost_usd == answer.usage.input_tokens


def test_many_threads_ask_at_once_and_each_gets_its_own_answer():
    answers = {}

    def one(number):
        answers[number] = lab.ask("number {{ n }}", "echo", n=number, track=False).text

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: f"number {number}" for number in range(8)}
    assert len(lab.load("asks").records()) == 8


def test_the_trace_is_linked_to_the_version_that_has_this_text():
    import mlflow

    lab.prompts.save("Say {{ x }}", "say")
    answer = lab.ask(lab.Prompt("Say {{ x }}", name="say"), "echo", x="it")
    assert (answer.prompt.name, answer.prompt.version) == ("say", 1)
    trace = mlflow.get_trace(answer.trace_id)
    assert '"say"' in trace.info.tags["mlflow.linkedPrompts"]
    assert trace.info.trace_metadata["mlflow.sourceRun"] == answer.run_id
    other = lab.ask(lab.Prompt("Tell {{ x }}", name="say"), "echo", x="it")
    assert other.prompt.version is None
    assert "mlflow.linkedPrompts" not in mlflow.get_trace(other.trace_id).info.tags


def test_a_question_brings_a_waiting_grid_to_mlflow_and_the_grid_knows_its_run(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    grid = lab.grid("{{ x }}", [{"x": "before"}], models=["echo"])
    assert grid.run_id is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    lab.ask("hello", "echo")
    assert grid.run_id is not None
    assert lab.load(grid.run_id).grid_id == grid.grid_id


def test_examples_are_chosen_by_the_embedder_that_the_prompt_names():
    examples = lab.Examples([{"text": "charged twice", "output": "invoice"}], choose="nearest", embedder="hashin")
    with pytest.raises(UnknownName, match="Did you mean hashing"):
        lab.ask(lab.Prompt("{{ text }}", examples=examples), "echo", text="charged", track=False)


def test_a_reply_that_no_text_column_can_hold_is_in_the_table_all_the_same():
    text = "half a pair \ud83d and \x00"
    assert lab.ask("{{ text }}", "echo", text=text, track=False).text == text
    assert lab.load("asks").records()[0]["text"] == text
    assert lab.load("asks").frame()["text"].tolist() == ["half a pair \\ud83d and \x00"]


def test_the_cost_is_of_all_tries(server):
    settings.configure(prices={"openai:m": {"input": 1e6, "output": 1e6}})
    server.script("null_content")
    try:
        answer = lab.ask("two words", f"openai:m@{server.url}", track=False)
    finally:
        settings.configure(prices=None)
    assert (answer.tries, answer.usage.input_tokens, answer.usage.output_tokens) == (2, 2, 2)
    assert answer.cost_usd == 4 + 2  # the try without content was billed for its two input tokens
    assert "2 tries" in repr(answer)
