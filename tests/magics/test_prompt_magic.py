"""``%%prompt`` in a real kernel: what is shown, what is kept, what is sent, and how it fails."""

import itertools
import os
import threading
import time

import pytest

from tests.servers import chunk, streams


def ask(server, name="m"):
    return f"openai:{name}@{server.url}"


def pieces(*texts, pause=0.0, finish="stop"):
    """A behaviour that streams these pieces."""

    async def play(request, body):
        items = []
        for text in texts:
            items += [chunk(body, {"content": text}), pause]
        return await streams(*items, chunk(body, {}, finish), "[DONE]")(request, body)

    return play


def states_of_traces(kernel, name):
    """The states of all traces with this name in MLflow."""
    where = "locations=[mlflow.get_experiment_by_name('llmops_lab').experiment_id]"
    kernel.run(f"import mlflow\nfound = mlflow.search_traces({where}, filter_string=\"trace.name = '{name}'\", return_type='list')")
    return kernel.value("[each.info.state.value for each in found]")


# -- what is shown ---------------------------------------------------------------------------------------------------------
def test_the_answer_comes_first_and_then_one_line_about_it(kernel):
    ran = kernel.run("%%prompt qa --model tiny --out a\nWhat is the intent? I was charged twice.")
    text, footer = ran.text.split("\n")
    assert text == kernel.value("a.text")
    assert footer.startswith("[tiny (fixture) · 20 → 1 tokens · ")
    assert " s · first token " in footer
    assert " · $0.00 · qa " in footer
    assert f'<pre style="white-space:pre-wrap;overflow-wrap:anywhere;margin:0 0 .4em 0">{text}</pre>' in ran.html


def test_a_price_that_nobody_knows_is_not_zero(kernel, server):
    assert "cost unknown" in kernel.run(f"%%prompt --model {ask(server)} --out a\nhi").text
    assert kernel.value("a.cost_usd") is None


def test_streaming_shows_the_text_as_it_comes_at_most_ten_times_a_second_and_leaves_one_output(kernel, server):
    kernel.run("%%prompt --model echo\nwarm up")
    server.always(pieces(*(f"w{number} " for number in range(150)), pause=0.01))
    ran = kernel.run(f"%%prompt --model {ask(server)} --no-track\ncount")
    shown = [content["data"]["text/plain"] for _, _, content in ran.messages]
    times = [at for at, _, _ in ran.messages]
    assert shown[0].startswith("w0 ") and "w149" not in shown[0]
    assert all(later.startswith(earlier.partition("\n")[0]) for earlier, later in itertools.pairwise(shown[:-2]))
    assert 5 <= len(shown) <= 10 * (times[-1] - times[0]) + 3
    assert ran.text.startswith("w0 w1 ")
    assert "w149" in ran.text


def test_a_batch_run_has_one_output_and_no_updates(kernel, server):
    server.always(pieces(*(f"w{number} " for number in range(30)), pause=0.02))
    ran = kernel.run(f"%%prompt --model {ask(server)}\ncount", live=False)
    ((_, kind, content),) = ran.messages
    assert kind == "display_data"
    assert not content["transient"]
    assert "w29" in content["data"]["text/plain"]


def test_an_executed_notebook_holds_one_output_and_the_error_of_a_failing_cell(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    cells = ["%load_ext llmops_lab", "%%prompt --model echo --no-track --out a\nhello {{ 1 + 1 }}", "%%prompt --model ech\nhello"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}, allow_errors=True)
    client.execute(env={**os.environ, "LLMOPS_LAB_HOME": str(tmp_path)})
    ((answer,), (error,)) = (cell.outputs for cell in notebook.cells[1:])
    assert answer.data["text/plain"].startswith("hello 2\n")
    assert error.output_type == "error"
    assert error.ename == "UnknownName"


def test_a_reply_cut_by_the_token_limit_says_so(kernel, server):
    server.script("length")
    ran = kernel.run(f"%%prompt --model {ask(server)}\nthe question")
    assert "[cut by the token limit]" in ran.text
    assert ">cut by the token limit</span>" in ran.html


HOSTILE = "<script>alert(1)</script><img src=http://127.0.0.1:9/beacon onerror=alert(2)></pre><b>bold</b>\x1b[31mred\x00\ud83d end\u202e"


def test_what_a_model_writes_is_inert(kernel):
    kernel.run(f"evil = {HOSTILE!r}")
    ran = kernel.run("%%prompt evil --model echo --out a\n{{ evil }}")
    for text in (ran.html, ran.text):
        assert not set(text) & {"\x1b", "\x00", "\ud83d", "\u202e"}
    assert not any(f"<{tag}" in ran.html for tag in ("script", "img", "b>"))
    assert ran.html.count("<pre") == ran.html.count("</pre>")
    assert "&lt;script&gt;" in ran.html
    assert "\\x1b[31mred\\x00\\ud83d" in ran.text
    assert kernel.value("a.text == evil")


