"""A LoRA for the held-out task on the embedded model, and what it gained and forgot. ``tuned.py ROWS EPOCHS TEST GENERAL``."""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import accelerate
import datasets
import peft
import transformers
import trl

import llmops_lab as lab
from llmops_lab.flows import tune, tune_data, tune_rows
from tests.training import route

rows, epochs, tested, general = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
IMPORTED = [trl.SFTTrainer, peft.LoraConfig, transformers.AutoModelForCausalLM, datasets.Dataset, accelerate.Accelerator]
files = {
    "train": route.write("train.jsonl", route.rows(7, rows)),
    "replay": route.write("replay.jsonl", route.rows(8, rows, routed=False)),
    "validation": route.write("validation.jsonl", route.rows(9, 16, fresh=True)),
    "test": route.write("test.jsonl", route.rows(4099, tested, fresh=True)),
    "general": route.write("general.jsonl", route.rows(4098, general, fresh=True, routed=False)),
}
began = time.process_time()
sets = tune_data.read_sets(files.pop("train"), **files, leaked="keep")
planned = tune.plan("tiny", sets, tune.recipe_for("tiny", **route.RECIPE | {"epochs": epochs}))
expected = tune.estimate(planned)
tuned = tune.tune(planned)
cpu = time.process_time() - began
models = [lab.model(planned.base.spec, label="base"), lab.model(tuned.model, label="tuned")]
told = {"cpu": cpu, "expected": expected.seconds, "seconds": tuned.trained.seconds}
for name, each in (("route", sets.test), ("general", sets.general)):
    grid = lab.grid(**tune_rows.asked(each, planned), models=models, scorers=["exact"], track=False)
    told[name] = grid.frame().groupby("model")["exact"].mean().to_dict()
    told[f"{name} verdict"] = str(lab.compare(grid, a="base", b="tuned", by="model", margin=0.1 if name == "general" else None))
print(json.dumps(told))
