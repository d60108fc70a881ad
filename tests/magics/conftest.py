"""A real kernel for each module of tests, started once, with a ledger and an MLflow store of its own."""

import os
import queue
import time
from dataclasses import dataclass, field

import pytest
from jupyter_client.manager import KernelManager

from tests.servers import ModelServer

DISPLAYS = ("display_data", "execute_result")


@dataclass
class Ran:
    """What one cell did: its messages as they came, and how they look in a saved notebook."""

    status: str = ""
    messages: list = field(default_factory=list)

    @property
    def outputs(self):
        """The cell's outputs after all updates: what a notebook would keep."""
        kept = []
        for _, kind, content in self.messages:
            handle = (content.get("transient") or {}).get("display_id")
            if kind == "update_display_data":
                for output in kept:
                    if output["handle"] == handle:
                        output.update(data=content["data"], metadata=content["metadata"])
            elif kind in DISPLAYS:
                kept.append({"kind": kind, "data": content["data"], "metadata": content["metadata"], "handle": handle})
            elif kind in ("stream", "error"):
                kept.append({"kind": kind, "handle": None, **content})
        return kept

    @property
    def text(self):
        """The plain text of the only display."""
        return self.only["data"]["text/plain"]

    @property
    def html(self):
        return self.only["data"]["text/html"]

    @property
    def only(self):
        (output,) = self.outputs
        assert output["kind"] in DISPLAYS, output
        return output

    @property
    def error(self):
        """(name, traceback) of the error output."""
        (found,) = [output for output in self.outputs if output["kind"] == "error"]
        return found["ename"], found["traceback"]

    @property
    def printed(self):
        return "".join(output["text"] for output in self.outputs if output["kind"] == "stream")


class Kernel:
    """A kernel as a frontend has it. ``live=False`` runs a cell as nbclient, papermill and nbval do."""

    def __init__(self, folder, **environment):
        self.folder, self.environment = folder, environment

    def start(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "LLMOPS_LAB_"))}
        environment |= {"LLMOPS_LAB_HOME": str(self.folder / "home"), "OMP_NUM_THREADS": "1", **self.environment}
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=environment, cwd=str(self.folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        assert self.run("%load_ext llmops_lab").status == "ok"
        return self

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code, *, live=True, timeout=90, on_message=None):
        """Run a cell to its end."""
        ran, sent = Ran(), self.client.execute(code, allow_stdin=live)
        deadline, idle = time.monotonic() + timeout, False
        while not (idle and ran.status):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{code!r} did not end: {ran}")
            if not idle:
                idle = self._listen(ran, sent, on_message)
            if idle:
                reply = self.client.get_shell_msg(timeout=timeout)
                if reply["parent_header"].get("msg_id") == sent:
                    ran.status = reply["content"]["status"]
        return ran

    def _listen(self, ran, sent, on_message):
        try:
            message = self.client.get_iopub_msg(timeout=1)
        except queue.Empty:
            return False
        if message["parent_header"].get("msg_id") != sent:
            return False
        kind, content = message["msg_type"], message["content"]
        if kind in (*DISPLAYS, "update_display_data", "stream", "error"):
            ran.messages.append((time.monotonic(), kind, content))
            if on_message is not None:
                on_message(kind, content)
        return kind == "status" and content["execution_state"] == "idle"

    def value(self, expression):
        """The value of an expression in the kernel, of plain data."""
        ran = self.run(f"import json as _json\nprint(_json.dumps({expression}))")
        assert ran.status == "ok", ran.error
        import json

        return json.loads(ran.printed)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    made = Kernel(tmp_path_factory.mktemp("kernel")).start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server():
    with ModelServer() as made:
        yield made


@pytest.fixture(autouse=True)
def _clean_server(request):
    if "server" in request.fixturenames:
        request.getfixturevalue("server").clear()
