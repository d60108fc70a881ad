"""What keeps a small job small: an import that costs more than the job itself, and that no job needs."""

from __future__ import annotations

import importlib
import sys

_GRAMMAR = "rfc3987_syntax"


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
