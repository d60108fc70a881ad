"""Releases as a person holds them: register, bundle, promote, roll back, retire, and the history of it all."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api.display import literal, note, table
from llmops_lab.errors import BadInput, clipped
from llmops_lab.escapes import inert
from llmops_lab.flows import bundle as bundles
from llmops_lab.flows import history as histories
from llmops_lab.flows import promote as promoting
from llmops_lab.flows import register_model as registering
from llmops_lab.flows import retire as retiring
from llmops_lab.flows import rollback as rolling_back
from llmops_lab.flows.promote import Released
from llmops_lab.flows.register_model import Registered
from llmops_lab.flows.resolve import Resolved
from llmops_lab.governance.release import Move
from llmops_lab.prompts.diff import Diff
from llmops_lab.prompts.template import Prompt


def bundle(
    name: str,
    *,
    prompts: Mapping[str, str | Prompt] | None = None,
    model: str = "",
    params: Mapping[str, Any] | None = None,
    dataset: str | Path = "",
    index: str | Path = "",
    note: str = "",
) -> Bundle:
    """Pin prompt versions, a model, parameters and the digests of data, to be released as one; without parts, open a bundle.

    ``prompts`` maps a slot to "NAME/VERSION" or "NAME@ALIAS"; ``model`` is a spec or "models:/NAME/VERSION"; ``dataset`` and ``index``
    are a file or a digest. Equal content is the same version. To open one: ``lab.bundle("support-bot@production")``, or "NAME/VERSION".
    """
    settings = _settings.load()
    if prompts or model:
        parts = bundles.Parts(prompts or {}, model, params, dataset, index)
        return Bundle(bundles.make(name, parts, note, settings))
    if params or dataset or index or note:
        raise BadInput("a bundle pins at least one prompt or a model. Type lab.bundle(NAME, prompts={'answer': 'qa/3'}, model='tiny').")
    return Bundle(bundles.opened(name, settings))


def register_model(name: str, what: Any, *, base: str = "", run_id: str = "", dataset: str = "", note: str = "") -> Registered:
    """Log a trained folder (an adapter, or a whole model) to MLflow as a version of ``name``. ``what``: a folder, a job, or its result.

    Only safetensors are taken. ``base`` is the model under an adapter, where the job does not say. Equal weights on an equal base are
    the same version.
    """
    return registering.register_model(name, what, base=base, run_id=run_id, dataset=dataset, note=note, settings=_settings.load())


def promote(
    name: str, version: int | str, alias: str, *, approver: str | None = None, gate: Any = None, expect: int | None = None, why: str = ""
) -> Released:
    """Point an alias (dev, staging, production) at a version of a model, a prompt or a bundle.

    staging and production ask for a passing gate: the newest one of this content in the audit log, or ``gate``. Where the settings say
    so, ``approver`` names a second person. ``expect`` is the version at which you saw the alias (0: none): if it moved since, Conflict.
    Raises GateFailed, Conflict, BadInput. Every try is kept in the audit log, refused ones too.
    """
    if approver is not None and not isinstance(approver, str):
        raise BadInput(f"an approver is named by a text, not {approver!r:.80}.")
    held = getattr(gate, "result", gate)
    wish = promoting.Wish(_name(name), version, alias, approver or "", held, expect, why)
    return promoting.promote(wish, _settings.load())


def rollback(name: str, alias: str, *, why: str = "") -> Released:
    """Move an alias back to the version that it had before; again, further back. Asks for no gate. Raises BadInput where there is none."""
    return rolling_back.rollback(_name(name), alias, _settings.load(), why=why)


def retire(name: str, version: int, *, why: str = "") -> None:
    """Retire a version: no alias can be moved to it any more. Refused while one points at it; it cannot be taken back."""
    if isinstance(version, bool) or not isinstance(version, int):
        raise BadInput(f"a version is a number such as 3, not {version!r:.80}.")
    retiring.retire(_name(name), version, _settings.load(), why=why)


def history(name: str) -> History:
    """Where the aliases of a model, a prompt or a bundle are and were: who moved them, when, why, on which gate. Raises UnknownName."""
    return History(histories.story(_name(name), _settings.load()))


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise BadInput(f"a release is named by a text, not {name!r:.80}.")
    return name


class Bundle:
    """A bundle: pinned versions, all checked when it was opened. It cannot be changed; to change a part, make another one."""

    def __init__(self, resolved: Resolved) -> None:
        self.resolved = resolved
        """The same as the flows take it."""

    @property
    def name(self) -> str:
        """Its name in MLflow."""
        return self.resolved.name

    @property
    def version(self) -> int:
        """Its version."""
        return self.resolved.version

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over all that it pins."""
        return self.resolved.digest

    @property
    def content(self) -> dict[str, Any]:
        """What it pins, as JSON-like data."""
        return dict(self.resolved.content)

    @property
    def prompts(self) -> dict[str, Prompt]:
        """Slot -> prompt."""
        return dict(self.resolved.prompts)

    @property
    def model(self) -> str:
        """A model spec that ``lab.ask`` and ``lab.grid`` take; empty where it pins none."""
        return self.resolved.model

    @property
    def params(self) -> dict[str, Any]:
        """The parameters."""
        return dict(self.resolved.params)

    def diff(self, other: Bundle | str | int) -> BundleDiff:
        """What changed from this bundle to ``other``: the words of each prompt, and what else is another. A number: that version."""
        if isinstance(other, int):
            other = f"{self.name}/{other}"
        there = bundle(other) if isinstance(other, str) else other
        if not isinstance(there, Bundle):
            raise BadInput(f"a bundle is compared with a bundle, not with {other!r:.80}.")
        return BundleDiff(self.resolved, there.resolved, tuple(bundles.changes(self.resolved, there.resolved)))

    def __repr__(self) -> str:
        return f"{self._head}\n{table(('part', 'pinned'), self._lines)[0]}"

    def _repr_html_(self) -> str:
        return literal(f"<b>{html.escape(inert(self._head))}</b>{table(('part', 'pinned'), self._lines)[1]}")

    @property
    def _head(self) -> str:
        alias = f" @{self.resolved.alias}" if self.resolved.alias else ""
        return f"bundle {self.resolved.address}{alias} by {self.resolved.author}, sha256 {self.digest[:12]}"

    @property
    def _lines(self) -> list[tuple[str, str]]:
        content = self.resolved.content
        lines = [(f"prompt {slot}", _pin(f"{pin['name']}/{pin['version']}", pin["sha256"])) for slot, pin in content["prompts"].items()]
        if content["model"]:
            lines.append(("model", _pin(content["model"]["spec"], content["model"]["identity"].rpartition(":")[2])))
        lines += [("params", f"{name} = {value}") for name, value in content["params"].items()]
        return lines + [(part, _pin("", content[part])) for part in ("dataset", "index") if content[part]]


