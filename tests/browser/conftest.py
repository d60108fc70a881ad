"""JupyterLab as a person has it: a real server, a real Chromium, and a hand that types, clicks and looks.

``window.jupyterapp`` is JupyterLab's own object; only what no person needs to do by hand goes through it: opening a file, running a cell,
reading what a cell holds.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.queues import services
from tests.local_server import end, free_port, wait_for
from tests.servers import ModelServer

CHROMIUM = "/usr/bin/chromium"
NOTEBOOK = ".jp-NotebookPanel:not(.lm-mod-hidden)"

# A cell that is run before the kernel has answered is lost, and the indicator says "idle" before it has.
OPEN = """async ([path, usable]) => {
    const app = window.jupyterapp;
    const panel = await app.commands.execute('docmanager:open', {path, factory: 'Notebook', kernel: {name: 'python3'}});
    await panel.context.ready;
    if (usable) {
        await panel.sessionContext.ready;
        await panel.sessionContext.session.kernel.info;
        await panel.sessionContext.session.kernel.requestExecute({code: 'pass', silent: true}).done;
    }
    app.shell.activateById(panel.id);
    window.panel = panel;
}"""
ONLY_CELL = """code => {
    const book = window.panel.content, shared = book.model.sharedModel;
    shared.transact(() => {
        shared.deleteCellRange(0, shared.cells.length);
        shared.insertCell(0, {cell_type: 'code', source: code, metadata: {}});
    });
    book.activeCellIndex = 0;
    book.mode = 'command';
}"""
START = """() => { window.ran = false; window.jupyterapp.commands.execute('notebook:run-cell').then(() => { window.ran = true; }); }"""
OUTPUTS = "number => window.panel.content.widgets[number].model.outputs.toJSON()"


class Lab:
    """One browser tab with JupyterLab, and the notebook that is open in it."""

    def __init__(self, page, url, folder):
        self.page, self.url, self.folder = page, url, folder
        self.dialogs, self.elsewhere, self.complaints = [], [], []
        page.on("dialog", self._dialog)
        page.context.on("request", self._request)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _dialog(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _request(self, request):
        if not request.url.startswith((self.url, self.url.replace("http:", "ws:"), "data:", "blob:", "about:")):
            self.elsewhere.append(request.url)

    def forget(self):
        """Begin to watch anew."""
        for seen in (self.dialogs, self.elsewhere, self.complaints):
            seen.clear()

    def open(self, path, *, usable=True):
        """Open a notebook, and wait until its kernel answers if it is to be used and not only read."""
        self.page.evaluate(OPEN, [str(path), usable])

    def save(self):
        """Save the open notebook."""
        self.page.evaluate("() => window.panel.context.save()")

    def close(self):
        """Close the open notebook's tab; the working notebook is in front again."""
        self.page.evaluate("() => window.panel.dispose()")
        self.open("work.ipynb", usable=False)

    def scroll_to(self, number):
        """Bring a cell of the open notebook into view: what was never in view is not drawn."""
        self.page.evaluate("async number => { await window.panel.content.scrollToItem(number, 'start'); }", number)

    def type(self, code):
        """Make this code the notebook's only cell."""
        self.page.evaluate(ONLY_CELL, code)

    def start(self, code):
        """Run this code as the notebook's only cell, without waiting."""
        self.type(code)
        self.page.evaluate(START)

    def press(self, keys, then):
        """Click into the only cell, empty it, type these keys and then press this one."""
        self.type("")
        self.page.locator(f"{NOTEBOOK} .cm-content").first.click()
        self.page.keyboard.type(keys)
        self.page.keyboard.press(then)

    def theme(self, name):
        """Change the colours, by the menu's command."""
        self.page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        light = "true" if "Light" in name else "false"
        self.page.wait_for_function(f"() => document.body.dataset.jpThemeLight == '{light}'")

    def finished(self, timeout=60):
        """Wait for the end of the cell that was started; its outputs as the file would keep them."""
        self.page.wait_for_function("() => window.ran", timeout=1000 * timeout)
        return self.outputs()

    def run(self, code, timeout=60):
        """Run this code as the notebook's only cell, to its end."""
        self.start(code)
        return self.finished(timeout)

    def outputs(self, number=0):
        return self.page.evaluate(OUTPUTS, number)

    def command(self, name, **arguments):
        """Run a command of JupyterLab's menus."""
        self.page.evaluate("([name, given]) => window.jupyterapp.commands.execute(name, given)", [name, arguments])

    @property
    def shown(self):
        """The outputs as they stand on the page."""
        return self.page.locator(f"{NOTEBOOK} .jp-OutputArea-output")

    @property
    def text(self):
        """All that the outputs show, as a reader gets it."""
        return "\n".join(self.shown.all_inner_texts())

    def value(self, expression):
        """The value of an expression in the kernel, of plain data, without a trace in the notebook."""
        told = self.page.evaluate(
            """async code => {
                const told = [], future = window.panel.sessionContext.session.kernel.requestExecute({code, store_history: false});
                future.onIOPub = message => { if (message.header.msg_type == 'stream') told.push(message.content.text); };
                await future.done;
                return told.join('');
            }""",
            f"import json as _json; print(_json.dumps({expression}))",
        )
        return json.loads(told)


def write_notebook(path, *cells):
    """A notebook file with these code cells."""
    made = [
        {"cell_type": "code", "id": f"c{number}", "execution_count": None, "metadata": {}, "outputs": [], "source": code}
        for number, code in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path


@contextlib.contextmanager
def jupyterlab(folder):
    """A JupyterLab server of our own over ``folder / "work"``: its address, with the token."""
    port = free_port()
    work, token = folder / "work", secrets.token_hex(16)
    work.mkdir()
    news = folder / "settings" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')  # else it asks, over the page
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    own |= {f"JUPYTERLAB_{name}_DIR": str(folder / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "LLMOPS_LAB_", "JUPYTER"))}
    environment |= {**own, "LLMOPS_LAB_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    told = (folder / "jupyter.log").open("wb")
    options = ["--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    options += ["--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={work}"]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options], cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=told, stderr=told
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_for(f"{url}api/status?token={token}", server, folder / "jupyter.log")
        yield url, token
    finally:
        end(server)
        told.close()
        for service in services(folder / "home"):
            os.kill(service, signal.SIGTERM)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab in Chromium with an empty notebook. A module's end closes both: while playwright runs, no asyncio.run can."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}: it comes with Debian's package chromium")
    folder = tmp_path_factory.mktemp("lab")
    with jupyterlab(folder) as (url, token), playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(30_000)
        made = Lab(page, url, folder / "work")
        page.goto(f"{url}lab?token={token}&reset")
        page.wait_for_function("() => window.jupyterapp", timeout=60_000)
        page.evaluate("() => window.jupyterapp.restored")
        write_notebook(made.folder / "work.ipynb", "")
        made.open("work.ipynb")
        assert made.run("%load_ext llmops_lab") == []
        yield made
        browser.close()


@pytest.fixture(scope="module")
def server():
    with ModelServer() as made:
        yield made


@pytest.fixture(autouse=True)
def _watched(request):
    if "server" in request.fixturenames:
        request.getfixturevalue("server").clear()
    if "lab" in request.fixturenames:
        request.getfixturevalue("lab").forget()
