"""What an alias asks of a version before it may point at it, and who may say yes. Pure rules over names and settings."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput, UnknownName, meant

_KEYS = ("aliases", "gate", "approval", "in_order")


@dataclass(frozen=True, slots=True)
class Rules:
    """The table ``release`` of the settings. ``aliases`` are in the order in which a version goes through them.

    ``gate`` are those that ask for a passing gate, ``approval`` those that ask for a second person. ``in_order``: one that asks for a
    gate also asks that the version was in the one before it that does.
    """

    aliases: tuple[str, ...] = ("dev", "staging", "production")
    gate: tuple[str, ...] = ("staging", "production")
    approval: tuple[str, ...] = ()
    in_order: bool = True

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Rules:
        """The rules that the settings give. Raises BadInput for a rule that does not exist, or that no alias can follow."""
        for key in table:
            if key not in _KEYS:
                hint = meant(key, _KEYS) or f" Known: {', '.join(_KEYS)}."
                raise BadInput(f"release sets {key!r}, which is no rule.{hint}")
        in_order = table.get("in_order", True)
        if not isinstance(in_order, bool):
            raise BadInput(f"release: in_order must be true or false, not {in_order!r}.")
        aliases = _names("aliases", table.get("aliases", cls().aliases))
        guarded = {key: _names(key, table.get(key, [each for each in getattr(cls(), key) if each in aliases])) for key in _KEYS[1:3]}
        for key, names in guarded.items():
            for name in names:
                if name not in aliases:
                    raise BadInput(f"release: {key} names {name!r}, which is none of the aliases {', '.join(aliases)}.")
        return cls(aliases, guarded["gate"], guarded["approval"], in_order)

    def checked(self, alias: str) -> str:
        """The alias, when there is such a one. Raises UnknownName."""
        if alias not in self.aliases:
            raise UnknownName(
                "alias", str(alias), self.aliases, 'Another one is added in pyproject.toml: [tool.llmops_lab.release] aliases = ["..."].'
            )
        return alias

    def asks(self, alias: str) -> str:
        """What the alias asks for, in words; empty where it is free."""
        return " and ".join(what for what, names in (("a gate", self.gate), ("an approver", self.approval)) if alias in names)

    def before(self, alias: str) -> str:
        """The alias in which a version must have been before it comes to this one; empty where none is asked for."""
        earlier = [name for name in self.aliases[: self.aliases.index(alias)] if name in self.gate]
        return earlier[-1] if self.in_order and alias in self.gate and earlier else ""


def check_approver(rules: Rules, alias: str, *, promoter: str, authors: Iterable[str], approver: str) -> None:
    """Raises BadInput where a second person is asked for and none is named, or the one named is the promoter or an author.

    ``authors``: under whose names the version was made, as MLflow and as the audit log have it.
    """
    authors = [each for each in dict.fromkeys(authors) if _plain(each)]
    if not _plain(approver):
        if alias in rules.approval:
            wrote = " or ".join(authors) or "unknown"
            raise BadInput(f"{alias} asks for an approver: neither the author ({wrote}) nor you ({promoter}). Name one.")
        return
    for who, name in (("promotes it", promoter), *(("wrote it", author) for author in authors)):
        if _plain(approver) == _plain(name):
            raise BadInput(f"{approver.strip()} cannot approve this version, for the same person {who}. Ask a second one.")


def _plain(name: str) -> str:
    """A name without what the eye does not see: case, spaces, invisible characters, and forms that Unicode holds to be the same."""
    seen = [each for each in unicodedata.normalize("NFKC", name) if each.isspace() or unicodedata.category(each) not in ("Cf", "Cc")]
    shown = "".join(seen)
    return " ".join(unicodedata.normalize("NFKC", shown.casefold()).split())


def _names(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(name, str) and name.strip() for name in value):
        raise BadInput(f"release: {key} must be a list of aliases, not {value!r:.80}.")
    if key == "aliases" and not value:
        raise BadInput('release: aliases is empty. Name at least one, as in aliases = ["staging", "production"].')
    return tuple(value)
