"""A trained folder becomes a version of a registered model: its safetensors in MLflow, its base and its weights pinned by digest."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.flows.audit import log, person
from llmops_lab.models import tiny
from llmops_lab.models._ask import open_model
from llmops_lab.models._batch import digest_of
from llmops_lab.records import digest
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track.registry import Registry, Version, check_name
from llmops_lab.training.sft import weights_digest

_DECIDES = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt"})  # what decides the text that the model writes
_TOLD = frozenset({".md"})


@dataclass(frozen=True, slots=True)
class Registered:
    """A version of a registered model. ``new`` is False when there was one with the same weights and base already."""

    name: str
    version: int
    digest: str
    new: bool

    def __str__(self) -> str:
        return f"{self.name}/{self.version} {'registered' if self.new else 'was there already'}, sha256 {self.digest[:12]}"


@dataclass(frozen=True, slots=True)
class _Trained:
    folder: Path
    base: str
    run_id: str
    lineage: Mapping[str, str]


def register_model(
    name: str, what: Any, *, base: str = "", run_id: str = "", dataset: str = "", note: str = "", settings: Settings
) -> Registered:
    """Log the folder's safetensors to MLflow as a version of ``name``; equal weights on an equal base are the same version.

    ``what`` is a folder (a PEFT adapter, or a whole model as save_pretrained writes it), a job that ended with one, or its result.
    ``base`` is the spec of the model under an adapter. Raises BadInput for a folder without safetensors or a base that is not there.
    """
    check_name(name)
    trained = _trained(what, base, run_id, dataset)
    weights = folder_digest(trained.folder)
    body = {"base": trained.base, "base_identity": base_identity(trained.base, settings), "weights": weights, "lineage": trained.lineage}
    author, mask = person(settings), Redactor()
    draft = Version(name, 0, "model", model_digest(body), mask.tree(body), author, mask(note), datetime.now(UTC), run_id=trained.run_id)
    ledger = open_ledger(settings)  # before anything is registered that could not be logged
    with tempfile.TemporaryDirectory(prefix="llmops-lab-") as chosen:
        for path in [*_files(trained.folder, _DECIDES), *_files(trained.folder, _TOLD)]:
            shutil.copyfile(path, Path(chosen) / path.name)
        registry = Registry(settings)
        version, new = registry.create(draft, Path(chosen))
    if new:
        said = {"name": name, "version": version, "digest": draft.digest, "kind": "model", "author": author, "why": draft.note, **body}
        log(ledger, registry, "registered", author, said)
    return Registered(name, version, draft.digest, new)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the files that decide what a model's folder writes. Raises BadInput where it holds no safetensors."""
    files = _files(folder, _DECIDES)
    if not any(path.suffix == ".safetensors" for path in files):
        raise BadInput(f"{folder} holds no .safetensors file. Name the folder that a tuning job or save_pretrained wrote.")
    return digest_of(files)


def model_digest(body: Mapping[str, Any]) -> str:
    """The digest of a registered model: its weights, and the base that they were trained on."""
    return digest({name: body[name] for name in ("weights", "base_identity")})


def base_folder(base: str) -> str:
    """The spec under which ``hf`` takes a base: the embedded model's folder for ``tiny``."""
    return f"hf:{tiny.FOLDER}" if base == "tiny" else base


def base_identity(base: str, settings: Settings) -> str:
    """What a base is, by the digest of its own weights; empty where there is none. Raises BadInput where it is not there."""
    return open_model(base_folder(base), settings).identity if base else ""


def _trained(what: Any, base: str, run_id: str, dataset: str) -> _Trained:
    job = str(getattr(what, "id", "") or "")
    result = what if isinstance(what, Mapping) else getattr(what, "result", None)
    if not isinstance(result, Mapping):
        if not isinstance(what, str | Path):
            raise BadInput(f"a model is registered from a folder, or from a job that ended with one, not from {what!r:.80}.")
        result = {"adapter": what}
    folder = Path(str(result.get("adapter") or result.get("folder") or "")).expanduser()
    if not str(result.get("adapter") or result.get("folder") or "") or not folder.is_dir():
        raise BadInput(f"no folder {str(folder)!r} to register. Name the one that a tuning job or save_pretrained wrote.")
    base = base or _base_of(result, folder)
    adapter = (folder / "adapter_config.json").is_file()
    if adapter and not base:
        raise BadInput(f"{folder} is an adapter, which is nothing without its base. Say which: base='tiny' or base='hf:FOLDER'.")
    if adapter and base != "tiny" and not base.startswith("hf:"):
        raise BadInput(f"{base!r} cannot be the base of an adapter: it is 'tiny', or hf: with a folder or a downloaded hub id.")
    written = str(result.get("digest") or "")
    if written and weights_digest(folder) != written:
        raise BadInput(f"{folder} no longer holds what the job wrote. To register what it holds now, name the folder and not the job.")
    lineage = {"job": job or str(result.get("job") or ""), "dataset": dataset or str(result.get("train_digest") or ""), "trained": written}
    return _Trained(folder.absolute(), base if adapter else "", run_id or str(result.get("run_id") or ""), lineage)


def _base_of(result: Mapping[str, Any], folder: Path) -> str:
    spec = str(result.get("model") or "")
    found = spec.removesuffix(f"+{folder}") if spec.endswith(f"+{folder}") else spec.rpartition("+")[0]
    found = found or str(result.get("base") or "")
    return "tiny" if found in ("tiny", f"hf:{tiny.FOLDER}") else found


def _files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix in suffixes and path.is_file()]
