"""kill -9 in the middle of a tuning, then the same tuning again: it goes on from its last whole checkpoint to the very same adapter."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.faults.conftest import ROOT, environment, full

pytest.importorskip("trl")
KILLS = full(1, 12)
CHILD = """
import json, sys
from llmops_lab.flows import tune, tune_data

if __name__ == "__main__":
    sets = tune_data.read_sets("train.jsonl", validation="validation.jsonl", test="test.jsonl", leaked="keep")
    recipe = tune.recipe_for("tiny", method="lora", epochs=6, rank=4, patience=5, seed=3)
    tuned = tune.tune(tune.plan("tiny", sets, recipe), tell=lambda step, total: print(step.step, flush=True))
    losses = [[step.step, step.loss, step.validation] for step in tuned.trained.steps]
    print(json.dumps({"digest": tuned.digest, "from": tuned.trained.resumed_from, "losses": losses}))
"""


class Tuning:
    """One process that trains to the end, or as far as it is let."""

    def __init__(self, folder, home):
        self.work = home / "tuning"
        command = [sys.executable, str(folder / "child.py")]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment(home), stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def kill_at(self, step):
        """Let it train until it has told of this step, and then end it as the kernel's OOM killer would."""
        for line in self.process.stdout:
            if line.strip().isdigit() and int(line) >= step:
                break
        time.sleep(random.random() * 0.2)
        assert self.process.poll() is None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def end(self):
        said, _ = self.process.communicate(timeout=280)
        assert self.process.returncode == 0
        return json.loads(said.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sys.path.insert(0, str(ROOT))
    from tests.training import route

    folder = tmp_path_factory.mktemp("tuning")
    route.write(folder / "train.jsonl", route.rows(7, 32))
    for name in ("validation", "test"):
        route.write(folder / f"{name}.jsonl", route.rows(9, 8, fresh=True))
    (folder / "child.py").write_text(CHILD)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(folder):
    return Tuning(folder, folder / "home").end()


def test_a_killed_tuning_goes_on_to_the_same_adapter(folder, uninterrupted):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    assert uninterrupted["from"] == 0 and uninterrupted["losses"][-1][0] == 24
    for number in range(KILLS):
        home = folder / f"home{number}"
        tuning = Tuning(folder, home)
        tuning.kill_at(chance.randint(5, 20))
        sealed = sorted(int(path.parent.name.split("-")[1]) for path in tuning.work.glob("*/checkpoint-*/sealed.json"))
        if number % 2 == 0 and len(sealed) > 1:  # a checkpoint that was cut off in the writing is passed over
            newest = next(tuning.work.glob(f"*/checkpoint-{sealed.pop()}/optimizer.pt"))
            newest.write_bytes(newest.read_bytes()[:1000])
        again = Tuning(folder, home).end()
        assert again["from"] == sealed[-1] and again["digest"] == uninterrupted["digest"]
        assert again["losses"] == uninterrupted["losses"]
        assert not list((home / "tuning").glob("*/checkpoint-*"))  # what is done needs none
