"""The story of a tuning: what was asked is checked, encoded and trained from the last whole checkpoint; an adapter comes out."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.flows.tune_base import Base, base_of
from llmops_lab.records import digest
from llmops_lab.settings import Settings, home_dir
from llmops_lab.training import checkpoint, data, sft
from llmops_lab.training.data import Examples
from llmops_lab.training.sft import Recipe, Tell, Trained
from llmops_lab.training.tokens import Encoded, encode


@dataclass(frozen=True)
class Planned:
    """A tuning that has been checked and not begun. ``key`` names it: the same base, rows, recipe and validation have the same key."""

    base: Base
    recipe: Recipe
    rows: Examples
    validation: Examples | None
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


def plan(
    base: str, train: Examples, *, validation: Examples | None = None, replay: Examples | None = None, recipe: Recipe | None = None,
    settings: Settings | None = None,
) -> Planned:  # fmt: skip
    """Check and encode everything that a tuning needs. Raises BadInput before anything starts."""
    from transformers import AutoTokenizer

    recipe, settings = recipe or Recipe(), settings or _settings.load()
    found = base_of(base, recipe)
    tokenizer = AutoTokenizer.from_pretrained(found.folder, local_files_only=True, trust_remote_code=False)
    rows = data.mix(train, replay, recipe.seed)
    key = digest([found.digest, rows.digest, validation.digest if validation else None, dataclasses.asdict(recipe)])[:16]
    return Planned(
        base=found,
        recipe=recipe,
        rows=rows,
        validation=validation,
        encoded=encode(rows, tokenizer, recipe.max_length),
        encoded_validation=encode(validation, tokenizer, recipe.max_length) if validation else [],
        key=key,
        work=home_dir(settings) / "tuning" / key,
    )


def tune(planned: Planned, *, out: Path | None = None, resume: bool = True, tell: Tell | None = None) -> Tuned:
    """Train what was planned. Its checkpoints stay until it is done, so that the same tuning, begun again, goes on where it was.

    The result lies in ``out``, or in the ledger's folder under ``tuned`` by its digest.
    """
    with checkpoint.alone(planned.work):
        if not resume:
            for old in planned.work.glob("checkpoint-*"):
                shutil.rmtree(old)
        made = planned.work / "result"
        shutil.rmtree(made, ignore_errors=True)
        trained = sft.train(
            planned.base.folder, planned.encoded, planned.encoded_validation, planned.recipe,
            work=planned.work, out=made, resume=resume, tell=tell,
        )  # fmt: skip
        folder = _placed(made, out or planned.work.parent.parent / "tuned" / trained.digest[:16])
        shutil.rmtree(planned.work)
    model = f"hf:{folder}" if planned.recipe.method == "full" else f"{planned.base.spec}+{folder}"
    return Tuned(model, folder, trained.digest, dataclasses.replace(trained, folder=folder), planned)


def _placed(made: Path, folder: Path) -> Path:
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() and sft.weights_digest(folder) == sft.weights_digest(made):
        return folder  # the very same was made before
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
        "validation_rows": len(planned.validation or ()),
        "validation_loss": trained.best,
        "steps": max((each.step for each in trained.steps), default=0),
        "stopped_early": trained.stopped_early,
        "resumed_from": trained.resumed_from,
        "seconds": round(trained.seconds, 1),
        "cpu_seconds": round(trained.cpu_seconds, 1),
        "peak_memory": trained.peak_memory,
        "recipe": dataclasses.asdict(planned.recipe),
    }
