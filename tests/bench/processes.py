"""The machine, the server and the measured processes. A measured process is a fresh one; what it cost is what the system says."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHILDREN = Path(__file__).parent / "children"
_SERVER = Path(__file__).parent.parent / "servers.py"


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a whole process with its children, and the JSON object that it printed last."""

    cpu: float
    told: Mapping[str, Any]


def environment(home: Path | None = None) -> dict[str, str]:
    """Bytecode is kept, one thread for numeric code, no tracking server, and a ledger of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMOPS_LAB_", "MLFLOW_", "PYTHONDONTWRITE"))}
    kept |= {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return kept | ({"LLMOPS_LAB_HOME": str(home)} if home else {})


def run(arguments: list[str], home: Path) -> Cost:
    """Run ``python ARGUMENTS`` to its end, in ``home``. Raises RuntimeError with what it said when it failed."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "errors.txt").open("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=errors, env=environment(home), cwd=home, text=True
        )
        assert child.stdout is not None
        said = child.stdout.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        child.stdout.close()
        if child.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(arguments)} ended with {child.returncode}:\n{said}{errors.read()}")
    lines = said.splitlines()
    return Cost(used.ru_utime + used.ru_stime, json.loads(lines[-1]) if lines else {})


def script(name: str, *arguments: object, home: Path) -> Cost:
    """Run one of the scripts in ``children``."""
    return run([str(CHILDREN / f"{name}.py"), *map(str, arguments)], home)


@contextmanager
def server(latency_ms: float, log: Path | None = None) -> Iterator[str]:
    """The test server in a process of its own, so that its CPU is nobody's; gives its base URL."""
    command = [sys.executable, str(_SERVER), "--latency-ms", str(latency_ms), *(["--log", str(log)] if log else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def served(name: str, home: Path) -> Iterator[str]:
    """``llmops-lab serve NAME`` in a process of its own; gives its base URL."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "llmops_lab.cli", "serve", name, "--port", "0"]
    with (home / "errors.txt").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment(home), cwd=home, text=True)
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def machine() -> str:
    """What the figures were taken on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB",
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}",
        f"load average {load()}",
    )
    return "; ".join(parts)


def load() -> str:
    """The load average of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
