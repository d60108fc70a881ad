"""Supervised fine-tuning with trl and peft: LoRA, QLoRA or all weights; only the answers' tokens count.

What trl's trainer does at each step and this one leaves out: entropy and token accuracy of every answer token (two more passes over
the logits), a count of tokens, and logits of places that teach nothing; at each checkpoint, trl's own model card.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging as stdlog
import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.training import SMALL, checkpoint
from llmops_lab.training._trainer import Step, early_stop, lean_trainer, step_of, teller
from llmops_lab.training.tokens import IGNORED, Encoded

METHODS = ("lora", "qlora", "full")


@dataclass(frozen=True)
class Recipe:
    """How to tune. ``batch`` is rows a step, ``patience`` how often in a row the validation loss may fail to fall (0: never stops)."""

    method: str = "lora"
    epochs: float = 3.0
    learning_rate: float = 2e-4
    rank: int = 16
    alpha: int = 32
    batch: int = 8
    max_length: int = 1024
    packing: bool = False
    seed: int = 7
    patience: int = 2
    warmup: float = 0.05


def check_recipe(recipe: Recipe) -> None:
    """Raise UnknownName or BadInput for a recipe that nobody can follow."""
    if recipe.method not in METHODS:
        raise UnknownName("method", recipe.method, METHODS)
    least = {"rank": 1, "alpha": 1, "batch": 1, "max_length": 8, "patience": 0, "seed": 0}
    for name, lowest in least.items():
        value = getattr(recipe, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise BadInput(f"{name} must be a whole number, {lowest} or more, not {value!r}.")
    for name in ("epochs", "learning_rate"):
        value = getattr(recipe, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise BadInput(f"{name} must be a number above 0, not {value!r}.")


@dataclass(frozen=True)
class Trained:
    """What came out: the folder, what is in it, and what it took. ``stopped_early`` says that the validation loss had stopped falling."""

    folder: Path
    digest: str
    steps: tuple[Step, ...]
    last_step: int
    best: float | None
    stopped_early: bool
    resumed_from: int
    seconds: float
    cpu_seconds: float
    peak_memory: int
    parameters: int
    trainable: int
    device: str


def restored(record: Mapping[str, Any]) -> Trained:
    """What ``dataclasses.asdict`` made of a Trained and JSON kept. Raises TypeError, KeyError for anything else."""
    return Trained(**{**record, "folder": Path(record["folder"]), "steps": tuple(Step(**each) for each in record["steps"])})


Tell = Callable[[Step, int], None]


def train(
    base: Path,
    rows: Sequence[Encoded],
    validation: Sequence[Encoded],
    recipe: Recipe,
    *,
    work: Path,
    out: Path,
    resume: bool = True,
    tell: Tell | None = None,
    named: str = "",
) -> Trained:
    """Train on ``rows`` and write an adapter (``full``: a whole model) to ``out``; checkpoints lie in ``work``, one an epoch or so.

    With ``resume`` it goes on from the newest whole checkpoint there. ``tell`` gets each line of the log and the number of steps to come
    in all. ``named``: what the adapter calls its base, in place of the folder. On one CPU thread the same rows, recipe and versions
    give the same bytes, resumed or not.
    """
    began, cpu = time.perf_counter(), time.process_time()
    with quiet():
        trainer = trainer_for(base, rows, validation, recipe, work=work, tell=tell)
        with threads_for(trainer.model):
            last = checkpoint.newest(work) if resume else None
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        _save(trainer, out, recipe, named or str(base))
    state = trainer.state
    return Trained(
        folder=out,
        digest=weights_digest(out),
        steps=tuple(filter(None, map(step_of, state.log_history))),
        last_step=state.global_step,
        best=state.best_metric,
        stopped_early=state.global_step < state.max_steps,
        resumed_from=checkpoint.step_of(last) if last else 0,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - cpu,
        peak_memory=_peak(trainer.args.device.type),
        parameters=size_of(trainer.model),
        trainable=sum(each.numel() for each in trainer.model.parameters() if each.requires_grad),
        device=trainer.args.device.type,
    )


def trainer_for(
    base: Path, rows: Sequence[Encoded], validation: Sequence[Encoded], recipe: Recipe, *, work: Path, tell: Tell | None = None
) -> Any:
    """The trainer, ready to go: the model loaded, the adapter in place. bfloat16 on a GPU, float32 on the CPU."""
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback

    model = load(base, recipe.method)
    every = _every(rows, recipe)
    trainer = lean_trainer()(
        model=model,
        args=_arguments(rows, recipe, work, every, judged=bool(validation)),
        train_dataset=_dataset(Dataset, rows),
        eval_dataset=_dataset(Dataset, validation) if validation else None,
        processing_class=AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False),
        peft_config=None if recipe.method == "full" else _lora(model, rows, recipe),
        callbacks=[early_stop(recipe.patience)] if validation and recipe.patience else [],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(teller(tell))
    return trainer


def load(base: Path, method: str) -> Any:
    """The base model, on the GPU where there is one: in 4 bits for ``qlora``, in bfloat16 for ``lora`` on a GPU, else in float32.

    All weights are trained in float32 on a GPU too (computed in bfloat16): small steps would be lost in bfloat16's seven bits.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu and method != "full" else torch.float32
    how: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    if method == "qlora":
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
        how["device_map"] = {"": 0 if gpu else "cpu"}
    model = AutoModelForCausalLM.from_pretrained(base, **how)
    return model.to("cuda") if gpu and method != "qlora" else model


