"""How a view gets in front of a person: live where a notebook with a person is, else as its static twin."""

from __future__ import annotations

import importlib
import sys
import weakref
from typing import Any

from llmops_lab.api.views._view import View

_WIDGETS = "llmops_lab.widgets"  # found by name, as a plugin is: a handle knows no face
_last: tuple[weakref.ref[object], int] | None = None  # whose view was shown last, and in which cell


def show(view: View, of: object = None) -> None:
    """Display the view in the cell that runs; outside of a notebook, print it. ``of``: what a person holds of it, for ``display``."""
    global _last
    shell = kernel_shell()
    if shell is None:
        sys.stdout.write(f"{view.page()[0]}\n")
        return
    _last = None if of is None else (weakref.ref(of), shell.execution_count)
    data, metadata = mimebundle(view)
    importlib.import_module("IPython.display").display(data, metadata=metadata, raw=True)


def display(view: View, of: object) -> None:
    """What stands in a cell's last line: shown, unless this cell has shown it already."""
    shell = kernel_shell()
    if shell is None or _last is None or (_last[0](), _last[1]) != (of, shell.execution_count):
        show(view, of)


def mimebundle(view: View) -> tuple[dict[str, Any], dict[str, Any]]:
    """(data, metadata) of the view, for a handle's ``_repr_mimebundle_``."""
    if kernel_shell() is None:
        plain, page = view.page()
        return {"text/plain": plain, "text/html": page}, {}
    bundle: tuple[dict[str, Any], dict[str, Any]] = importlib.import_module(_WIDGETS).bundle(view)
    return bundle


def is_live(shell: Any) -> bool:
    """Whether somebody watches this notebook.

    nbclient (and with it papermill and nbconvert) and nbval run cells without a way to ask for input; a frontend with a person has one. A
    plain terminal cannot change what it has printed.
    """
    kernel = getattr(shell, "kernel", None)
    return bool(kernel is not None and getattr(kernel, "_allow_stdin", False))


def in_kernel() -> bool:
    """Whether this process is a kernel, so that what is displayed becomes an output of a cell."""
    return kernel_shell() is not None


def kernel_shell() -> Any:
    """IPython's shell in a kernel, or None. IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell if getattr(shell, "kernel", None) is not None else None
