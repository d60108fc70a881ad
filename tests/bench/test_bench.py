"""Each bench runs, at a tiny size, and prints its rows. What they measure is for ``make bench``: nothing is timed here."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import NAMES
from tests.bench.rows import Row, ratio, table

BENCH = Path(__file__).parent


def test_every_bench_is_in_the_list():
    found = {path.stem for path in BENCH.glob("*.py") if "def measure(" in path.read_text("utf-8")} - {Path(__file__).stem}
    assert found == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_bench_prints_its_rows_and_the_machine(name):
    command = [sys.executable, "-m", "tests.bench", "--small", "--only", name]
    done = subprocess.run(command, cwd=BENCH.parent.parent, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    machine, head, _, *rows, load = done.stdout.splitlines()
    assert "cores" in machine and "Python 3" in machine and "load average" in load
    assert [column.strip() for column in head.strip("|").split("|")] == ["what", "measured", "at most", "verdict", "from"]
    verdicts = [row.split("|")[4].strip() for row in rows]
    assert rows and set(verdicts) <= {"met", "missed", "not there"}
    assert importlib.import_module(f"tests.bench.{name}").REPEATS >= 1


def test_a_row_says_whether_its_bound_holds():
    assert [Row("a", value, "x", at_most=2.0).verdict for value in (1.9, 2.0, 2.1, None)] == ["met", "met", "missed", "not there"]
    assert [Row("a", value, "x", at_least=4.0).verdict for value in (3.9, 4.0)] == ["missed", "met"]
    assert table([Row("a", 2.5, "x", at_most=2.0)]).splitlines()[-1].split("|")[2:5] == [" 2.5 x    ", " 2 x     ", " missed  "]


def test_the_ratio_is_taken_inside_each_round():
    assert ratio([2.0, 20.0, 8.0], [1.0, 10.0, 2.0]) == 2.0
