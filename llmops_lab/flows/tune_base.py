"""The model that a tuning starts from: ``tiny``, a folder or a downloaded hub id; anything else is refused at once."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from llmops_lab import plugins
from llmops_lab.errors import BadInput, MissingExtra, UnknownName
from llmops_lab.models import hf
from llmops_lab.models._batch import digest_of
from llmops_lab.training.sft import Recipe, check_recipe

_NEEDS = ("torch", "transformers", "trl", "datasets", "peft")


@dataclass(frozen=True)
class Base:
    """A base model: the name it was given, the spec that ``hf:`` asks it by, its folder and what is in it."""

    name: str
    spec: str
    folder: Path
    digest: str


def base_of(name: str, recipe: Recipe) -> Base:
    """Find the base model. Raises UnknownName or BadInput for one that is not there or cannot be tuned, MissingExtra for packages."""
    check_recipe(recipe)
    check_packages(recipe.method)
    folder = folder_of(name)
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", ".json", ".jinja") and path.is_file()]
    return Base(name, f"hf:{name.partition(':')[2]}" if name.startswith("hf:") else "hf:tiny", folder, digest_of(files))


def check_packages(method: str) -> None:
    """Raise MissingExtra for a package that a method needs and that is not there."""
    for package in (*_NEEDS, *(("bitsandbytes",) if method == "qlora" else ())):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "train")


def folder_of(name: str) -> Path:
    """The folder of a base model's weights. Raises UnknownName or BadInput for one that is not there or cannot be tuned."""
    provider, _, target = name.partition(":")
    if not name.strip():
        raise BadInput("no base model was named. A base is tiny, hf:PATH or hf:ORG/NAME.")
    if provider not in ("tiny", "hf"):
        known = plugins.names("models")
        if provider not in known:
            raise UnknownName("base model", name, ["tiny", "hf:PATH", "hf:ORG/NAME"])
        raise BadInput(f"{name} cannot be tuned here: its weights are elsewhere. A base is tiny, hf:PATH or hf:ORG/NAME.")
    if provider == "hf" and "+" in target and not Path(target).expanduser().is_dir():
        raise BadInput(f"{name} has an adapter already. Name the base without it, or merge the adapter into a folder first.")
    return hf.model_folder(target if provider == "hf" else "tiny")
