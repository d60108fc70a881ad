"""The server in front of an upstream that answers after 50 ms, against asking that upstream itself: time added, and throughput."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.bench.processes import script, served, server
from tests.bench.rows import Row, middle, ratio

REPEATS = 5
MANY = 32


def measure(*, repeats: int, small: bool) -> list[Row]:
    few, many = (4, 40) if small else (60, 1600)
    added, ours, bare = [], [], []
    with tempfile.TemporaryDirectory() as folder, server(50) as url:
        home, model = Path(folder), f"openai:m@{url}"
        with served(model, home / "server") as front:
            for _ in range(repeats):
                one = [script("chat_clients", *where, 1, few, home=home).told["p50"] for where in ((url, "m"), (front, model))]
                added.append(1000 * (one[1] - one[0]))
                bare.append(script("chat_clients", url, "m", MANY, many, home=home).told["rate"])
                ours.append(script("chat_clients", front, model, MANY, many, home=home).told["rate"])
    before = "server in front of a bare upstream with 50 ms latency"
    return [
        Row(f"{before}: added p50, one client", median(added), "ms", at_most=2.0, note=middle(added, "ms")),
        Row(
            f"{before}: requests/s at {MANY} clients",
            ratio(ours, bare),
            "x",
            at_least=0.85,
            note=f"{middle(ours, '/s')} / {middle(bare, '/s')}",
        ),
    ]
