"""What NAME@ALIAS is at this moment: a prompt, a model or a bundle of both, every part checked against its digest."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, TamperedRelease, UnknownName
from llmops_lab.flows.prompts import library
from llmops_lab.flows.register_model import base_folder, base_identity, folder_digest, model_digest
from llmops_lab.models._ask import open_model
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import digest
from llmops_lab.settings import Settings, home_dir
from llmops_lab.track.registry import ABOUT, Name, Registry, Version

MODEL_SCHEME = "models:/"


@dataclass(frozen=True)
class Resolved:
    """One version, ready to be used. ``model`` is a spec that can be opened, "" for a prompt; ``prompts`` are by slot, a prompt's own
    slot is its name. ``digest`` is over all that the version pins.
    """

    name: str
    kind: str
    version: int
    alias: str
    digest: str
    author: str
    model: str = ""
    prompts: Mapping[str, Prompt] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = ""
    index: str = ""
    retired: bool = False
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """``NAME/VERSION``."""
        return f"{self.name}/{self.version}"


def pointer(name: str, alias: str, settings: Settings) -> int:
    """The version that an alias points at now, asked of MLflow itself. Raises UnknownName, or Unreachable."""
    return _at(Registry(settings).find(name), alias)


def resolve(name: str, version: int | str, settings: Settings) -> Resolved:
    """A version, by number or by alias, whole and checked; files that are not here are fetched from MLflow.

    Raises UnknownName, Unreachable, TamperedPrompt or TamperedRelease (a part is no longer what was registered).
    """
    registry = Registry(settings)
    found = registry.find(name)
    alias = version if isinstance(version, str) and not version.isdecimal() else ""
    number = _at(found, alias) if alias else int(version)
    return _KINDS[found.kind](registry.get(name, number), alias, settings)


def address(text: str) -> tuple[str, int | str]:
    """``NAME/3`` or ``NAME@ALIAS``, with or without ``models:/``, in its two parts. Raises BadInput."""
    name, at, alias = text.removeprefix(MODEL_SCHEME).partition("@")
    name, slash, number = (name, "", "") if at else name.partition("/")
    if not name or not (alias or (slash and number.isdecimal())):
        raise BadInput(f"{text!r} does not say which version. Write NAME/3 or NAME@ALIAS.")
    return name, alias or int(number)


def pinned(content: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The registered versions that a bundle with this content is made of."""
    spec = str((content.get("model") or {}).get("spec", ""))
    parts = [address(spec)] if spec.startswith(MODEL_SCHEME) else []
    found = [*((pin["name"], pin["version"]) for pin in (content.get("prompts") or {}).values()), *parts]
    return [(name, int(version)) for name, version in found]


def retired_part(content: Mapping[str, Any], registry: Registry) -> str:
    """``NAME/VERSION`` of a part of a bundle that was retired; empty where there is none."""
    return next((f"{name}/{version}" for name, version in pinned(content) if registry.get(name, version).retired), "")


def _at(found: Name, alias: str) -> int:
    if alias not in found.aliases:
        raise UnknownName(f"alias of {found.name!r}", alias, found.aliases)
    return found.aliases[alias]


def _prompt(version: Version, alias: str, settings: Settings) -> Resolved:
    prompt = library(settings).get(version.name, version.version)
    return _resolved(version, alias, prompt.sha256, prompts={version.name: prompt}, author=prompt.author)


def _model(version: Version, alias: str, settings: Settings) -> Resolved:
    if not version.digest:  # another tool registered it: MLflow's own loader takes it
        spec = f"mlflow:{MODEL_SCHEME}{version.name}/{version.version}"
        return _resolved(version, alias, digest(open_model(spec, settings).identity), model=spec)
    body = version.body
    if not {"base", "base_identity", "weights"} <= set(body) or model_digest(body) != version.digest:
        raise TamperedRelease(f"model {version.name}/{version.version}: what MLflow says of it no longer has the digest it was saved with.")
    if base_identity(str(body["base"]), settings) != body["base_identity"]:
        raise TamperedRelease(
            f"model {version.name}/{version.version} was trained on {body['base']} as it was then; now that has other weights. "
            "Put the base back, or train anew and register that."
        )
    folder = _fetched(version, str(body["weights"]), settings)
    spec = f"{base_folder(str(body['base']))}+{folder}" if body["base"] else f"hf:{folder}"
    return _resolved(version, alias, version.digest, model=spec, content=body)


def _bundle(version: Version, alias: str, settings: Settings) -> Resolved:
    body = dict(version.body)
    if digest(body) != version.digest:
        raise TamperedRelease(f"bundle {version.name}/{version.version} was changed after it was made: its content has another digest.")
    prompts = {slot: _pinned_prompt(version, slot, pin, settings) for slot, pin in body["prompts"].items()}
    model = _pinned_model(version, body["model"], settings) if body["model"] else ""
    parts = {"params": body["params"], "dataset": body["dataset"], "index": body["index"]}
    return _resolved(version, alias, version.digest, model=model, prompts=prompts, content=body, **parts)


def _pinned_prompt(version: Version, slot: str, pin: Mapping[str, Any], settings: Settings) -> Prompt:
    prompt = library(settings).get(pin["name"], pin["version"])
    if prompt.sha256 != pin["sha256"]:
        raise TamperedRelease(
            f"bundle {version.name}/{version.version} pins {slot} = {pin['name']}/{pin['version']} as {pin['sha256'][:12]}; "
            f"now that version is {prompt.sha256[:12]}."
        )
    return prompt


def _pinned_model(version: Version, pin: Mapping[str, Any], settings: Settings) -> str:
    spec = str(pin["spec"])
    if spec.startswith(MODEL_SCHEME):
        held = resolve(*address(spec), settings)
        spec, identity = held.model, held.digest
    else:
        identity = open_model(spec, settings).identity
    if identity != pin["identity"]:
        raise TamperedRelease(
            f"bundle {version.name}/{version.version} pins the model {pin['spec']} as {_short(pin['identity'])}; now it is "
            f"{_short(identity)}. Put the old one back, or make a bundle with the new one and gate that."
        )
    return spec


def _fetched(version: Version, weights: str, settings: Settings) -> Path:
    place = home_dir(settings).absolute() / "models" / weights[:32]
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".fetch-", dir=place.parent))
        try:
            got = Registry(settings).fetch(version, draft)
            (got / ABOUT).unlink(missing_ok=True)  # our own description, not a part of the model
            _check_weights(version, got, weights)
            try:
                os.replace(got, place)
            except OSError:
                if not place.is_dir():  # another process was faster
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    _check_weights(version, place, weights)
    return place


def _check_weights(version: Version, folder: Path, weights: str) -> None:
    whole = any(folder.glob("*.safetensors")) and folder_digest(folder) == weights
    if not whole:
        raise TamperedRelease(
            f"model {version.name}/{version.version}: the files in {folder} are not those that were registered. Delete that folder, and "
            "they are fetched anew; if this comes again, they were changed in MLflow itself."
        )


def _resolved(version: Version, alias: str, digest_: str, *, author: str = "", **parts: Any) -> Resolved:
    author = author or version.author
    return Resolved(version.name, version.kind, version.version, alias, digest_, author, retired=bool(version.retired), **parts)


def _short(identity: Any) -> str:
    kind, colon, mark = str(identity).rpartition(":")
    return f"{kind}{colon}{mark[:12]}" if len(mark) == 64 else str(identity)


_KINDS = {"prompt": _prompt, "model": _model, "bundle": _bundle}
