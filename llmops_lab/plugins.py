"""Scorers, models and embedders are found here: a folder scan plus entry points. Nothing is imported until it is asked for.

A plugin is one module. Its name is the file's stem, its summary the first line of its docstring. Files that begin
with ``_`` are the kind's own machinery. A third party ships one through the entry-point group
``llmops_lab.<kind>`` (for example ``llmops_lab.scorers``); the built-in of the same name wins, so that a package cannot
silently change what ``exact`` means.
"""

from __future__ import annotations

import ast
import importlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from llmops_lab.errors import UnknownName

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_SINGULAR = {"scorers": "scorer", "models": "model provider", "embedders": "embedder"}


def names(kind: str) -> list[str]:
    """The names of all plugins of a kind (``scorers``, ``models``, ``embedders``), sorted; imports none of them."""
    return sorted({*_files(kind), *_entry_points(kind)})


def find(kind: str, name: str) -> ModuleType:
    """Import and return one plugin. Raises UnknownName, with close matches, when there is none."""
    if name in _files(kind):
        return importlib.import_module(f"llmops_lab.{kind}.{name}")
    if name in _entry_points(kind):
        loaded: ModuleType = _entry_points(kind)[name].load()
        return loaded
    raise UnknownName(_SINGULAR.get(kind, kind), name, names(kind))


def summary(kind: str, name: str) -> str:
    """The first line of a plugin's docstring, read without importing a built-in."""
    path = _files(kind).get(name)
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) if path else find(kind, name).__doc__
    return (doc or "").strip().partition("\n")[0]


@cache
def _files(kind: str) -> dict[str, Path]:
    folder = Path(__file__).parent / kind
    return {path.stem: path for path in folder.glob("*.py") if not path.stem.startswith("_")}


@cache
def _entry_points(kind: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=f"llmops_lab.{kind}")}