def test_a_long_answer_is_kept_whole_and_shown_in_part(kernel):
    kernel.run("long = 'x' * 1_000_000")
    ran = kernel.run("%%prompt --model echo --out a\n{{ long }}")
    assert kernel.value("len(a.text)") == 1_000_000
    assert len(ran.html) < 60_000
    assert "950,000 more characters" in ran.text


def test_the_name_of_a_model_or_prompt_is_inert_too(kernel, server):
    ran = kernel.run(f"%%prompt '<i>x' --model '{ask(server, '<b>m</b>')}' --no-track\nhi")
    assert "<b>" not in ran.html
    assert "<i>" not in ran.html


# -- what is kept ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("line", ["qa --model tiny --out found", "found << qa --model tiny", "found<< qa --model tiny"])
def test_the_answer_can_be_assigned(kernel, line):
    kernel.run("found = None")
    ran = kernel.run(f"%%prompt {line}\nWhat is the intent? I was charged twice.")
    assert ran.status == "ok"
    fields = kernel.value(
        "[found.text, found.usage.input_tokens, found.cost_usd, found.prompt.name, len(found.prompt.sha256), found.finish_reason]"
    )
    assert fields == ["invoice", 20, 0.0, "qa", 64, "stop"]
    assert kernel.value("found.latency_s >= found.ttft_s > 0")


def test_the_answer_is_a_trace_in_the_run_of_all_questions(kernel):
    kernel.run("%%prompt lineage --model echo --out a\nhello")
    kernel.run("%%prompt lineage --model echo --out b\nhello")
    kernel.run("import mlflow\nt = mlflow.get_trace(a.trace_id)\nrun = mlflow.get_run(a.run_id)")
    assert (
        kernel.value("[t.info.trace_metadata['mlflow.sourceRun'] == a.run_id, b.run_id == a.run_id, b.trace_id != a.trace_id]")
        == [True] * 3
    )
    assert kernel.value("[run.info.run_name, run.info.status, t.info.tags['mlflow.traceName']]") == ["asks", "FINISHED", "lineage"]
    assert kernel.value("t.info.tags['llmops_lab.prompt.sha256'] == a.prompt.sha256")


def test_no_track_writes_no_trace(kernel):
    kernel.run("%%prompt --model echo --out a --no-track\nhello")
    assert kernel.value("[a.run_id, a.trace_id]") == [None, None]


def test_every_question_is_sent_and_all_of_them_are_in_the_ledger(kernel, server):
    kernel.run(f"%%prompt --model {ask(server)} --out a\nthe same question")
    kernel.run(f"%%prompt --model {ask(server)} --out b\nthe same question")
    assert server.count("the same question") == 2
    kernel.run("import llmops_lab as lab\nasks = lab.load('asks').records()")
    assert kernel.value("[each['text'] for each in asks].count('the same question')") == 2
    assert kernel.value("len({each['key'] for each in asks}) == len(asks)")


def test_repeat_shows_and_assigns_all_answers(kernel, server):
    ran = kernel.run(f"%%prompt --model {ask(server)} --repeat 3 --out many\nagain")
    assert server.count("again") == 3
    assert [f"[{number} of 3 · " in ran.text for number in (1, 2, 3)] == [True] * 3
    assert kernel.value("[each.text for each in many]") == ["again"] * 3


def test_a_repeat_that_fails_in_part_keeps_the_rest_and_is_an_error(kernel, server):
    server.script("ok", "400", "ok")
    ran = kernel.run(f"%%prompt --model {ask(server)} --repeat 3 --out many\npartly")
    assert ran.status == "error"
    assert "1 of 3 calls failed" in ran.error[1][0]
    assert ran.outputs[0]["data"]["text/plain"].count("partly") == 2
    assert kernel.value("len(many)") == 2


def test_a_secret_in_a_reply_is_shown_nowhere(kernel):
    kernel.run("key = 'sk-' + 'A1b2' * 8")
    ran = kernel.run("%%prompt --model echo --out a\nmy key is {{ key }}")
    everything = str([content for _, _, content in ran.messages])
    assert "A1b2A1b2" not in everything
    assert kernel.value("a.text") == "my key is [redacted]"
    assert kernel.value("'A1b2A1b2' in repr(a.messages)") is False


