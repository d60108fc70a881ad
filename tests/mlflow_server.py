"""A real ``mlflow server`` that can be killed and started again on the same store."""

import contextlib
import os
import signal
import subprocess
import sys
import time

from llmops_lab.settings import Settings
from llmops_lab.track import connect
from tests.local_server import free_port

QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "OMP_NUM_THREADS": "1",
}


class MlflowServer:
    """A server on ``mlflow.db`` in ``folder``, at the same ``url`` after each start."""

    def __init__(self, folder):
        self._folder, self._process = folder, None
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    @property
    def runs(self):
        return self._process is not None

    def start(self):
        stores = ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db", "--artifacts-destination", f"{self._folder}/artifacts"]
        command = ["server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1", *stores]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMOPS_LAB_", "MLFLOW_", "OPENAI_"))}
        with open(self._folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *command],
                env=kept | QUIET,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        until = time.monotonic() + 180
        while not connect.reachable(Settings(tracking_uri=self.url), 1.0):
            assert time.monotonic() < until and self._process.poll() is None, (self._folder / "server.log").read_text()
            time.sleep(0.1)

    def kill(self):
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
