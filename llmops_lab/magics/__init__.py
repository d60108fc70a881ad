"""The magics of a notebook: ``%%prompt``, ``%prompt``, ``%%grid``, ``%grid``, ``%lab``. One module a group; this folder is their list.

``%load_ext llmops_lab`` adds them to a shell and ``%unload_ext llmops_lab`` takes away all that was added. What stood there before under
the same names comes back.
"""

from __future__ import annotations

import importlib
import re
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from IPython.core.magic import Magics


@dataclass
class _Added:
    """What loading changed in one shell."""

    before: list[tuple[str, str, Any]] = field(default_factory=list)
    objects: list[Magics] = field(default_factory=list)
    transform: Any = None


_added: weakref.WeakKeyDictionary[Any, _Added] = weakref.WeakKeyDictionary()


def load_ipython_extension(ipython: Any) -> None:
    """Register all magics, the completion of their arguments, and ``%config LLMOpsLab``. Loading again changes nothing."""
    if ipython in _added:
        return
    added = _added[ipython] = _Added()
    manager = ipython.magics_manager
    for kind in _magics_classes():
        for scope, names in kind.magics.items():
            added.before += [(scope, name, manager.magics[scope].get(name)) for name in names]
        added.objects.append(kind(ipython))
        manager.register(added.objects[-1])
    cells = [re.escape(name) for scope, name, _ in added.before if scope == "cell"]
    added.transform = _body_giver(re.compile(rf"%%(?:{'|'.join(cells)})(?:\s|$)"))
    ipython.input_transformers_cleanup.append(added.transform)
    _further("install", ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take away what ``load_ipython_extension`` added."""
    added = _added.pop(ipython, None)
    if added is None:
        return
    manager = ipython.magics_manager
    for scope, name, before in added.before:
        if before is None:
            manager.magics[scope].pop(name, None)
        else:
            manager.magics[scope][name] = before
    for each in added.objects:
        manager.registry.pop(type(each).__name__, None)
    ours = {id(each) for each in added.objects}
    ipython.configurables[:] = [each for each in ipython.configurables if id(each) not in ours]  # a Magics object adds itself there
    ipython.input_transformers_cleanup.remove(added.transform)
    _further("remove", ipython)


def _magics_classes() -> Iterator[type[Magics]]:
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        module = importlib.import_module(f"llmops_lab.magics.{path.stem}")
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, Magics) and each.__module__ == module.__name__:
                yield each


def _body_giver(first_line: re.Pattern[str]) -> Any:
    # IPython refuses a cell magic without a body by a message on stderr, which nbval takes for success, and so refuses `%%prompt -h` too.
    def give_body(lines: list[str]) -> list[str]:
        if len(lines) == 1 and first_line.match(lines[0]):
            return [lines[0].rstrip("\n") + "\n", "\n"]
        return lines

    return give_body


def _further(what: str, ipython: Any) -> None:
    for name in ("_complete", "_config"):
        getattr(importlib.import_module(f"llmops_lab.magics.{name}"), what)(ipython)
