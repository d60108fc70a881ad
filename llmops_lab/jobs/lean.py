"""What keeps a small job small: loading modules must not cost more than the job itself."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_GRAMMAR = "rfc3987_syntax"
NEEDED = ("nbclient.client", "nbformat.v4", "jupyter_client.asynchronous", "jupyter_client.provisioning.local_provisioner")
"""What every runner imports."""


def load() -> None:
    """Import what every runner needs, at the least cost; a warm runner has it."""
    with loading():
        spare_grammar()
        for name in NEEDED:
            importlib.import_module(name)


def spare_grammar() -> None:
    """Import jsonschema, which nbformat imports, without the grammar of international addresses that it compiles as it is loaded.

    That takes two seconds of CPU, more than a kernel's whole start. Without it jsonschema takes any text for an ``iri``; nothing in a
    notebook's schema is one. Where jsonschema or the grammar is loaded already, nothing changes; the kernel has its own, whole.
    """
    if "jsonschema" in sys.modules or _GRAMMAR in sys.modules:
        return
    sys.modules[_GRAMMAR] = None  # type: ignore[assignment]  # "is not installed", for as long as jsonschema looks for it
    try:
        importlib.import_module("jsonschema")
    finally:
        del sys.modules[_GRAMMAR]


@contextmanager
def loading() -> Iterator[None]:
    """Let the garbage collector rest while a runner loads what it needs.

    MLflow and the opening of its store make half a million objects that stay, and the collector would look through them again and
    again: a quarter of their CPU. All that is there is set aside afterwards: this is for a process that has nothing but its job.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
