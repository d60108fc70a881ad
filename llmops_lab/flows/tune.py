"""The story of a tuning: what was asked is checked, encoded and trained from the last whole checkpoint; an adapter comes out."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.flows.tune_base import Base, base_of, folder_of
from llmops_lab.flows.tune_data import Sets
from llmops_lab.records import digest
from llmops_lab.settings import home_dir
from llmops_lab.training import SMALL, checkpoint, data, sft
from llmops_lab.training import estimate as estimates
from llmops_lab.training.data import Examples
from llmops_lab.training.estimate import Estimate
from llmops_lab.training.sft import Recipe, Tell, Trained, check_recipe
from llmops_lab.training.tokens import Encoded, encode


@dataclass(frozen=True)
class Planned:
    """A tuning that has been checked and not begun. ``key`` names it: base, rows, validation rows, recipe and versions decide it."""

    base: Base
    recipe: Recipe
    sets: Sets
    rows: Examples
    encoded: list[Encoded]
    encoded_validation: list[Encoded]
    key: str
    work: Path


@dataclass(frozen=True)
class Tuned:
    """A tuned model. ``model`` is the spec to ask it by; ``digest`` names its weights; ``trained`` says what it took."""

    model: str
    folder: Path
    digest: str
    trained: Trained
    planned: Planned

    def __str__(self) -> str:
        trained = self.trained
        began = f"went on from step {trained.resumed_from:,}; " if trained.resumed_from else ""
        ended = ", stopped early: the validation loss had ceased to fall" if trained.stopped_early else ""
        peak = f"{trained.peak_memory >> 20:,} MB at the peak"
        took = f"{trained.seconds:.0f} s ({trained.cpu_seconds:.0f} s of CPU) on {trained.device}, {peak}"
        share = f"{trained.trainable:,} of {trained.parameters:,} parameters"
        return f"{began}{trained.last_step:,} steps{ended}; {took}; {share}\nweights {self.digest}\nask it as {self.model}"


def recipe_for(base: str, **asked: Any) -> Recipe:
    """The recipe that was asked for; what is None is chosen to suit. Raises UnknownName or BadInput.

    An adapter's alpha is twice its rank. The learning rate is 1e-5 for all weights and 2e-4 for an adapter; a model below 20 million
    parameters needs larger steps: 1e-3 and 3e-3.
    """
    recipe = Recipe(**{name: value for name, value in asked.items() if value is not None})
    check_recipe(recipe)
    small = estimates.size_of(folder_of(base)) < SMALL
    full = recipe.method == "full"
    chosen: dict[str, Any] = {
        "learning_rate": (1e-3 if full else 3e-3) if small else (1e-5 if full else 2e-4),
        "alpha": 2 * recipe.rank,
    }
    return dataclasses.replace(recipe, **{name: value for name, value in chosen.items() if asked.get(name) is None})


def plan(base: str, sets: Sets, recipe: Recipe) -> Planned:
    """Check and encode everything that a tuning needs. Raises BadInput before anything starts."""
    from transformers import AutoTokenizer

    found = base_of(base, recipe)
    tokenizer = AutoTokenizer.from_pretrained(found.folder, local_files_only=True, trust_remote_code=False)
    rows = data.mix(sets.train, sets.replay, recipe.seed)
    versions = [version(name) for name in ("torch", "transformers", "trl", "peft")]
    key = digest([found.digest, rows.digest, sets.validation.digest, dataclasses.asdict(recipe), versions])[:16]
    most = min(recipe.max_length, estimates.context_of(found.folder))
    return Planned(
        base=found,
        recipe=recipe,
        sets=sets,
        rows=rows,
        encoded=encode(rows, tokenizer, most),
        encoded_validation=encode(sets.validation, tokenizer, most),
        key=key,
        work=home_dir(_settings.load()) / "tuning" / key,
    )


def estimate(planned: Planned) -> Estimate:
    """What the training will take, measured on a few steps of a copy that is thrown away."""
    return estimates.estimate(planned.base.folder, planned.encoded, planned.encoded_validation, planned.recipe)


def tune(planned: Planned, *, resume: bool = True, tell: Tell | None = None) -> Tuned:
    """Train what was planned. Its checkpoints stay until it is done, so that the same tuning, begun again, goes on where it was.

    The result lies in the ledger's folder under ``tuned``, by its digest. Raises BadInput while another process trains the very same.
    """
    with checkpoint.alone(planned.work):
        if not resume:
            for old in planned.work.glob("checkpoint-*"):
                shutil.rmtree(old)
        made = planned.work / "result"
        shutil.rmtree(made, ignore_errors=True)
        trained = sft.train(
            planned.base.folder, planned.encoded, planned.encoded_validation, planned.recipe,
            work=planned.work, out=made, resume=resume, tell=tell, named=planned.base.name.removeprefix("hf:"),
        )  # fmt: skip
        folder = _placed(made, planned.work.parent.parent / "tuned" / trained.digest[:16])
        shutil.rmtree(planned.work)
    return Tuned(model_of(planned, folder), folder, trained.digest, dataclasses.replace(trained, folder=folder), planned)


def model_of(planned: Planned, folder: Path) -> str:
    """The spec by which what was trained into a folder is asked."""
    return f"hf:{folder}" if planned.recipe.method == "full" else f"{planned.base.spec}+{folder}"


def _placed(made: Path, folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        if sft.weights_digest(folder) == sft.weights_digest(made):
            return folder  # the very same was made before
        shutil.rmtree(folder)  # somebody took weights out of it
    shutil.move(made, folder)
    return folder


def as_record(tuned: Tuned) -> dict[str, Any]:
    """What a job's result and MLflow keep of a tuning, as JSON."""
    trained, planned = tuned.trained, tuned.planned
    return {
        "adapter": str(tuned.folder),
        "digest": tuned.digest,
        "model": tuned.model,
        "base": planned.base.name,
        "base_digest": planned.base.digest,
        "train_rows": len(planned.rows),
        "train_digest": planned.rows.digest,
        "validation_rows": len(planned.sets.validation),
        "sets": {
            name: {"rows": len(each), "digest": each.digest, "source": PurePath(each.source).name}
            for name in ("train", "replay", "validation", "test", "general")
            if (each := getattr(planned.sets, name))
        },
        "validation_loss": trained.best,
        "steps": trained.last_step,
        "stopped_early": trained.stopped_early,
        "resumed_from": trained.resumed_from,
        "seconds": round(trained.seconds, 1),
        "cpu_seconds": round(trained.cpu_seconds, 1),
        "peak_memory": trained.peak_memory,
        "recipe": dataclasses.asdict(planned.recipe),
    }