def adapted(model: Any, rows: Sequence[Encoded], recipe: Recipe) -> Any:
    """The model with a new adapter on it, as the trainer makes it; ``full``: the model itself."""
    from peft import get_peft_model

    return model if recipe.method == "full" else get_peft_model(model, _lora(model, rows, recipe))


def weights_digest(folder: Path) -> str:
    """SHA-256 over the safetensors files of a folder, in order of their names: what names an adapter or model."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()


@contextlib.contextmanager
def threads_for(model: Any) -> Iterator[None]:
    """One CPU thread while a small model is trained; torch's number is put back afterwards."""
    import torch

    before = torch.get_num_threads()
    if model.device.type == "cpu" and size_of(model) < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def random_as_before() -> Iterator[None]:
    """Random numbers drawn inside do not change those drawn afterwards."""
    import torch

    with torch.random.fork_rng():
        yield


def _arguments(rows: Sequence[Encoded], recipe: Recipe, work: Path, every: int, *, judged: bool) -> Any:
    import torch
    from trl import SFTConfig

    gpu = torch.cuda.is_available()
    judging: dict[str, Any] = {"eval_strategy": "no"}
    if judged:
        judging = {"eval_strategy": "steps", "eval_steps": every, "load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
        judging |= {"greater_is_better": False, "prediction_loss_only": True}
    return SFTConfig(
        output_dir=str(work),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup,  # below 1: a share of all steps
        per_device_train_batch_size=rows_a_step(rows, recipe),
        per_device_eval_batch_size=rows_a_step(rows, recipe),
        max_length=recipe.max_length,
        packing=recipe.packing,
        eval_packing=False,
        max_grad_norm=1.0,
        adam_beta2=0.98,  # tunings are short: the usual 0.999 looks back over a thousand steps
        logging_steps=max(1, every // 10),
        logging_nan_inf_filter=False,  # it waits for the loss of each step; a loss that is no number ends the job with a word
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        restore_callback_states_from_checkpoint=True,
        seed=recipe.seed,
        report_to="none",  # the template tells MLflow, through the workbench's own tracking
        disable_tqdm=True,
        use_cpu=not gpu,
        bf16=gpu,
        gradient_checkpointing=gpu,
        dataloader_pin_memory=gpu,
        **judging,
    )


def rows_a_step(rows: Sequence[Encoded], recipe: Recipe) -> int:
    """Rows in a batch; packed rows are so much longer that fewer of them hold as many tokens."""
    if not recipe.packing:
        return recipe.batch
    mean = sum(len(each.ids) for each in rows) / len(rows)
    return max(1, round(recipe.batch * mean / recipe.max_length))


def steps_an_epoch(rows: Sequence[Encoded], recipe: Recipe) -> int:
    """Batches in one pass over the rows (packed: about)."""
    count = len(rows)
    if recipe.packing:
        count = max(1, -(-sum(len(each.ids) for each in rows) // recipe.max_length))
    return max(1, -(-count // rows_a_step(rows, recipe)))


def _every(rows: Sequence[Encoded], recipe: Recipe) -> int:
    return min(500, steps_an_epoch(rows, recipe))


def _lora(model: Any, rows: Sequence[Encoded], recipe: Recipe) -> Any:
    from peft import LoraConfig

    tokens = _answer_tokens(model, rows) if size_of(model) < SMALL else None
    how = {"target_modules": "all-linear", "task_type": "CAUSAL_LM", "trainable_token_indices": tokens}
    return LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, **how)


def _answer_tokens(model: Any, rows: Sequence[Encoded]) -> dict[str, list[int]]:
    """The tokens of the answers, under the name of the embedding: a small model has hardly met some of them, and an adapter cannot help."""
    embedding = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embedding)
    return {name.rpartition(".")[2]: sorted({label for each in rows for label in each.labels if label != IGNORED})}


def size_of(model: Any) -> int:
    """Parameters of a loaded model; of a base in 4 bits two lie in each byte."""
    return sum(each.numel() * (2 if type(each).__name__ == "Params4bit" else 1) for each in model.parameters())


def _dataset(kind: Any, rows: Sequence[Encoded]) -> Any:
    columns = {
        "input_ids": [each.ids for each in rows],
        "labels": [each.labels for each in rows],
        "length": [len(each.ids) for each in rows],
    }
    return kind.from_dict(columns)


def _save(trainer: Any, out: Path, recipe: Recipe, named: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(out, safe_serialization=True)
    (out / "README.md").unlink(missing_ok=True)  # peft's empty form; the model card takes its place
    if recipe.method == "full":
        trainer.processing_class.save_pretrained(out)
    else:  # not before it is saved: peft would look for a name that is no folder on the hub
        config = out / "adapter_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text("utf-8")), "base_model_name_or_path": named}, indent=2) + "\n", "utf-8")


def _peak(device: str) -> int:
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of datasets and transformers: the caller shows its own."""
    import datasets
    from transformers.utils import logging

    # peft imports bitsandbytes, which warns that it found no kernel of the hub's; nobody asked for one.
    stdlog.getLogger("bitsandbytes.backends.cpu.ops").setLevel(stdlog.ERROR)
    bars, maps = logging.is_progress_bar_enabled(), datasets.are_progress_bars_disabled()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()
        if not maps:
            datasets.enable_progress_bars()
