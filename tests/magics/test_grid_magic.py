"""``%%grid`` and ``%grid`` in a real kernel: what is run, shown and kept, how it is interrupted, and how it fails."""

import pytest

ROWS = "id,question,answer\n" + "".join(f"{number},q{number},q{number}\n" for number in range(12))
TWO = "--- plain\n{{ question }}\n--- polite\nPlease: {{ question }}"


@pytest.fixture(autouse=True)
def rows(kernel):
    (kernel.folder / "r.csv").write_text(ROWS)
    (kernel.folder / "p.toml").write_text('[plain]\ntemplate = "{{ question }}"\n')


def grid(*more, rows="r.csv", model="echo"):
    return " ".join(["--rows", rows, "--model", model, "--scorer exact --expected answer --no-track", *more])


def shown(ran):
    """The plain text of each display."""
    return [output["data"]["text/plain"] for output in ran.outputs if "data" in output]


# -- what is run and shown -------------------------------------------------------------------------------------------------
def test_a_cell_with_two_prompts_shows_estimate_progress_table_and_verdict(kernel):
    ran = kernel.run(f"%%grid g << {grid('--fresh')}\n{TWO}")
    estimate, progress, table = shown(ran)
    assert estimate.startswith("estimate: 24 cells: 24 calls; cost ")
    assert progress.startswith("done: 24/24 cells")
    assert "verdict: worse: polite loses to plain on exact by -1.00" in table and "state: done" in table
    assert kernel.value("[g.state, g.calls, sorted(set(g.frame()['prompt']))]") == ["done", 24, ["plain", "polite"]]
    (last,) = [output for output in ran.outputs if output["metadata"]]
    assert last["metadata"]["llmops_lab"]["grid"] == kernel.value("g.grid_id")
    assert "<table>" in last["data"]["text/html"] and "verdict: worse" in last["data"]["text/html"]


def test_the_body_may_be_toml_or_the_text_of_one_prompt(kernel):
    toml = '[plain]\ntemplate = "{{ question }}"\n[json]\ntemplate = \'{"q": "{{ question }}"}\''
    assert kernel.run(f"%%grid --out a {grid()}\n{toml}").status == "ok"
    assert kernel.run(f"%%grid --out b {grid('--prompt', 'mine')}\n[not] a table {{{{ question }}}} {{}}").status == "ok"
    assert kernel.value("[sorted(set(a.frame()['prompt'])), sorted(set(b.frame()['prompt']))]") == [["json", "plain"], ["mine"]]
    assert kernel.value("b.frame()['text'][0]") == "[not] a table q0 {}"


def test_rows_prompts_and_scorers_may_be_variables(kernel):
    kernel.run(
        "import pandas\nframe = pandas.DataFrame({'question': ['a', 'b'], 'answer': ['a', 'x']})\n"
        "def short(reply, row):\n    return len(reply.text) < 5\nmine = {'own': '{{ question }}'}"
    )
    ran = kernel.run(f"%grid v << --prompts mine {grid('--scorer short', rows='frame')}")
    assert ran.status == "ok", ran.outputs
    assert kernel.value("v.frame()[['prompt', 'exact', 'short']].values.tolist()") == [["own", True, True], ["own", False, True]]


def test_the_line_magic_takes_a_file_and_a_dry_run_sends_nothing(kernel, server):
    model = f"openai:m@{server.url}"
    ran = kernel.run(f"%grid --prompts p.toml {grid('--dry-run', model=model)}")
    assert "nothing was sent" in ran.text and "12" in ran.text and "unknown" in ran.text
    assert server.requests == []
    assert kernel.run(f"%grid --prompts p.toml {grid(model=model)}").status == "ok"
    assert len(server.requests) == 12


def test_several_models_are_compared_where_there_is_one_prompt(kernel):
    ran = kernel.run(f"%%grid {grid('--model tiny')}\n{{{{ question }}}}")
    assert "verdict: worse: tiny loses to echo on exact" in shown(ran)[-1]


def test_a_verdict_about_prompts_says_that_it_is_a_mean_over_models(kernel):
    ran = kernel.run(f"%%grid {grid('--model tiny')}\n{TWO}")
    (verdict,) = [line for line in shown(ran)[-1].splitlines() if line.startswith("verdict: ")]
    assert "polite" in verdict and verdict.endswith("(each row is the mean over 2 models)")