# -- what is sent ----------------------------------------------------------------------------------------------------------
def test_variables_come_from_set_before_the_notebook(kernel, server):
    kernel.run("city = 'Lima'\nland = 'Peru'")
    ran = kernel.run(f"%%prompt --model {ask(server)} --set city='La Paz' --set zip=01234\n{{{{ city }}}} in {{{{ land }}}} {{{{ zip }}}}")
    assert ran.status == "ok"
    assert server.count("La Paz in Peru 01234") == 1


def test_single_braces_are_text_and_values_are_not_expanded_again(kernel, server):
    kernel.run("inner = '{{ land }} {land} $land'\nland = 'Peru'")
    kernel.run(f'%%prompt --model {ask(server)}\n{{"a": {{}}}} {{land}} $land {{{{ inner }}}}')
    assert server.count('{"a": {}} {land} $land {{ land }} {land} $land') == 1


def test_a_variable_that_is_not_there_is_named_with_close_ones(kernel, server):
    kernel.run("country = 'Peru'")
    ran = kernel.run(f"%%prompt --model {ask(server)}\n{{{{ contry }}}}")
    name, (line,) = ran.error
    assert name == "BadInput"
    assert "contry" in line and "Did you mean country" in line
    assert server.requests == []


def test_a_prompt_cannot_call_what_the_notebook_has_imported_or_made(kernel, server):
    kernel.run("import os, pandas\ndef secret(): return 'opened'\nclass Store:\n    def wipe(self): done.append(1)\n    __call__ = wipe")
    kernel.run("store, done, frame, box = Store(), [], pandas.DataFrame({'a': [1]}), {'open': open, 'store': Store()}")
    calls = [
        "os.getcwd()",
        "secret()",
        "store.wipe()",
        "store()",
        "frame.to_csv('stolen.csv')",
        "box.open('/etc/hostname')",
        "box.store.wipe()",
    ]
    for call in [*calls, "done.append(2)", "[store]|map(attribute='wipe')|first()()"]:
        assert kernel.run(f"%%prompt --model {ask(server)}\n{{{{ {call} }}}}").error[0] == "BadInput", call
    assert server.requests == []
    assert kernel.value("done") == []


def test_a_prompt_may_call_methods_of_plain_data(kernel, server):
    kernel.run(
        "import datetime, pandas\nword, day, stamp = 'ab', datetime.date(2020, 1, 2), pandas.Timestamp('2021-03-04')\nbox = {'k': [1]}"
    )
    text = "{{ word.upper() }} {{ '{}!'.format(word) }} {{ day.isoformat() }} {{ stamp.strftime('%Y') }} "
    text += "{% for k, v in box.items() %}{{ k }}{{ v }}{% endfor %}"
    kernel.run(f"%%prompt --model {ask(server)}\n{text}")
    assert server.count("AB ab! 2020-01-02 2021 k[1]") == 1


def test_params_go_to_the_model_as_numbers(kernel, server):
    kernel.run(f"%%prompt --model {ask(server)} --param temperature=0.5 --param max_tokens=7 --param stop='[\"x\"]'\nhi")
    body = server.requests[0].body
    assert (body["temperature"], body["max_tokens"], body["stop"]) == (0.5, 7, ["x"])


def test_a_thread_goes_on_and_a_question_without_one_does_not(kernel, server):
    server.answer = lambda text: f"<{text}>"
    kernel.run(f"%%prompt --thread t --model {ask(server)}\none")
    ran = kernel.run(f"%%prompt --thread t --model {ask(server)}\ntwo")
    kernel.run(f"%%prompt --model {ask(server)}\nthree")
    server.answer = lambda text: text
    turns = [[message["content"] for message in seen.body["messages"]] for seen in server.requests]
    assert turns == [["one"], ["one", "<one>", "two"], ["three"]]
    assert "thread t, turn 2" in ran.text
    assert "2 turns" in kernel.run("%prompt forget t").text
    kernel.run(f"%%prompt --thread t --model {ask(server)}\nfour")
    assert len(server.requests[-1].body["messages"]) == 1


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(kernel, server):
    kernel.run("land = 'Peru'")
    ran = kernel.run(f"%%prompt --dry-run --model {ask(server)} --repeat 2 --out nothing_sent\nCapital of {{{{ land }}}}?")
    assert ran.text.startswith("[user]\nCapital of Peru?\n")
    assert "nothing was sent" in ran.text and "2 calls" in ran.text and "cost unknown" in ran.text
    assert server.requests == []
    assert kernel.run("nothing_sent").status == "error"


