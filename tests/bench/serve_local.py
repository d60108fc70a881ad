"""The local server against ``transformers serve --continuous-batching`` on the embedded model, at 1, 8 and 32 clients."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmops_lab.models.tiny import FOLDER
from tests.bench.processes import environment, script, served
from tests.bench.rows import Row, middle, ratio
from tests.local_server import free_port, wait_for

REPEATS = 3
CLIENTS = (1, 8, 32)
_START_S = 120


def measure(*, repeats: int, small: bool) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder, _transformers(Path(folder, "theirs"), small=small) as theirs:
        home = Path(folder)
        with served("tiny", home / "ours") as ours:
            for clients in (1,) if small else CLIENTS:
                requests = 4 if small else 100 + 10 * clients
                rates: tuple[list[float], list[float]] = ([], [])
                for _ in range(repeats):
                    rates[0].append(script("chat_clients", ours, "tiny", clients, requests, home=home).told["rate"])
                    rates[1].append(script("chat_clients", theirs, FOLDER, clients, requests, home=home).told["rate"])
                what = f"local server on the embedded model, {clients} clients, requests/s against transformers serve --continuous-batching"
                rows.append(Row(what, ratio(*rates), "x", at_least=1.5, note=f"{middle(rates[0], '/s')} / {middle(rates[1], '/s')}"))
    return rows


@contextmanager
def _transformers(home: Path, *, small: bool) -> Iterator[str]:
    home.mkdir()
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(FOLDER), "--device", "cpu", "--port", str(port)]
    if small:
        command += ["--cb-num-blocks", "64", "--cb-max-batch-tokens", "256"]  # what it chooses by itself takes it 40 s to make
    offline = environment(home) | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home)}
    with (home / "log.txt").open("w+") as log:
        process = subprocess.Popen([*command, "--continuous-batching"], stdout=log, stderr=log, env=offline, cwd=home)
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process, home / "log.txt", _START_S)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait()
