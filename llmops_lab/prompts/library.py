"""The prompt library: versions with a content hash, authors, aliases with their history and rollback, and word diffs.

Equal content is the same version. A version whose text no longer matches the hash it was saved with is refused. Alias moves made by
other tools are seen, but only moves made here are in the history.
"""

from __future__ import annotations

import getpass
import html
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from llmops_lab.errors import BadInput, TamperedPrompt, UnknownName
from llmops_lab.prompts.diff import Diff, as_text, diff, title
from llmops_lab.prompts.files import SCHEME, load_prompt
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import digest
from llmops_lab.redact import Redactor
from llmops_lab.track.prompts import AliasMove, PromptName, StoredPrompt

_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,200}")
_ALIAS = re.compile(r"[A-Za-z0-9_\-]{1,100}")
_RESERVED = re.compile(r"latest|v\d+|\d+", re.IGNORECASE)


class Registry(Protocol):
    """What the library stands on; ``track.prompts.Registry`` is one, on MLflow."""

    def names(self) -> list[PromptName]:
        """All prompts."""
        ...

    def find(self, name: str) -> PromptName | None:
        """One prompt, or None."""
        ...

    def get(self, name: str, version: int) -> StoredPrompt:
        """One version."""
        ...

    def versions(self, name: str) -> list[StoredPrompt]:
        """All versions, newest first."""
        ...

    def with_hash(self, name: str, sha256: str) -> list[int]:
        """Versions with this content, oldest first."""
        ...

    def create(self, draft: StoredPrompt) -> int:
        """Write a new version."""
        ...

    def set_alias(self, move: AliasMove, name: str) -> None:
        """Move an alias and remember it."""
        ...

    def moves(self, name: str, alias: str) -> list[AliasMove]:
        """An alias' history, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One line of a prompt's list of versions. ``sha256`` is None for a version that another tool saved."""

    name: str
    version: int
    aliases: tuple[str, ...]
    author: str
    message: str
    created: datetime
    sha256: str | None


@dataclass(frozen=True)
class Shown:
    """A version laid out for reading: text in a terminal, escaped HTML in a notebook."""

    prompt: Prompt
    info: VersionInfo

    def __str__(self) -> str:
        return f"{self._head}\n\n{as_text(self.prompt)}"

    def _repr_html_(self) -> str:
        body = html.escape(as_text(self.prompt))
        return f'<div class="llmops-prompt"><small>{html.escape(self._head)}</small><pre style="white-space:pre-wrap">{body}</pre></div>'

    @property
    def _head(self) -> str:
        info = self.info
        aliases = "".join(f" @{alias}" for alias in info.aliases)
        author = f" by {info.author}" if info.author else ""
        note = f": {info.message}" if info.message else ""
        return f"{info.name}/{info.version}{aliases}{author}, {info.created:%Y-%m-%d %H:%M} UTC, sha256 {self.prompt.sha256[:12]}{note}"


