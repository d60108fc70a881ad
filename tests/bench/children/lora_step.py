"""Steps of the template's trainer, of trl's own, and of a bare PyTorch loop, on batches of one shape. ``lora_step.py STEPS REPEATS``."""

import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTTrainer

from llmops_lab.models.hf import model_folder
from llmops_lab.training import _trainer, data, estimate, sft
from llmops_lab.training.tokens import encode
from tests.training import route

STEPS, REPEATS, WARM = int(sys.argv[1]), int(sys.argv[2]), 3
BASE = model_folder("tiny")
RECIPE = sft.Recipe(learning_rate=1e-3, batch=8, epochs=1)
torch.set_num_threads(1)


def batches_of_one_shape():
    found = encode(data.read(route.rows(7, 60 * RECIPE.batch), "rows"), AutoTokenizer.from_pretrained(BASE), 512)
    sizes = [len(each.ids) for each in found]
    size = max(set(sizes), key=sizes.count)
    alike = [each for each in found if len(each.ids) == size]
    return [alike[number % len(alike)] for number in range((STEPS + WARM) * RECIPE.batch)]


class Clock(TrainerCallback):
    """CPU seconds at the end of each step."""

    def __init__(self):
        self.at = []

    def on_step_end(self, args, state, control, **_):
        self.at.append(time.process_time())


def trained(kind):
    """CPU seconds a step of a trainer: ours, or trl's own class with the same arguments."""
    clock, ours, tokens = Clock(), _trainer.lean_trainer, sft._answer_tokens
    with tempfile.TemporaryDirectory() as work, sft.quiet():
        sft.lean_trainer = ours if kind == "ours" else lambda: SFTTrainer
        if kind == "trl":  # its fused head cannot read an embedding of which tokens are trained
            sft._answer_tokens = lambda model, rows: None
        try:
            trainer = sft.trainer_for(BASE, ROWS, [], RECIPE, work=Path(work))
        finally:
            sft.lean_trainer, sft._answer_tokens = ours, tokens
        trainer.args.save_strategy = "no"
        trainer.add_callback(clock)
        trainer.train()
    return (clock.at[-1] - clock.at[WARM - 1]) / (len(clock.at) - WARM)


def bare():
    """CPU seconds a step of a loop with the same model, adapter, batches, optimiser, schedule and clipping."""
    torch.manual_seed(RECIPE.seed)
    model = sft.adapted(sft.load(BASE, "lora"), ROWS, RECIPE).train()
    weights = [each for each in model.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=RECIPE.learning_rate, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS + WARM)
    began = 0.0
    for number, batch in enumerate(estimate.batches_of(ROWS, RECIPE)):
        if number == WARM:
            began = time.process_time()
        estimate.bare_step(model, optimiser, batch)
        schedule.step()
    return (time.process_time() - began) / STEPS


ROWS = batches_of_one_shape()
ways = {"ours": lambda: trained("ours"), "trl": lambda: trained("trl"), "bare": bare}
rounds = [{name: way() for name, way in ways.items()} for _ in range(REPEATS + 1)][1:]
print(json.dumps({name: [each[name] for each in rounds] for name in ways}))
