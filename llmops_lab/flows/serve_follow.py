"""A served alias is followed: once it points elsewhere, the new version is loaded and then takes over; a broken one does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from llmops_lab.errors import LabError
from llmops_lab.flows.resolve import address, pointer
from llmops_lab.flows.serve_release import is_model, load
from llmops_lab.serving.metrics import Metrics
from llmops_lab.serving.release import Shelf
from llmops_lab.settings import Settings

_EVERY_S = 1.0
_AGAIN_S = 30.0
"""A version that could not be served is tried again after so long, or as soon as the alias moves."""


async def follow(name: str, shelf: Shelf, metrics: Metrics, settings: Settings, *, say: Callable[[str], None]) -> None:
    """Follow one ``NAME@ALIAS`` until cancelled. Returns at once for what never moves."""
    if is_model(name) or isinstance(address(name)[1], int):
        return
    failed: tuple[int, float] = (0, 0.0)
    while True:
        await asyncio.sleep(_EVERY_S)
        wanted = 0
        try:
            wanted = await asyncio.to_thread(pointer, *_parts(name), settings)
            if str(wanted) == shelf.current[name].version:
                _well(name, shelf, metrics, say)
            elif wanted != failed[0] or time.monotonic() > failed[1]:
                await _switch(name, shelf, metrics, settings, say)
        except Exception as error:  # whatever a broken version or MLflow throws: the one that serves goes on
            failed = (wanted, time.monotonic() + _AGAIN_S)
            _stuck(name, shelf, metrics, say, f"version {wanted} cannot be served" if wanted else "the alias cannot be looked up", error)


def _parts(name: str) -> tuple[str, str]:
    registered, alias = address(name)
    return registered, str(alias)


async def _switch(name: str, shelf: Shelf, metrics: Metrics, settings: Settings, say: Callable[[str], None]) -> None:
    before = shelf.current[name].version
    release = await load(name, settings, beside=shelf.current)
    await shelf.switch(release)
    metrics.serving(name, release.version, release.digest)
    say(f"{name}: version {release.version} has taken over from {before}")


def _well(name: str, shelf: Shelf, metrics: Metrics, say: Callable[[str], None]) -> None:
    if shelf.problems.pop(name, ""):
        metrics.stuck(name, False)
        say(f"{name}: well again, version {shelf.current[name].version} answers")


def _stuck(name: str, shelf: Shelf, metrics: Metrics, say: Callable[[str], None], what: str, error: Exception) -> None:
    reason = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
    problem = f"{what}: {reason}"
    if shelf.problems.get(name) != problem:
        say(f"{name}: {problem} Version {shelf.current[name].version} goes on answering.")
    shelf.problems[name] = problem
    metrics.stuck(name, True)