def _pin(name: str, mark: str) -> str:
    return f"{name} ({mark[:12]})" if name else mark[:12]


class BundleDiff:
    """What differs between two bundles; ``parts`` are word diffs, one for each part that does."""

    def __init__(self, a: Resolved, b: Resolved, parts: tuple[Diff, ...]) -> None:
        self.parts, self._title = parts, f"{a.address} → {b.address}"

    @property
    def changed(self) -> bool:
        """Whether anything differs."""
        return bool(self.parts)

    def __repr__(self) -> str:
        return "\n\n".join(map(str, self.parts)) if self.parts else f"{self._title}: no difference"

    def _repr_html_(self) -> str:
        if not self.parts:
            return literal(html.escape(inert(repr(self))))
        return literal("".join(part.html for part in self.parts))


class History:
    """What happened to a registered name, oldest first: iterate over it, or ``frame()``. ``now`` is where its aliases are."""

    def __init__(self, story: histories.Story) -> None:
        self._story = story

    @property
    def now(self) -> dict[str, int]:
        """Alias -> version."""
        return dict(self._story.found.aliases)

    @property
    def kind(self) -> str:
        """model, prompt or bundle."""
        return self._story.found.kind

    def frame(self) -> Any:
        """All lines as a DataFrame."""
        import pandas

        return pandas.DataFrame([dataclasses.asdict(line) for line in self], columns=[field.name for field in dataclasses.fields(Move)])

    def __iter__(self) -> Iterator[Move]:
        return iter(self._story.moves)

    def __len__(self) -> int:
        return len(self._story.moves)

    def __repr__(self) -> str:
        return f"{self._head}\n{self._table[0]}" if len(self) else self._head

    def _repr_html_(self) -> str:
        under = note([f"{len(self)} audit entries" if len(self) != 1 else "1 audit entry"])
        return literal(f"<b>{html.escape(inert(self._head))}</b>{self._table[1] if len(self) else ''}{under}")

    @property
    def _head(self) -> str:
        where = ", ".join(f"@{alias} -> {version}" for alias, version in self.now.items())
        latest = self._story.found.latest
        return f"{self.kind} {self._story.found.name}, {latest} version{'' if latest == 1 else 's'}; {where or 'no alias points at one'}"

    @property
    def _table(self) -> tuple[str, str]:
        return table(("#", "when (UTC)", "who", "what", "why"), [_line(move) for move in self])


_SHOWN = 300  # characters of a reason; frame() has all of them


def _line(move: Move) -> tuple[Any, ...]:
    gate = f"gate: entry {move.gate}" if move.gate else f"run {move.run_id[:8]}" if move.run_id else ""
    why = [clipped(move.why, _SHOWN), f"approved by {move.approver}" if move.approver else "", gate]
    return move.seq, move.at[:19].replace("T", " "), move.actor, _what(move), "; ".join(part for part in why if part)


def _what(move: Move) -> str:
    version = "none" if move.version is None else move.version
    before = "none" if move.previous is None else move.previous
    if move.what in ("promoted", "rolled_back", "elsewhere", "promoting", "rolling_back"):
        return f"{_WORDS[move.what]} @{move.alias}: {before} -> {version}"
    if move.what == "refused" and (move.version is None or not move.alias):
        return f"refused: rollback of @{move.alias}" if move.alias else f"refused: retiring {version}"
    return f"{_WORDS.get(move.what, move.what)} {version}{f' to @{move.alias}' if move.alias else ''}"


_WORDS = {
    "promoted": "promoted",
    "rolled_back": "rolled back",
    "elsewhere": "moved elsewhere",
    "promoting": "being promoted",
    "rolling_back": "being rolled back",
    "already_there": "already there:",
    "abandoned": "begun and not made:",
    "gate": "gate of",
}
