"""Jobs submitted one after the other to a service that runs: CPU seconds a job, of every process that has a part in it."""

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
import llmops_lab as lab
from tests.jobs.queues import services
from tests.waiting import until

TICKS = os.sysconf("SC_CLK_TCK")


def fields(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def children(pid):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found += [int(entry.name)] if int(fields(entry.name)[1]) == pid else []
            except OSError:
                continue
    return found


def used(service, nursery):
    """Seconds of the service, of what jobs are forked from, and of all runners, kernels and guards that have ended; and of this process."""
    until(lambda: not children(nursery), why="a job's process is still there")
    until(lambda: children(service) == [nursery])
    ticks = sum(int(each) for each in fields(service)[11:13]) + sum(int(each) for each in fields(nursery)[11:15])
    return ticks / TICKS + time.process_time()


def main(notebook, home, number):
    for _ in range(2):
        lab.run(notebook, wait=True).check()
    [service] = services(home)
    [nursery] = children(service)
    time.sleep(3)  # what it imports when nobody waits
    before = used(service, nursery)
    took = []
    for _ in range(number):
        started = time.monotonic()
        lab.run(notebook, wait=True).check()
        took.append(time.monotonic() - started)
    print(json.dumps({"cpu": (used(service, nursery) - before) / number, "wall": sorted(took)[number // 2]}))
    os.kill(service, 15)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
