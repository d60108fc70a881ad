"""What is served: releases by name, and the switch from one version to the next while requests are in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmops_lab.errors import meant
from llmops_lab.records import Reply, Request
from llmops_lab.serving.protocol import ApiError, Asked


class Ask(Protocol):
    """One question to a loaded model; a stream where ``on_text`` is given. Raises ProviderFault."""

    async def __call__(self, request: Request, *, on_text: Callable[[str], None] | None = None) -> Reply:
        """The whole reply, with its cost where that is known."""
        ...


@dataclass(eq=False)
class Release:
    """One version of what a name stands for, loaded and ready.

    ``digest`` covers all that decides a reply to a given request: model, prompts, parameters. ``prepare`` makes the request that the
    model gets (raises BadInput); ``most_usd`` is the most that it can cost, None where no price is known.
    ``sure`` says whether a request gets the same reply each time; ``engine`` is what was opened, for a later version to share.
    """

    name: str
    version: str
    digest: str
    model: str
    ask: Ask
    prepare: Callable[[Asked], Request]
    most_usd: Callable[[Request], float | None]
    sure: Callable[[Request], bool]
    close: Callable[[], Awaitable[None]]
    engine: Any = None
    links: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    since: float = field(default_factory=time.time)
    in_flight: int = 0
    retired: bool = False

    async def leave(self) -> None:
        """A request has ended; the last one of a version that was replaced closes it."""
        self.in_flight -= 1
        if self.retired and self.in_flight == 0:
            await self.close()


class Shelf:
    """The current release of each name. Used on the server's event loop alone."""

    def __init__(self, releases: list[Release]) -> None:
        self.current: dict[str, Release] = {}
        self.problems: dict[str, str] = {}
        self._names: dict[str, str] = {}
        for release in releases:
            self.current[release.name] = release
            self._names |= {alias: release.name for alias in release.aliases if alias not in self._names}
        self._names |= {name: name for name in self.current}

    def enter(self, name: str) -> Release:
        """The release that a request named; it stays open until ``leave``. Raises ApiError 404."""
        found = self._names.get(name)
        if found is None:
            message = f"no model called {name!r:.200} is served here.{meant(name, self._names)} Known: {', '.join(self.current)}."
            raise ApiError(404, message, code="model_not_found", param="model")
        release = self.current[found]
        release.in_flight += 1
        return release

    async def switch(self, release: Release) -> None:
        """From now on this one answers; what is in flight ends on the old one."""
        old, self.current[release.name] = self.current[release.name], release
        self.problems.pop(release.name, None)
        old.retired = True
        if old.in_flight == 0:
            await old.close()

    async def close(self) -> None:
        """Let go of all."""
        await asyncio.gather(*(release.close() for release in self.current.values()))