class Library:
    """Saved prompts. A prompt is named ``NAME`` (its latest version), ``NAME/VERSION`` or ``NAME@ALIAS``, with or without ``prompts:/``."""

    def __init__(self, registry: Registry, *, may_move: Callable[[str, str, int | str | None], object] = lambda *move: None) -> None:
        """``may_move`` is called with a name, an alias and a version (None: where it was before) and raises where that is not for here."""
        self._registry = registry
        self._may_move = may_move

    def save(self, prompt: Prompt | str | Sequence[Any], name: str = "", *, author: str = "", message: str = "", alias: str = "") -> int:
        """Save a prompt and return its version number; equal content is not saved twice. ``alias`` is moved to it.

        Known secrets are redacted first. The author is the one given, else the prompt's own, else the JupyterHub user, git's
        ``user.name`` or the login name. Raises BadInput for a name that MLflow cannot keep or a prompt that is too long.
        """
        prompt = load_prompt(prompt, fetch=self.get)
        name = _checked_name(name or prompt.name)
        if alias:
            self._may_move(name, _checked_alias(alias), "VERSION")
        redact = Redactor()
        content = redact.tree(prompt.content)
        stored = Prompt.from_content(content)
        sha256 = digest(content)
        known = self._registry.with_hash(name, sha256) if self._registry.find(name) else []
        version = (
            known[0] if known else self._registry.create(_draft(stored, name, sha256, author or prompt.author or _who(), redact(message)))
        )
        if alias:
            self.alias(name, alias, version, author=author)
        return version

    def get(self, name: str, version: int | str | None = None) -> Prompt:
        """One version, by number, by alias or the latest. Raises UnknownName, or TamperedPrompt when its text was changed afterwards."""
        return _verified(self._stored(name, version))

    def list(self) -> Sequence[PromptName]:
        """All prompts with their latest version and aliases, sorted by name."""
        return self._registry.names()

    def versions(self, name: str) -> Sequence[VersionInfo]:
        """All versions of a prompt, newest first."""
        name, _ = _parsed(name, None)
        self._known(name)
        return [_info(stored) for stored in self._registry.versions(name)]

    def show(self, name: str, version: int | str | None = None) -> Shown:
        """One version laid out for reading."""
        stored = self._stored(name, version)
        return Shown(_verified(stored), _info(stored))

    def diff(self, a: str | Prompt, b: str | Prompt | None = None) -> Diff:
        """The word diff from a to b, each an address or a prompt. ``diff("qa")`` compares the latest version with the one before."""
        if b is None:
            if isinstance(a, Prompt):
                raise BadInput("diff needs two prompts, or the name of one that has two versions.")
            name, version = _parsed(a, None)
            new = self.get(name, version)
            earlier = [item.version for item in self.versions(name) if item.version < (new.version or 0)]
            if not earlier:
                raise BadInput(f"{title(new)} is the first version, so there is nothing to compare it with.")
            return diff(self.get(name, earlier[0]), new)
        old, new = (item if isinstance(item, Prompt) else self.get(item) for item in (a, b))
        return diff(old, new)

    def alias(self, name: str, alias: str, version: int | str | None = None, *, author: str = "") -> int:
        """Point an alias at a version (default: the latest), which must be whole, and return the version.

        Raises BadInput for an alias that the settings guard by a gate or an approver: ``lab.promote`` moves that one.
        """
        target = self.get(_parsed(name, None)[0], _parsed(name, version)[1])
        self._may_move(target.name, _checked_alias(alias), target.version)
        self._move(target.name, alias, target.version, author)
        return int(target.version or 0)

    def unalias(self, name: str, alias: str, *, author: str = "") -> None:
        """Take an alias away; its history stays."""
        name, _ = _parsed(name, None)
        self._version_of(self._known(name), alias)
        self._may_move(name, alias, None)
        self._move(name, alias, None, author)

    def history(self, name: str, alias: str) -> Sequence[AliasMove]:
        """Where an alias pointed, oldest first. A move by another tool shows as a ``previous`` that is not the ``version`` before."""
        name, _ = _parsed(name, None)
        self._known(name)
        return self._registry.moves(name, _checked_alias(alias))

    def rollback(self, name: str, alias: str, *, author: str = "") -> int:
        """Move an alias back to where it pointed before, and say where that is. Repeated, it goes back further.

        Raises BadInput when there is no earlier version, TamperedPrompt when that version was changed meanwhile.
        """
        name, _ = _parsed(name, None)
        current = self._known(name).aliases.get(_checked_alias(alias))
        self._may_move(name, alias, None)
        earlier = _trail(self._registry.moves(name, alias), current)
        if not earlier:
            raise BadInput(
                f"alias {alias!r} of prompt {name!r} has no earlier version to go back to. Its history: history({name!r}, {alias!r})."
            )
        target = self.get(name, earlier[-1])
        self._move(name, alias, target.version, author, rollback=True)
        return int(target.version or 0)

    def _move(self, name: str, alias: str, version: int | None, author: str, *, rollback: bool = False) -> None:
        previous = self._known(name).aliases.get(alias)
        if previous != version:
            self._registry.set_alias(AliasMove(alias, version, previous, datetime.now(UTC), author or _who(), rollback), name)

    def _known(self, name: str) -> PromptName:
        found = self._registry.find(name)
        if found is None:
            raise UnknownName("prompt", name, [item.name for item in self._registry.names()])
        return found

    def _stored(self, name: str, version: int | str | None) -> StoredPrompt:
        name, version = _parsed(name, version)
        found = self._known(name)
        if isinstance(version, str):
            version = self._version_of(found, version)
        return self._registry.get(name, found.latest if version is None else version)

    def _version_of(self, found: PromptName, alias: str) -> int:
        if alias.lower() == "latest":
            return found.latest
        if alias not in found.aliases:
            raise UnknownName(f"alias of prompt {found.name!r}", alias, found.aliases)
        return found.aliases[alias]


