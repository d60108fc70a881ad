"""Eight processes meet on an empty store at the same moment: each makes the schema or finds it, writes, and reads back."""

import subprocess
import sys

import pytest

from llmops_lab.store import care
from llmops_lab.store._dialect import dialect_for
from llmops_lab.store.ledger import Ledger
from tests.faults.conftest import ROOT, environment, full
from tests.postgres import PostgresServer, Unavailable

PROCESSES = 8
ROUNDS = full(3, 20)

# Everything is imported before the start sign, so that all of them open the store within a moment.
GRID = """
import sys
import llmops_lab as lab
import llmops_lab.api.calls, llmops_lab.api.grid, llmops_lab.flows.run_grid, llmops_lab.models.echo, llmops_lab.scorers.exact, sqlite3
from llmops_lab.store import ledger
name = sys.argv[1]
rows = [{"id": f"{name}-{number}", "q": f"{name} {number}"} for number in range(5)]
print("ready", flush=True)
sys.stdin.read()
grid = lab.grid({"p": "{{ q }}"}, rows, models=["echo"], scorers=["exact"], expected="q", name=name, track=False)
assert (grid.state, grid.calls, [cell["exact"] for cell in grid.records()]) == ("done", 5, [True] * 5), grid.records()
print("done", flush=True)
"""


def start_all(home, **variables):
    """Start eight processes on an empty store at once; how each ended: its last line or its traceback."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", GRID, f"n{number}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment(home, **variables),
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    for child in children:
        child.stdout.readline()
    for child in children:
        child.stdin.close()  # the start sign
        child.stdin = None
    ends = [child.communicate(timeout=120) for child in children]
    return [out.strip() or errors for out, errors in ends]


def all_is_there(place):
    ledger = Ledger(dialect_for(place))
    try:
        names = sorted(grid["name"] for grid in ledger.grids(50) if grid["state"] == "done")
        assert names == [f"n{number}" for number in range(PROCESSES)]
        assert sum(cell.outcome is not None for grid in ledger.grids(50) for cell in ledger.cells(grid["grid"])) == 5 * PROCESSES
        assert care.check(ledger).sound and care.check(ledger).doubts == 0
    finally:
        ledger.close()


def test_eight_processes_start_on_an_empty_folder(tmp_path):
    for number in range(ROUNDS):
        home = tmp_path / str(number)
        assert start_all(home) == ["done"] * PROCESSES
        all_is_there(str(home / "lab.db"))


def test_eight_processes_start_on_an_empty_postgresql_database(tmp_path):
    try:
        with PostgresServer() as server:
            for number in range(ROUNDS):
                url = server.database()
                assert start_all(tmp_path / str(number), LLMOPS_LAB_LEDGER=url) == ["done"] * PROCESSES
                all_is_there(url)
    except Unavailable as reason:
        pytest.skip(str(reason))
