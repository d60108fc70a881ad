"""Print the speed and memory table: ``python -m tests.bench [--only NAME] [--repeats N] [--small]``.

Every row is a ratio (or a bound) of medians taken in turns inside one run, so that a busy machine slows both sides alike.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from tests.bench import processes
from tests.bench.rows import table

NAMES = (
    *("grid_cpu", "grid_wall", "marginal_cpu", "mlflow_log", "package_import", "extension"),
    *("reopen", "large_grid", "local_batch", "bundle_size", "rating_key", "grid_page", "grid_browser"),
    *("serve_upstream", "serve_local"),
    *("lora_step", "finetune", "job_cpu", "job_warm"),
)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME", action="append", choices=NAMES, help=f"this row alone; known: {', '.join(NAMES)}")
    parser.add_argument("--repeats", type=int, help="rounds of each row (each has a number of its own)")
    parser.add_argument("--small", action="store_true", help="tiny sizes, one round: shows that it runs, measures nothing")
    options = parser.parse_args(arguments)
    print(processes.machine(), flush=True)
    rows = []
    for name in options.only or NAMES:
        bench = importlib.import_module(f"tests.bench.{name}")
        print(f"{name}: {bench.__doc__.splitlines()[0]}", file=sys.stderr, flush=True)
        rows += bench.measure(repeats=options.repeats or (1 if options.small else bench.REPEATS), small=options.small)
    print(table(rows))
    print(f"load average at the end: {processes.load()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