def _parsed(address: str, version: int | str | None) -> tuple[str, int | str | None]:
    text = address.removeprefix(SCHEME)
    name, at, alias = text.partition("@")
    name, slash, number = (name, "", "") if at else name.partition("/")
    if (at or slash) and version is not None:
        raise BadInput(f"{address} already says which version; leave out {version!r}.")
    if at and not alias:
        raise BadInput(f"{address} names no alias after the @.")
    if slash and not number.isdecimal():
        raise BadInput(
            f"{address}: the version after the / must be a number, as in {name}/3; an alias is written {name}@{number or 'ALIAS'}."
        )
    if isinstance(version, str) and version.isdecimal():
        version = int(version)
    return _checked_name(name), alias or (int(number) if slash else version)


def _checked_name(name: str) -> str:
    if not name:
        raise BadInput("the prompt has no name to save it under. Give one: save(prompt, 'NAME').")
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} cannot name a prompt. Use letters a-z, digits, _, - and . (at most 200, no spaces or slashes).")
    return name


def _checked_alias(alias: str) -> str:
    if not _ALIAS.fullmatch(alias):
        raise BadInput(f"{alias!r} cannot be an alias. Use letters a-z, digits, _ and - (at most 100).")
    if _RESERVED.fullmatch(alias):
        raise BadInput(f"{alias!r} cannot be an alias: it already means a version. Choose a word such as production.")
    return alias


def _draft(prompt: Prompt, name: str, sha256: str, author: str, message: str) -> StoredPrompt:
    content = prompt.content
    template = content["template"]
    if prompt.system is not None:  # other tools shall see the whole conversation
        template = [
            {"role": "system", "content": prompt.system},
            *([{"role": "user", "content": template}] if isinstance(template, str) else template),
        ]
    shape = {"text": isinstance(content["template"], str), "system": prompt.system is not None}
    rest = {"shape": shape, **{key: content[key] for key in ("examples", "pattern", "params", "schema")}}
    return StoredPrompt(name, 0, template, rest, sha256, author, message, datetime.now(UTC), config=prompt.params, schema=prompt.schema)


def _verified(stored: StoredPrompt) -> Prompt:
    origin: dict[str, Any] = {"name": stored.name, "version": stored.version, "author": stored.author}
    if stored.rest is None and stored.sha256 is None:  # saved by another tool, which keeps no hash
        return Prompt(stored.template, params=stored.config or {}, schema=stored.schema, **origin)
    try:
        content = _content(stored)
        whole = stored.sha256 == digest(content)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        whole = False
    if not whole:
        raise TamperedPrompt(
            f"prompt {stored.name}/{stored.version} was changed after it was saved: its content no longer has the hash "
            f"{str(stored.sha256)[:12]}. Look at it in MLflow, and save what you want to keep as a new version."
        )
    return Prompt.from_content(content, **origin)


def _content(stored: StoredPrompt) -> dict[str, Any]:
    rest = dict(stored.rest or {})
    shape = rest.pop("shape")
    template: Any = stored.template
    system = None
    if shape["system"]:
        system, template = template[0]["content"], template[1:]
    if shape["text"] and not isinstance(template, str):
        (only,) = template
        template = only["content"]
    return {"template": template, "system": system, **rest}


def _info(stored: StoredPrompt) -> VersionInfo:
    return VersionInfo(stored.name, stored.version, stored.aliases, stored.author, stored.message, stored.created, stored.sha256)


def _trail(moves: Sequence[AliasMove], current: int | None) -> Sequence[int]:
    """The versions that an alias can go back to, the nearest last."""
    stack: list[int | None] = []
    for move in moves:
        if move.previous != (stack[-1] if stack else None):  # moved by another tool in between
            stack.append(move.previous)
        if move.rollback and move.version in stack:
            while stack[-1] != move.version:
                stack.pop()
        else:
            stack.append(move.version)
    if current is not None and (not stack or stack[-1] != current):
        stack.append(current)
    elif current is None and stack and stack[-1] is not None:
        stack.append(None)
    return [version for version in stack[:-1] if version is not None]


def _who() -> str:
    if os.environ.get("JUPYTERHUB_USER"):
        return os.environ["JUPYTERHUB_USER"]
    try:
        found = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, timeout=2, check=False)  # noqa: S607
        if found.stdout.strip():
            return found.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
