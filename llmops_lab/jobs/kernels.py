"""Which kernels a job can have: those installed here, and those of a Jupyter gateway where one is configured (``gateway:NAME``)."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any

from llmops_lab.errors import UnknownName
from llmops_lab.settings import Settings

GATEWAY = "gateway:"
DEFAULT = "python3"
_GATEWAY = "llmops_lab.server.gateway"  # found by name: only there jupyter_server may be known


def names(settings: Settings) -> dict[str, str]:
    """Kernel -> what it is called for people. Raises Unreachable when the gateway does not answer."""
    return _local() | {GATEWAY + name: label for name, label in _remote(settings).items()}


def check(kernel: str, settings: Settings) -> None:
    """Raises UnknownName with the known kernels, or Unreachable when it is a gateway's and that does not answer."""
    known = _local()
    if kernel in known:
        return
    if kernel.startswith(GATEWAY):
        known |= {GATEWAY + name: label for name, label in _remote(settings).items()}
    if kernel not in known:
        hint = "" if gateway(settings) or not kernel.startswith(GATEWAY) else "For kernels of a gateway, set kernel_gateway to its URL."
        raise UnknownName("kernel", kernel, known, hint)


def manager_for(kernel: str | None, settings: Settings) -> tuple[type[Any], str | None]:
    """(the class that starts and stops such a kernel, as nbclient's ``kernel_manager_class`` takes it; the kernel's name for it)."""
    if kernel and kernel.startswith(GATEWAY):
        return importlib.import_module(_GATEWAY).manager_for(gateway(settings)), kernel.removeprefix(GATEWAY)
    from jupyter_client import AsyncKernelManager

    return AsyncKernelManager, kernel


def gateway(settings: Settings) -> str:
    """The URL of the gateway; empty when none is configured."""
    return settings.kernel_gateway or os.environ.get("JUPYTER_GATEWAY_URL", "")


def argv(kernel: str) -> list[str]:
    """How an installed kernel is started; empty when there is no such kernel here."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    with contextlib.suppress(NoSuchKernel):
        return list(KernelSpecManager().get_kernel_spec(kernel).argv)
    return []


def is_this_python(kernel: str) -> bool:
    """Whether a kernel runs in the Python that asks, so that what is installed here is installed there."""
    program = (argv(kernel) or [""])[0]
    return program in ("python", "python3") or os.path.dirname(program) == os.path.dirname(sys.executable)


def _local() -> dict[str, str]:
    from jupyter_client.kernelspec import KernelSpecManager

    specs = KernelSpecManager().get_all_specs()
    return {name: str(found["spec"].get("display_name") or name) for name, found in specs.items()}


def _remote(settings: Settings) -> dict[str, str]:
    url = gateway(settings)
    found: dict[str, str] = importlib.import_module(_GATEWAY).names(url) if url else {}
    return found
