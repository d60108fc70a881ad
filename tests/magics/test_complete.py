"""Completion as a frontend asks for it: ``complete_request`` to a real kernel, and IPython's own completer as a terminal uses it."""

import os
import subprocess
import sys
import time

import pytest


@pytest.fixture(scope="module", autouse=True)
def notebook(kernel):
    (kernel.folder / "data.csv").write_text("id,question\n1,a\n")
    ran = kernel.run(
        "import pandas, llmops_lab as lab\nframe = pandas.DataFrame({'question': ['a'], 'answer': ['b']})\n"
        "def my_score(reply, row):\n    return 1\n"
        "lab.prompts.save('hi {{ x }}', 'triage', alias='production'); lab.prompts.save('ho', 'trivia')\n"
        "lab.grid('{{ question }}', frame, models='openai:seen@http://127.0.0.1:9/v1', retries=0, progress=False)\n"
        "lab.configure(prices={'openai:priced': {'input': 1}})"
    )
    assert ran.status == "ok", ran.error


def complete(kernel, code, at=None):
    """What stands where the cursor is, and what it could become."""
    at = len(code) if at is None else at
    kernel.client.complete(code, at)
    content = kernel.client.get_shell_msg(timeout=60)["content"]
    assert content["status"] == "ok"
    return code[content["cursor_start"] : at], content["matches"]


def eventually(kernel, code, wanted):
    """Names that are looked up may come with a later try."""
    for _ in range(40):
        found = complete(kernel, code)
        if wanted in found[1]:
            return found
        time.sleep(0.25)
    raise AssertionError((code, found))


@pytest.mark.parametrize(
    ("code", "word", "expected"),
    [
        ("%%grid --model ti", "ti", ["tiny"]),
        ("%%prompt qa --model ti", "ti", ["tiny"]),
        ("%%prompt --model=ti", "ti", ["tiny"]),
        ("%grid g << --rows frame --model ec", "ec", ["echo"]),
        ("%%grid --model openai:pr", "openai:pr", ["openai:priced"]),
        ("%%grid --mod", "--mod", ["--model"]),
        ("%%grid --scorer exa", "exa", ["exact"]),
        ("%%grid --scorer my", "my", ["my_score"]),
        ("%%grid --rows fra", "fra", ["frame"]),
        ("%%grid --rows frame --expected an", "an", ["answer"]),
        ("%%grid --stop ", "", ["decided"]),
        ("%lab ", "", ["status", "cost", "runs", "settings"]),
        ("%lab se", "se", ["settings"]),
        ("%lab runs --la", "--la", ["--last"]),
        ("%prompt ro", "ro", ["rollback"]),
        ("%llmops_lab co", "co", ["cost"]),
        ("x = 1\n%lab co", "co", ["cost"]),
    ],
)
def test_what_the_parsers_and_the_notebook_know(kernel, code, word, expected):
    assert complete(kernel, code) == (word, expected)


def test_every_option_and_every_provider_is_offered(kernel):
    _, options = complete(kernel, "%%grid ")
    assert {"--rows", "--model", "--scorer", "--budget", "--dry-run", "--out"} <= set(options)
    _, models = complete(kernel, "%%grid --model ")
    assert {"tiny", "echo", "openai:", "hf:", "litellm:", "mlflow:"} <= set(models) and "tiny:" not in models


def test_the_middle_of_a_line_and_the_first_line_of_a_cell(kernel):
    code = "%%grid --model ti --rows frame\n{{ question }}"
    assert complete(kernel, code, at=len("%%grid --model ti")) == ("ti", ["tiny"])


def test_models_that_were_used_and_saved_prompts_with_their_aliases(kernel):
    eventually(kernel, "%%grid --model openai:s", "openai:seen@http://127.0.0.1:9/v1")
    assert eventually(kernel, "%prompt show tri", "triage@production") == ("tri", ["triage", "triage@production", "trivia"])
    assert complete(kernel, "%prompt show triage@") == ("triage@", ["triage@production"])
    assert complete(kernel, "%%prompt triv") == ("triv", ["trivia"])
    assert complete(kernel, "lab.ask('prompts:/triv") == ("prompts:/triv", ["prompts:/trivia"])


def test_files_may_stand_where_a_path_may(kernel):
    assert "data.csv" in complete(kernel, "%%grid --rows dat")[1]


def test_python_is_completed_as_ever(kernel):
    assert "my_score" in complete(kernel, "my_s")[1]
    assert "prompt" not in complete(kernel, "%%grid --rows frame\nmy_s")[1]


@pytest.mark.parametrize("uri", ["'http://127.0.0.1:9'", "f'http://127.0.0.1:{silent.getsockname()[1]}'"])
def test_a_server_that_is_down_or_silent_costs_the_names_that_it_has_and_nothing_else(kernel, uri):
    kernel.run(f"import socket\nsilent = socket.create_server(('127.0.0.1', 0))\nlab.configure(tracking_uri={uri})\n%reload_ext llmops_lab")
    assert "triage" not in complete(kernel, "%prompt show tri")[1]
    assert complete(kernel, "%prompt sh") == ("sh", ["show"])
    assert complete(kernel, "%%grid --model ti") == ("ti", ["tiny"])
    assert kernel.run("silent.close(); lab.configure(tracking_uri=None)").status == "ok"


def test_broken_settings_break_no_completion(kernel):
    settings = kernel.folder / "pyproject.toml"
    settings.write_text("[tool.llmops_lab")
    try:
        assert complete(kernel, "%lab co") == ("co", ["cost"])
        assert "tiny" not in complete(kernel, "%%grid --model ti")[1]
        assert kernel.run("1 + 1").text == "2"
    finally:
        settings.unlink()


def test_a_terminal_completes_too(tmp_path):
    code = (
        "from IPython.terminal.interactiveshell import TerminalInteractiveShell\n"
        "from IPython.core.completer import provisionalcompleter\n"
        "shell = TerminalInteractiveShell.instance()\nshell.run_line_magic('load_ext', 'llmops_lab')\n"
        "with provisionalcompleter():\n"
        "    print([each.text for each in shell.Completer.completions('%%grid --model ti', 17)])\n"
        "    print([each.text for each in shell.Completer.completions('%lab ', 5)])\n"
    )
    environment = {**os.environ, "LLMOPS_LAB_HOME": str(tmp_path / "home"), "IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-2:] == ["['tiny']", "['status', 'cost', 'runs', 'settings']"], done.stdout + done.stderr
    assert not (tmp_path / "home").exists()