@pytest.mark.parametrize("cell", ["%%prompt -h", "%%prompt --help", "%%prompt -h\nsome text", "%%llmops_prompt qa --help\ntext"])
def test_help_is_printed_and_nothing_sent(kernel, cell):
    kernel.run("%%prompt --model echo --no-track\nsomething to count")
    kernel.run("import llmops_lab as lab\nbefore = len(lab.load('asks').records())")
    ran = kernel.run(cell)
    assert ran.status == "ok"
    assert "--thread" in ran.printed and "%%prompt a << triage" in ran.printed
    assert kernel.value("len(lab.load('asks').records()) == before")


# -- how it fails ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cell", "name", "words"),
    [
        ("%%prompt --modle tiny\nx", "BadInput", "--model"),
        ("%%prompt --model tinny\nx", "UnknownName", "Did you mean tiny?"),
        ("%%prompt qa extra\nx", "BadInput", "too many words"),
        ("%%prompt qa a=b\nx", "BadInput", "too many words: a=b. Put quotation marks"),
        ("%%prompt --repeat 0\nx", "BadInput", "1 or more"),
        ("%%prompt --set novalue\nx", "BadInput", "name=value"),
        ("%%prompt --set q=don't\nx", "BadInput", "quotation mark"),
        ("%%prompt --out 1a\nx", "BadInput", "'1a'"),
        ("%%prompt a << --out b\nx", "BadInput", "two variables"),
        ("%%prompt --thread t --repeat 2\nx", "BadInput", "--repeat"),
        ("%%prompt", "BadInput", "nothing to ask"),
        ("%%prompt list", "BadInput", "%prompt list"),
        ("%%prompt --save\nx", "BadInput", "--save needs the name"),
        ("%%prompt nosuch_prompt", "UnknownName", "nosuch_prompt"),
        ("%%prompt qa@production\nx", "BadInput", "saved version"),
        ("%%prompt\n{% if x %}", "BadInput", "template error at line 1"),
        ("%prompt nosuch", "BadInput", "list"),
        ("%prompt", "BadInput", "COMMAND"),
        ("%prompt alias a", "BadInput", "missing"),
    ],
)
@pytest.mark.parametrize("live", [True, False])
def test_wrong_use_is_an_error_of_one_line_that_says_what_to_do(kernel, cell, name, words, live):
    ran = kernel.run(cell, live=live)
    assert ran.status == "error"
    found, lines = ran.error
    assert found == name
    assert len(lines) == 1 and "\n" not in lines[0]
    assert words in lines[0]
    assert len(ran.outputs) == 1


def test_a_failed_call_is_an_error_of_one_line_and_on_record(kernel, server):
    server.script("401")
    ran = kernel.run(f"%%prompt failing --model {ask(server)} --out never\nx")
    name, (line,) = ran.error
    assert name == "ProviderFault"
    assert "unauthorized" in line
    assert kernel.run("never").status == "error"
    kernel.run("import llmops_lab as lab, mlflow\nlast = lab.load('asks').records()[-1]")
    assert kernel.value("[last['status'], last['error']]") == ["failed", "unauthorized"]
    assert states_of_traces(kernel, "failing") == ["ERROR"]


def test_a_retry_takes_the_half_answer_back(kernel, server):
    server.script("cut_stream_chunked", pieces("whole ", "answer"))
    ran = kernel.run(f"%%prompt --model {ask(server)} --out a --no-track\nx")
    assert kernel.value("a.text") == "whole answer"
    assert ran.text.startswith("whole answer\n")


def test_an_interrupt_stops_the_call_shows_what_came_and_records_the_doubt(kernel, server):
    server.script(pieces("half an ", "answer", *[" " for _ in range(600)], pause=0.1))
    stop = threading.Event()

    def seen(kind, content):
        if kind == "display_data" and not stop.is_set():
            stop.set()
            kernel.manager.interrupt_kernel()

    began = time.monotonic()
    ran = kernel.run(f"%%prompt stopped --model {ask(server)}\nx", on_message=seen)
    assert time.monotonic() - began < 20
    assert ran.status == "error"
    name, (line,) = ran.error
    assert (name, "may have been paid for" in line) == ("Cancelled", True)
    assert ran.outputs[0]["data"]["text/plain"].startswith("half an answer")
    assert "stopped" in ran.outputs[0]["data"]["text/plain"]
    kernel.run("import llmops_lab as lab\nasks = lab.load('asks')\nlast = asks.records()[-1]")
    assert kernel.value("last['key'] in asks.maybe_paid_twice")
    assert kernel.value("asks.state") == "done"
    ran = kernel.run("%%prompt after --model echo --out b\ngoes on")
    assert kernel.value("b.text") == "goes on"
    assert states_of_traces(kernel, "stopped") == ["ERROR"]
