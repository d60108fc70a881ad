"""A bundle: prompt versions, a model, parameters and the digests of data, pinned together, so that they are released as one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.flows.audit import log, person
from llmops_lab.flows.prompts import library
from llmops_lab.flows.resolve import MODEL_SCHEME, Resolved, address, resolve, retired_part
from llmops_lab.models._ask import open_model
from llmops_lab.prompts.diff import Diff, as_text, diff, word_diff
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import canonical, digest
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track.registry import Registry, Version, check_name

_DIGEST = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Parts:
    """What a bundle is made of, as a person names it. ``prompts``: slot -> NAME/VERSION, NAME@ALIAS or a saved one.

    ``model`` is a model spec or models:/NAME/VERSION; ``dataset`` and ``index`` are a file or a digest.
    """

    prompts: Mapping[str, str | Prompt]
    model: str = ""
    params: Mapping[str, Any] | None = None
    dataset: str | Path = ""
    index: str | Path = ""


def make(name: str, parts: Parts, note: str, settings: Settings) -> Resolved:
    """Pin the parts to versions and digests, and register them; equal content is the same version.

    Raises BadInput, UnknownName, or what the resolving of a part raises.
    """
    check_name(name)
    content = _pinned(parts, settings)
    author = person(settings)
    draft = Version(name, 0, "bundle", digest(content), content, author, Redactor()(note), datetime.now(UTC))
    ledger = open_ledger(settings)  # before anything is registered that could not be logged
    registry = Registry(settings)
    if part := retired_part(content, registry):
        raise BadInput(f"{part} is retired, so no new bundle can pin it. Pin another version.")
    version, new = registry.create(draft, None)
    if new:
        said = {"name": name, "version": version, "digest": draft.digest, "kind": "bundle", "author": author, "why": draft.note}
        log(ledger, registry, "registered", author, said)
    return resolve(name, version, settings)


def opened(text: str, settings: Settings) -> Resolved:
    """An existing bundle: NAME (its latest version), NAME/VERSION or NAME@ALIAS. Raises BadInput where the name is no bundle's."""
    version: int | str
    name, version = address(text) if re.search("[@/]", text) else (text, 0)
    found = Registry(settings).find(name)
    if found.kind != "bundle":
        raise BadInput(f"{name!r} is a {found.kind}, not a bundle. To make a bundle with it, give it as a part.")
    return resolve(name, version or found.latest, settings)


def changes(a: Resolved, b: Resolved) -> list[Diff]:
    """What differs from a to b: the words of each prompt, then model, parameters and digests; empty where they are equal."""
    found = [_prompt_change(slot, a, b) for slot in sorted({*a.prompts, *b.prompts})]
    for part in ("model", "params", "dataset", "index"):
        old, new = _text(a.content.get(part)), _text(b.content.get(part))
        found.append(Diff(f"{a.address} {part}", f"{b.address} {part}", word_diff(old, new)))
    return [each for each in found if each.changed]


def _prompt_change(slot: str, a: Resolved, b: Resolved) -> Diff:
    old, new = a.prompts.get(slot), b.prompts.get(slot)
    if old is not None and new is not None:
        return diff(old, new)
    text = as_text(old) if old else as_text(new) if new else ""
    return Diff(f"{a.address} {slot}", f"{b.address} {slot}", (("delete" if old else "insert", text),))


def _pinned(parts: Parts, settings: Settings) -> dict[str, Any]:
    if not isinstance(parts.prompts, Mapping) or not all(isinstance(slot, str) and slot.strip() for slot in parts.prompts):
        raise BadInput("prompts is a dict of slots, as in {'answer': 'qa/3'}.")
    if not parts.prompts and not parts.model:
        raise BadInput("a bundle pins at least one prompt or a model. Type lab.bundle(NAME, prompts={'answer': 'qa/3'}, model='tiny').")
    params = dict(parts.params or {})
    try:
        params = json.loads(canonical(params))
    except (TypeError, ValueError) as error:
        raise BadInput(f"params must be JSON: {error}.") from error
    _no_secret("params", params)
    return {
        "prompts": {slot: _pinned_prompt(what, settings) for slot, what in parts.prompts.items()},
        "model": _pinned_model(parts.model, settings) if parts.model else None,
        "params": params,
        "dataset": _pinned_file("dataset", parts.dataset),
        "index": _pinned_file("index", parts.index),
    }


def _pinned_prompt(what: Any, settings: Settings) -> dict[str, Any]:
    if isinstance(what, Prompt):
        if not what.name or what.version is None:
            raise BadInput("a bundle pins saved prompts only. Save it first: lab.prompts.save(prompt, 'NAME').")
        what = f"{what.name}/{what.version}"
    if not isinstance(what, str):
        raise BadInput(f"a prompt of a bundle is named as NAME/VERSION or NAME@ALIAS, not {what!r:.80}.")
    found = library(settings).get(what)
    return {"name": found.name, "version": found.version, "sha256": found.sha256}


def _pinned_model(spec: str, settings: Settings) -> dict[str, str]:
    if not isinstance(spec, str):
        raise BadInput(f"the model of a bundle is a spec such as 'tiny' or 'models:/NAME/3', not {spec!r:.80}.")
    _no_secret("model", spec)
    if not spec.startswith(MODEL_SCHEME):
        return {"spec": spec, "identity": open_model(spec, settings).identity}
    held = resolve(*address(spec), settings)
    if held.kind != "model":
        raise BadInput(f"{spec} is a {held.kind}, not a model.")
    return {"spec": f"{MODEL_SCHEME}{held.address}", "identity": held.digest}


def _pinned_file(part: str, what: str | Path) -> str:
    if isinstance(what, str) and (not what or _DIGEST.fullmatch(what)):
        return what
    path = Path(what).expanduser()
    if not path.is_file():
        raise BadInput(f"{part}={str(what)!r} is neither a file nor a digest (8 to 64 hexadecimal figures).")
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()


def _no_secret(part: str, value: Any) -> None:
    if Redactor().tree(value) != value:
        raise BadInput(f"{part} holds a secret, and a bundle can be read by everybody. Name the key in the settings: keys = {{...}}.")


def _text(value: Any) -> str:
    if not value:
        return ""
    return value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