def test_a_scorer_that_is_neither_there_nor_a_function_is_answered_with_both(kernel):
    kernel.run("def brevity(reply, row):\n    return 1")
    name, (text,) = kernel.run("%%grid --rows r.csv --model echo --scorer brevty\nhi").error
    assert name == "UnknownName" and "Did you mean brevity" in text and "exact" in text


def test_it_is_logged_and_says_where(kernel):
    ran = kernel.run(f"%%grid g << {grid().replace('--no-track', '')}\n{{{{ question }}}}")
    assert f"MLflow run: {kernel.value('g.run_id')}" in shown(ran)[-1]
    assert len(kernel.value("g.run_id")) == 32


def test_what_models_and_rows_say_is_shown_inert(kernel, server):
    kernel.run("evil = [{'question': 'q', 'answer': 'a'}]\nprompt = {'<script>x</script>': '{{ question }}'}")
    server.always("401")
    ran = kernel.run(f"%grid --prompts prompt {grid(rows='evil', model=f'openai:m@{server.url}')}")
    assert not any("<script>x" in output["data"]["text/html"] for output in ran.outputs)


# -- progress --------------------------------------------------------------------------------------------------------------
def test_the_bar_is_one_output_drawn_at_most_ten_times_a_second(kernel, server):
    server.latency_s = 0.05
    try:
        ran = kernel.run(f"%%grid {grid('--concurrency 1 --fresh --repeats 3', model=f'openai:m@{server.url}')}\n{{{{ question }}}}")
    finally:
        server.latency_s = 0.0
    handles = [content["transient"]["display_id"] for _, _, content in ran.messages if (content.get("transient") or {}).get("display_id")]
    times = [at for at, _, content in ran.messages if (content.get("transient") or {}).get("display_id")]
    assert len(set(handles)) == 1
    assert 5 <= len(handles) <= 10 * (times[-1] - times[0]) + 3
    live = [content["data"] for _, _, content in ran.messages if content["data"]["text/plain"].startswith("[")]
    assert any("/36 cells" in data["text/plain"] and " left" in data["text/plain"] for data in live)
    assert all("<progress" in data["text/html"] for data in live)


def test_a_batch_run_has_no_updates(kernel):
    ran = kernel.run(f"%%grid {grid('--fresh')}\n{TWO}", live=False)
    assert [kind for _, kind, _ in ran.messages] == ["display_data"] * 3
    assert shown(ran)[1].startswith("done: 24/24 cells")


def test_the_function_shows_the_same_bar_and_none_when_told_so(kernel):
    code = "import llmops_lab as lab\ng = lab.grid('{{ question }}', 'r.csv', models='echo', track=False, progress=%s)"
    assert shown(kernel.run(code % "None"))[0].startswith("done: 12/12 cells")
    assert kernel.run(code % "False").outputs == []
    kernel.run("seen = []")
    assert kernel.run(code % "seen.append").outputs == []
    assert kernel.value("[seen[-1].ok, seen[-1].state]") == [12, "done"]


# -- interrupt -------------------------------------------------------------------------------------------------------------
def test_an_interrupt_cancels_keeps_what_is_done_and_resume_goes_on(kernel, server):
    server.latency_s = 0.1
    line = grid("--concurrency 2", model=f"openai:stop@{server.url}")

    sent = []

    def once(kind, content):
        if not sent and str(content.get("data", {}).get("text/plain")).startswith("[#"):
            sent.append(kernel.manager.interrupt_kernel())

    try:
        ran = kernel.run(f"%%grid g << {line}\n{{{{ question }}}}", on_message=once)
    finally:
        server.latency_s = 0.0
    assert sent and ran.status == "error"
    name, (text,) = ran.error
    assert name == "Cancelled" and "g.resume(), or this cell again" in text
    state, ok = kernel.value("[g.state, int((g.frame()['status'] == 'ok').sum())]")
    assert state == "cancelled" and 0 < ok < 12
    assert f"{ok} of 12 cells are answered and kept" in text
    asked = len(server.requests)
    assert kernel.run("g.resume()").status == "ok"
    assert kernel.value("[g.state, int((g.frame()['status'] == 'ok').sum())]") == ["done", 12]
    assert len(server.requests) == asked + 12 - ok


