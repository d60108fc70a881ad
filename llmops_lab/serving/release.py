"""What is served: releases by name, and the switch from one version to the next while requests are in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmops_lab.errors import meant
from llmops_lab.records import Reply, Request, Usage
from llmops_lab.serving.asked import Asked
from llmops_lab.serving.protocol import ApiError

OnChoices = Callable[[list[dict[str, Any]]], None]


class Ask(Protocol):
    """One question to a loaded model; a stream where ``on_choices`` is given. Raises ProviderFault."""

    async def __call__(self, request: Request, *, on_choices: OnChoices | None = None) -> Reply:
        """The whole reply, with its cost where that is known. A stream's events are handed over as their choices.

        A reply that came in one piece although a stream was asked for is only returned.
        """
        ...


@dataclass
class Made:
    """What a model has written so far, as far as it was seen: pieces of a stream, and letters in them."""

    began: float = field(default_factory=time.perf_counter)
    pieces: int = 0
    letters: int = 0

    def add(self, choices: list[dict[str, Any]]) -> None:
        """Take the choices of one event in."""
        for choice in choices:
            letters = _letters(choice.get("delta"))
            self.pieces += bool(letters)
            self.letters += letters


def _letters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_letters(each) for name, each in value.items() if name not in ("role", "type", "id"))
    return sum(map(_letters, value)) if isinstance(value, list) else 0


@dataclass(eq=False)
class Release:
    """One version of what a name stands for, loaded and ready.

    ``digest`` covers all that decides a reply to a given request: model, prompts, parameters. ``prepare`` makes the request that the
    model gets (raises BadInput, ApiError); ``most_usd`` is the most that it can cost, None where no price is known; ``so_far`` guesses
    tokens and USD of a call whose end nobody told.
    ``sure`` says whether a request gets the same reply each time; ``engine`` is what was opened, for a later version to share.
    """

    name: str
    version: str
    digest: str
    model: str
    ask: Ask
    prepare: Callable[[Asked], Request]
    most_usd: Callable[[Request], float | None]
    so_far: Callable[[Request, Made], tuple[Usage, float | None]]
    sure: Callable[[Request], bool]
    close: Callable[[], Awaitable[None]]
    engine: Any = None
    links: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    since: float = field(default_factory=time.time)
    in_flight: int = 0
    retired: bool = False


class Shelf:
    """The current release of each name. Used on the server's event loop alone. ``say`` hears of one that cannot be closed."""

    def __init__(self, releases: list[Release], say: Callable[[str], None]) -> None:
        self._say = say
        self.current: dict[str, Release] = {}
        self.problems: dict[str, str] = {}
        self._names: dict[str, str] = {}
        for release in releases:
            self.current[release.name] = release
            self._names |= {alias: release.name for alias in release.aliases if alias not in self._names}
        self._names |= {name: name for name in self.current}

    def find(self, name: str) -> Release:
        """The release that a request named. Raises ApiError 404."""
        found = self._names.get(name)
        if found is None:
            message = f"no model called {name!r:.200} is served here.{meant(name, self._names)} Known: {', '.join(self.current)}."
            raise ApiError(404, message, code="model_not_found", param="model")
        return self.current[found]

    def enter(self, name: str) -> Release:
        """The same; it stays open until ``leave``."""
        release = self.find(name)
        release.in_flight += 1
        return release

    async def leave(self, release: Release) -> None:
        """A request has ended; the last one of a version that was replaced closes it."""
        release.in_flight -= 1
        if release.retired and release.in_flight == 0:
            await self._let_go(release)

    async def switch(self, release: Release) -> None:
        """From now on this one answers; what is in flight ends on the old one."""
        old, self.current[release.name] = self.current[release.name], release
        self.problems.pop(release.name, None)
        old.retired = True
        if old.in_flight == 0:
            await self._let_go(old)

    async def close(self) -> None:
        """Let go of all."""
        await asyncio.gather(*map(self._let_go, self.current.values()))

    async def _let_go(self, release: Release) -> None:
        try:
            await release.close()
        except Exception as error:  # whatever a model throws at its end: it is no concern of the one that answers now
            self._say(f"{release.name}: version {release.version or '-'} could not be closed: {type(error).__name__}: {error}")
