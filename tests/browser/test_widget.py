"""What every live view is given in a notebook: its calls are served beside a busy cell, its keys stay in it, a dead kernel is no secret."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

FRONT = Path(__file__).parents[2] / "labextension"
VIEW = """
import os, pathlib, threading
import llmops_lab.widgets as widgets
from llmops_lab.api.shown import show
from llmops_lab.api.views._view import Answer
from llmops_lab.errors import BadInput, UnknownName
widgets.STATIC = pathlib.Path({static!r})
go = threading.Event()

class Probe:
    name = "probe"
    push = None
    called = []

    def call(self, method, params, *, user):
        self.called.append(method)
        if method == "echo":
            return Answer({{"user": user, **params}}, (bytes(3), bytes(5)))
        if method == "refuse":
            raise BadInput("this is refused.")
        if method == "break":
            raise ZeroDivisionError("a fault of ours, with sk-proj-abcdefghijklmnopqrstuvwx in it")
        if method == "burst":
            for number in range(20):
                self.push({{"number": number}})
            go.set()
            return Answer({{}})
        raise UnknownName("method", method, ["echo"])

    def listen(self, push):
        self.push = push
        return lambda: setattr(self, "push", None)

    def page(self):
        return "a probe", "<p>a probe as HTML</p>"
"""
SECOND_CELL = """source => {
    window.panel.content.model.sharedModel.insertCell(1, {cell_type: 'code', source, metadata: {}});
    window.panel.content.activeCellIndex = 1;
    window.ran = false;
    window.jupyterapp.commands.execute('notebook:run-cell').then(() => { window.ran = true; });
}"""
# A page that is slow, or a kernel: the subshell for widgets is there only after 3 s. What is sent before waits for the cell's end.
LATE_SUBSHELL = """async () => {
    const kernel = window.panel.sessionContext.session.kernel, create = kernel.requestCreateSubshell.bind(kernel);
    await kernel.restart();
    await kernel.info;
    kernel.requestCreateSubshell = content => ({done: new Promise(done => setTimeout(done, 3000)).then(() => create(content).done)});
}"""
CELLS = "() => window.panel.content.widgets.map(cell => cell.model.type)"


@pytest.fixture(scope="module")
def probe(lab, tmp_path_factory):
    """The notebook with the probe's Python side defined, and its bundle built."""
    if not shutil.which("node") or not (FRONT / "node_modules").is_dir():
        pytest.skip("the front end's tools are not there: install node and type make front")
    static = tmp_path_factory.mktemp("static")
    subprocess.run(["node", "build.mjs", "probe", f"--out={static}"], cwd=FRONT, check=True, timeout=120)
    lab.define = VIEW.format(static=str(static))
    assert lab.run(lab.define) == []
    return lab


def ask(lab, method):
    """Press the button that calls this method; what the view was told."""
    lab.page.get_by_role("button", name=method).click()
    lab.page.wait_for_function("() => !['', 'asked'].includes(document.querySelector('.probe-told').textContent)")
    return lab.page.locator(".probe-told").text_content()


def test_calls_are_answered_also_while_a_cell_runs(probe):
    probe.run("view = Probe(); show(view)")
    # The cell runs before the view has asked anything, sends events from its own thread, and ends when a call of the view lets it.
    probe.page.evaluate(SECOND_CELL, "display('busy')\nwhile not go.wait(0.2): view.push and view.push({'cell': 1})\nprint('let go')")
    probe.page.wait_for_function("() => window.panel.content.widgets[1].model.outputs.length > 0")
    answer = json.loads(ask(probe, "echo"))
    assert (answer["size"], answer["bytes"], bool(answer["user"])) == (3, [3, 5], True)
    events = probe.page.locator(".probe-events")
    probe.page.wait_for_function("() => Number(document.querySelector('.probe-events').textContent) > 1")
    assert json.loads(ask(probe, "echo"))["size"] == 3
    assert ask(probe, "refuse") == "Refused: this is refused."
    assert ask(probe, "break") == "Refused: ZeroDivisionError: a fault of ours, with [redacted] in it"
    assert "Known: echo" in ask(probe, "missing")
    assert json.loads(ask(probe, "burst"))["bytes"] == []
    assert probe.finished() != []
    assert probe.outputs(1)[-1]["text"] == "let go\n"
    assert int(events.text_content()) > 20
    assert probe.outputs(0)[0]["metadata"] == {"llmops_lab": {"view": "probe"}}
    assert (probe.complaints, probe.elsewhere, probe.dialogs) == ([], [], [])


def test_what_was_asked_before_the_kernel_could_answer_beside_a_cell_is_answered_there_and_once(probe):
    probe.page.evaluate(LATE_SUBSHELL)
    probe.run(probe.define)
    probe.start("show(Probe())\nstarted = go.wait(60)")
    assert json.loads(ask(probe, "echo"))["size"] == 3
    assert probe.page.evaluate("() => window.ran") is False
    assert json.loads(ask(probe, "burst"))["bytes"] == []
    probe.finished()
    assert probe.value("[started, Probe.called]") == [True, ["echo", "burst"]]
    assert (probe.complaints, probe.elsewhere, probe.dialogs) == ([], [], [])


def test_keys_typed_in_a_view_do_not_reach_the_notebook_and_the_notebook_can_be_saved(probe):
    probe.run("show(Probe())")
    before = probe.page.evaluate(CELLS)
    for place in (".probe", ".probe button", ".probe input"):
        probe.page.locator(place).first.focus()
        for key in "abjkmyrxczdd":
            probe.page.keyboard.press(key)
        probe.page.keyboard.press("Shift+M")
        assert probe.page.evaluate(CELLS) == before, place
        assert probe.page.locator(place).first.evaluate("element => element === document.activeElement"), place
    assert probe.page.locator(".probe input").input_value() == "abjkmyrxczddM"
    probe.page.locator(".probe button").first.focus()
    assert probe.page.evaluate("() => window.panel.context.model.dirty")
    probe.page.keyboard.press("Control+s")
    probe.page.wait_for_function("() => !window.panel.context.model.dirty")


def test_a_view_whose_kernel_was_killed_says_so(probe):
    probe.run("show(Probe())")
    assert json.loads(ask(probe, "echo"))["size"] == 3
    os.kill(probe.value("os.getpid()"), signal.SIGKILL)
    probe.page.get_by_text("Not live: the kernel of this view has ended").wait_for()
    probe.page.locator(".jp-Dialog").get_by_role("button", name="Ok").click()  # JupyterLab's own word about the kernel
    assert "Unreachable" in ask(probe, "echo")
