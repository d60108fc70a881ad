"""kill -9 at random points of a big grid, then the same call again in a new process: nothing lost, nothing recorded is bought twice.

The judge is the server's own log of what it was asked. What kill -9 cannot test is a power cut: the page cache survives it.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.faults.conftest import environment, full

CALLS, KILLS, IN_FLIGHT = full(600, 10_000), full(4, 50), 16
CHILD = """
import json, os, sys
import llmops_lab as lab

def told(progress):
    os.write(1, f"{progress.ok} {progress.reused}\\n".encode())

if __name__ == "__main__":
    url, calls, in_flight = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rows = [{"id": str(number), "question": f"question {number}"} for number in range(calls)]
    grid = lab.grid(
        {"plain": "{{ question }}"}, rows, models=[f"openai:m@{url}"], scorers=["exact"], expected="question",
        concurrency=in_flight, track=False, progress=told,
    )
    with open("end.json", "w") as file:
        cells = [[each["row_id"], each["status"], each["text"], each["exact"], each["key"]] for each in grid.records()]
        json.dump({"state": grid.state, "cells": cells, "doubted": grid.maybe_paid_twice}, file)
"""


class Child:
    """One process that runs the whole grid, or as much of it as it is given time for."""

    def __init__(self, folder, url):
        (folder / "child.py").write_text(CHILD)
        self._told = open(folder / "told.txt", "w+b")
        self._process = subprocess.Popen(
            [sys.executable, "child.py", url, str(CALLS), str(IN_FLIGHT)],
            cwd=folder,
            env=environment(folder / "home"),
            stdout=self._told,
            start_new_session=True,
        )

    def ended(self):
        return self._process.poll() is not None

    def kill(self):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, seconds):
        return self._process.wait(seconds)

    def most_told(self):
        """The highest number of answered cells that it had shown to its user, and how many of them were there before."""
        self._told.seek(0)
        lines = [line.split() for line in self._told.read().split(b"\n")[:-1]]
        return max(((int(ok), int(reused)) for ok, reused in lines), default=(0, 0))


def recorded(ledger):
    """The row ids with a good reply on disk, after an integrity check; fails when one was recorded twice."""
    connection = sqlite3.connect(ledger)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT row_id FROM replies WHERE status = 'ok'").fetchall()
    finally:
        connection.close()
    ids = [row for (row,) in rows]
    assert len(ids) == len(set(ids)), "a reply is on record twice"
    return set(ids)


def fate(random, calls_left, kills_left):
    """When the next process dies: after so many calls, or (one in eight) so many seconds after its start, if that comes first."""
    seconds = random.uniform(0.0, 2.0) if random.random() < 0.125 else None
    return random.randint(1, max(1, 2 * calls_left // (kills_left + 2))), seconds


def await_fate(child, server, offset, calls, seconds, pause):
    began = time.monotonic()
    while not child.ended() and time.monotonic() - began < 120:
        if seconds is not None and time.monotonic() - began >= seconds:
            return
        if len(server.asked(offset)[0]) >= calls:
            time.sleep(pause)
            return
        time.sleep(0.002)


@pytest.mark.timeout(full(120, 1500))
def test_what_is_recorded_is_never_bought_again_and_nothing_is_lost(tmp_path, logged_server, seeded, record_property):
    random, seed = seeded
    server = logged_server("--latency-ms", "20")
    ledger, known, offset, kills, doubles = tmp_path / "home" / "lab.db", set(), 0, 0, []
    while kills < KILLS:
        child = Child(tmp_path, server.url)
        await_fate(child, server, offset, *fate(random, CALLS - len(known), KILLS - kills), pause=random.uniform(0, 0.03))
        assert not child.ended(), f"it was to be killed before its end ({seed})"
        child.kill()
        kills += 1
        asked, offset = server.settled(offset)
        again = {text.removeprefix("question ") for text in asked} & known
        assert not again, f"recorded, and sent again: {sorted(again)} ({seed})"
        before, known = known, recorded(ledger) if ledger.exists() else set()
        assert before <= known, f"lost: {sorted(before - known)} ({seed})"
        shown, reused = child.most_told()
        assert reused in (0, len(before)) and shown <= len(known), f"shown but not on disk: {shown} > {len(known)} ({seed})"
        unrecorded = {text.removeprefix("question ") for text in asked} - known
        assert len(unrecorded) <= IN_FLIGHT, f"one kill cost {len(unrecorded)} replies ({seed})"
        doubles.append(len(unrecorded))
    last = Child(tmp_path, server.url)
    assert last.wait(full(60, 600)) == 0, seed
    asked, _ = server.settled(offset)
    assert not {text.removeprefix("question ") for text in asked} & known, seed
    assert len(recorded(ledger)) == CALLS, seed

    end = json.loads((tmp_path / "end.json").read_text())
    assert end["state"] == "done" and [cell[:4] for cell in end["cells"]] == [
        [str(number), "ok", f"question {number}", True] for number in range(CALLS)
    ], seed
    everything, _ = server.asked()
    counts = {}
    for text in everything:
        counts[text] = counts.get(text, 0) + 1
    keys = {f"question {cell[0]}": cell[4] for cell in end["cells"]}
    twice = {keys[text] for text, count in counts.items() if count > 1}
    assert len(counts) == CALLS and len(everything) - CALLS <= IN_FLIGHT * KILLS, seed
    assert twice <= set(end["doubted"]), f"paid twice and not named: {twice - set(end['doubted'])} ({seed})"
    # Named too much is allowed: what was claimed ahead of need, at most two windows a kill.
    assert len(end["doubted"]) <= KILLS * 5 * IN_FLIGHT, seed
    figures = {"kills": KILLS, "calls": CALLS, "duplicates": len(everything) - CALLS, "most_a_kill": max(doubles)}
    figures |= {"paid_twice": len(twice), "named": len(end["doubted"])}
    record_property("figures", figures)
    print(f"kill -9: {figures}")
