"""``%prompt`` and ``%%prompt --save`` in a real kernel: versions, differences, aliases; loading and unloading; MLflow away."""

import http.server
import json
import socket
import threading
import time
import uuid

import pytest

from tests.magics.conftest import Kernel


@pytest.fixture
def name():
    return f"p{uuid.uuid4().hex[:8]}"


def save(kernel, name, *texts):
    return [kernel.run(f"%%prompt {name} --model echo --save\n{text}") for text in texts]


def test_saving_says_which_version_it_is_and_what_changed(kernel, name):
    first, second, same = save(kernel, name, "Sort this ticket: {{ 1 }}", "Route this ticket: {{ 1 }}", "Sort this ticket: {{ 1 }}")
    assert f"{name}/1 · saved as a new version]" in first.text
    assert f"{name}/2 · saved as a new version]" in second.text
    assert "[-Sort-]{+Route+} this ticket" in second.text
    assert "<del " in second.html and "<details open>" in second.html
    assert f"{name}/1 · saved before: same text, same version]" in same.text


def test_a_text_that_differs_from_the_library_says_so_and_one_that_is_in_it_names_its_version(kernel, name):
    save(kernel, name, "Sort this ticket", "Route this ticket")
    other = kernel.run(f"%%prompt {name} --model echo --out a\nMove this ticket")
    assert f"differs from {name}/2" in other.text
    assert kernel.value("a.prompt.version") is None
    assert "what changed since" in other.html and "<details open>" not in other.html
    older = kernel.run(f"%%prompt {name} --model echo --out a\nSort this ticket")
    assert f" · {name}/1]" in older.text
    assert "differs" not in older.text
    assert kernel.value("[a.prompt.name, a.prompt.version]") == [name, 1]


def test_params_are_part_of_what_is_saved(kernel, name):
    kernel.run(f"%%prompt {name} --model echo --param temperature=0.5 --save\nhi")
    assert f"differs from {name}/1" in kernel.run(f"%%prompt {name} --model echo\nhi").text
    assert "temperature=0.5" in kernel.run(f"%%prompt {name}/1 --model echo --dry-run").text


def test_an_empty_cell_asks_the_saved_prompt(kernel, name):
    save(kernel, name, "the first of {{ 1 }}", "the second of {{ 1 }}")
    kernel.run(f"%prompt alias {name} production 1")
    for address, text in ((name, "the second of 1"), (f"{name}/1", "the first of 1"), (f"prompts:/{name}@production", "the first of 1")):
        assert kernel.run(f"%%prompt {address} --model echo").text.startswith(text)


def test_the_list_shows_prompts_and_versions(kernel, name):
    save(kernel, name, "one", "two")
    kernel.run(f"%prompt alias {name} production 1")
    (line,) = [line for line in kernel.run("%prompt list").text.splitlines() if line.startswith(name)]
    assert line.split()[1:5] == ["2", "@production", "→", "1"]
    lines = kernel.run(f"%prompt list {name}").text.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["2", "1"]
    assert "@production" in lines[1]
    assert "<td" in kernel.run("%prompt list").html


def test_show_diff_alias_rollback_and_history(kernel, name):
    save(kernel, name, "Sort this <b>ticket</b>", "Route this <b>ticket</b>")
    shown = kernel.run(f"%prompt show {name}/1")
    assert "Sort this <b>ticket</b>" in shown.text
    assert "<b>" not in shown.html
    for line in (f"%prompt diff {name}", f"%llmops_prompt diff {name}/1 {name}/2"):
        assert "[-Sort-]{+Route+}" in kernel.run(line).text
    said = [kernel.run(f"%prompt alias {name} live {version}").text for version in ("1", "2")]
    assert said == [f"{name}@live is {name}/1 now", f"{name}@live is {name}/2 now"]
    assert kernel.run(f"%prompt rollback {name} live").text == f"{name}@live is back at {name}/1"
    assert kernel.value(f"__import__('llmops_lab').prompts.get('{name}@live').version") == 1
    moves = kernel.run(f"%prompt history {name} live").text.splitlines()[1:]
    assert len(moves) == 3
    assert moves[2].endswith("rollback")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%prompt show {name}/7", "Known: 1"),
        ("%prompt alias {name} latest 1", "already means a version"),
        ("%prompt rollback {name} never", "no earlier version"),
        ("%prompt diff {name}", "first version"),
        ("%prompt forget nobody", "no thread called 'nobody'"),
        ("%prompt list nosuch", "no prompt called 'nosuch'"),
        ("%prompt shwo {name}", "Did you mean show"),
        ("%%prompt 'not a name' --save\nx", "cannot name a prompt"),
    ],
)
def test_what_is_not_there_is_named(kernel, name, line, words):
    save(kernel, name, "one")
    found, (text,) = kernel.run(line.format(name=name)).error
    assert found in ("BadInput", "UnknownName")
    assert words in text


def test_help_of_the_commands(kernel):
    for line in ("%prompt -h", "%prompt --help"):
        ran = kernel.run(line)
        assert ran.status == "ok"
        assert all(command in ran.printed for command in ("list", "show", "diff", "alias", "rollback", "history", "forget"))
    assert "NAME@ALIAS" in kernel.run("%prompt show --help").printed