def test_the_function_that_is_interrupted_gives_the_handle_and_says_that_it_goes_on(kernel, server):
    server.latency_s = 0.1
    model, sent = f"openai:stop2@{server.url}", []

    def once(kind, content):
        if not sent and str(content.get("data", {}).get("text/plain")).startswith("[#"):
            sent.append(kernel.manager.interrupt_kernel())

    code = f"h = lab.grid('{{{{ question }}}}', 'r.csv', models='{model}', concurrency=2, track=False)"
    try:
        ran = kernel.run(f"import llmops_lab as lab\n{code}", on_message=once)
    finally:
        server.latency_s = 0.0
    assert sent and ran.status == "ok"
    assert ran.text.startswith("cancelled: ") and ran.text.endswith("the same again goes on from here")
    assert kernel.value("h.state") == "cancelled"
    kernel.run(code)
    assert kernel.value("[h.state, h.calls + h.reused, h.reused > 0]") == ["done", 12, True]
    assert len(server.requests) == 12


def test_silence_is_an_error_of_the_cell(kernel):
    ran = kernel.run(
        f"%%grid s << {grid('--retries 0 --timeout 2', model='openai:m@http://127.0.0.1:9/v1')}\n{{{{ question }}}}", live=False
    )
    name, (text,) = ran.error
    assert name == "Unreachable" and "s.resume()" in text
    assert kernel.value("s.state") == "unreachable"


def test_failed_cells_are_told_and_the_grid_is_kept(kernel, server):
    server.always("401")
    ran = kernel.run(f"%%grid f << {grid(model=f'openai:no@{server.url}')}\n{{{{ question }}}}")
    assert ran.status == "ok"
    assert "failed: 12 unauthorized" in shown(ran)[-2] and "f.resume(), or this cell again" in shown(ran)[-1]


# -- wrong use -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("%%grid --rws r.csv\nhi", "%%grid: there is no option --rws. Did you mean --rows"),
        ("%%grid --rows r.csv --model echo", "there is nothing to ask: write the prompts below"),
        ("%%grid --rows farme --model echo\nhi", "--rows farme: there is no variable of that name"),
        ("%%grid --rows r.csv --model ecko\nhi", "Did you mean echo"),
        ("%%grid --rows r.csv --model echo --scorer exakt\nhi", "called 'exakt'. Did you mean exact"),
        ("%%grid --rows r.csv --model echo\n[a]\ntemplate = {{ x }}", "this cell is malformed"),
        ("%%grid --rows r.csv --model echo\n--- a\nx\n--- a\ny", "two prompts of this cell are called 'a'"),
        ("%%grid --rows r.csv --model echo\n--- a\n--- b\ny", "the prompt 'a' of this cell is empty"),
        ("%%grid --rows r.csv --model echo\n{{ qestion }}", "question"),
        ("%%grid 1x << --rows r.csv --model echo\nhi", "'1x' cannot name a variable"),
        ("%%grid a << --out b --rows r.csv --model echo\nhi", "name two variables"),
        ('%%grid --rows "r.csv --model echo\nhi', "a quotation mark is not closed"),
        ("%grid --rows r.csv --model echo", "missing: --prompts"),
        ("%grid --prompts nothing --rows r.csv --model echo", "--prompts nothing: there is no variable of that name"),
    ],
)
def test_wrong_use_is_a_real_error_of_one_line(kernel, server, cell, expected):
    ran = kernel.run(cell)
    assert ran.status == "error"
    name, (text,) = ran.error
    assert name in ("BadInput", "UnknownName") and expected in text and "\n" not in text, text
    assert len(ran.outputs) == 1


@pytest.mark.parametrize("line", ["%%grid -h", "%%grid --help", "%grid --help"])
def test_help_is_printed_and_runs_nothing(kernel, line):
    ran = kernel.run(line)
    assert ran.status == "ok"
    assert ran.printed.startswith(f"usage: {line.split()[0]} [VAR <<] [options]") and "--scorer S" in ran.printed
