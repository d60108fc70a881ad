"""CPU that ``%load_ext llmops_lab`` adds to a real, fresh IPython kernel."""

from __future__ import annotations

import sys
import tempfile
from statistics import median
from typing import Any

from tests.bench.processes import environment
from tests.bench.rows import Row, middle

REPEATS = 7
WHAT = "CPU of %load_ext llmops_lab over a bare kernel"


def measure(*, repeats: int, small: bool) -> list[Row]:
    over = []
    for round_ in range(-1, repeats):
        cost = _one_kernel()
        if cost is None:
            return [Row(WHAT, None, "s", at_most=0.3, note="no %%prompt or %%grid after it")]
        if round_ >= 0:
            over.append(cost)
    return [Row(WHAT, median(over), "s", at_most=0.3, note=middle(over, "s"))]


def _one_kernel() -> float | None:
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    with tempfile.TemporaryDirectory() as folder:
        manager.start_kernel(env=environment(), cwd=folder)
        client = manager.client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=60)
            _value(client, "__import__('sys').executable")
            assert manager.kernel_spec.argv[0] in (sys.executable, "python"), manager.kernel_spec.argv
            before = float(_value(client, "__import__('time').process_time()") or "nan")
            _value(client, "get_ipython().run_line_magic('load_ext', 'llmops_lab')")
            after = float(_value(client, "__import__('time').process_time()") or "nan")
            there = _value(client, "{'prompt', 'grid'} <= get_ipython().magics_manager.magics['cell'].keys()") == "True"
            return after - before if there else None
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def _value(client: Any, expression: str) -> str | None:
    """An expression's value as text, None when it raised."""
    answer = client.execute("", user_expressions={"value": expression}, reply=True, timeout=60)
    found = answer["content"]["user_expressions"]["value"]
    return str(found["data"]["text/plain"]) if found["status"] == "ok" else None