# -- loading ---------------------------------------------------------------------------------------------------------------
def test_unloading_leaves_the_shell_as_it_was():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.register_magic_function(lambda line: "the user's own", "line", "lab")

    def state():
        magics = {kind: dict(found) for kind, found in shell.magics_manager.magics.items()}
        hooks = [list(shell.input_transformers_cleanup), list(shell.configurables), list(shell.Completer.custom_matchers)]
        return magics, set(shell.magics_manager.registry), hooks

    shell.find_magic("load_ext")  # IPython loads its own magics at their first use
    before = state()
    for _ in range(2):
        shell.run_line_magic("load_ext", "llmops_lab")
        assert {"prompt", "llmops_prompt", "grid"} <= set(shell.magics_manager.magics["cell"])
        assert "InteractiveShell" not in str(shell.magics_manager.magics["line"]["lab"])
        shell.run_line_magic("unload_ext", "llmops_lab")
        assert state() == before
    assert shell.run_line_magic("lab", "") == "the user's own"


def test_loading_twice_and_reloading_change_nothing(kernel):
    kernel.run("%load_ext llmops_lab\n%reload_ext llmops_lab")
    assert kernel.run("%%prompt --model echo --no-track\nstill here").text.startswith("still here")
    assert (
        kernel.value("len([each for each in get_ipython().input_transformers_cleanup if getattr(each, '__name__', '') == 'give_body'])")
        == 1
    )


# -- MLflow away -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def away(tmp_path_factory):
    """A kernel whose tracking server is a port where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    made = Kernel(tmp_path_factory.mktemp("away"), MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}").start()
    yield made
    made.stop()


def pending(kernel):
    kernel.run("from llmops_lab import settings\nfrom llmops_lab.store.ledger import open_ledger")
    kernel.run("box = open_ledger(settings.load()).outbox_pending()")
    return json.loads(kernel.value("__import__('json').dumps([[kind, payload] for _, kind, payload in box])"))


def test_without_mlflow_the_answer_comes_and_its_trace_waits(away):
    away.run("%%prompt --model echo --no-track\nwarm up")
    before = time.monotonic()
    ran = away.run("%%prompt waiting --model echo --out a\nhello there")
    assert time.monotonic() - before < 10  # far above the two seconds of the design: nothing here is timed, it must only not hang
    assert ran.text.startswith("hello there\n")
    assert "not in MLflow yet" in ran.text
    assert away.value("[a.run_id, a.trace_id[:3]]") == [None, "tr-"]
    kind, payload = pending(away)[-1]
    assert (kind, payload["name"], payload["output"]) == ("ask", "waiting", "hello there")


def test_without_mlflow_saving_is_refused_before_anything_is_sent(away):
    away.run("import llmops_lab as lab\nbefore = len(lab.load('asks').records())")
    name, (line,) = away.run("%%prompt qa --model echo --save\nhello").error
    assert name == "Unreachable"
    assert "does not answer" in line
    assert away.value("len(lab.load('asks').records()) == before")


def test_what_waited_is_delivered_once_mlflow_is_back(away, tmp_path):
    away.run("%%prompt later --model echo --out a\nhello again")
    assert pending(away) != []
    away.run(f"import os\nos.environ['MLFLOW_TRACKING_URI'] = 'sqlite:///{tmp_path}/mlflow.db'")
    away.run("%%prompt --model echo --out b\nand now")
    assert pending(away) == []
    away.run("import mlflow\nstates = [mlflow.get_trace(each.trace_id).info.state.value for each in (a, b)]")
    assert away.value("states") == ["OK", "OK"]
    assert away.value("b.run_id is not None")


class Silent(http.server.BaseHTTPRequestHandler):
    """Says that it is well, and answers nothing else."""

    def do_GET(self):
        if not self.path.endswith("/health"):
            time.sleep(15)
        self.send_response(200)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def silent(tmp_path):
    """A kernel whose tracking server is there and silent."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = Kernel(tmp_path, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{server.server_port}").start()
    yield made
    made.stop()
    server.shutdown()


def test_a_silent_mlflow_holds_nobody_up_and_an_interrupt_then_loses_nothing(silent):
    ran = silent.run("%%prompt --model echo --out a\nfirst")
    assert "not in MLflow yet" in ran.text
    stop = threading.Event()

    def seen(kind, content):
        if "[writing the trace]" in content.get("data", {}).get("text/plain", "") and not stop.is_set():
            stop.set()
            silent.manager.interrupt_kernel()

    ran = silent.run("%%prompt --model echo --out b\nsecond", on_message=seen)
    name, (line,) = ran.error
    assert (name, "on record" in line) == ("Cancelled", True)
    assert ran.outputs[0]["data"]["text/plain"].startswith("second\n")
    assert "paid" not in str(ran.outputs)
    silent.run("import llmops_lab as lab\nasks = lab.load('asks')")
    assert silent.value("[each['text'] for each in asks.records()]") == ["first", "second"]
    assert silent.value("asks.maybe_paid_twice") == []
    assert [payload["output"] for _, payload in pending(silent)] == ["first", "second"]


def test_a_dry_run_saves_nothing(kernel, name):
    assert "nothing was sent" in kernel.run(f"%%prompt {name} --save --dry-run\nhello").text
    assert kernel.run(f"%prompt list {name}").error[0] == "UnknownName"
