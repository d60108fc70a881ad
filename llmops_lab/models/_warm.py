"""Local models that were asked last stay loaded, so that the next question or grid does not wait for them again."""

from __future__ import annotations

import os
import threading

from llmops_lab.models._provider import Provider

_KEPT = 2
"""So many models stay loaded, or all of the last call's where it used more."""
_lock = threading.Lock()
_left: dict[tuple[int, str], Provider] = {}
"""(process, identity) -> model, the one that was left last at the end. After a fork the parent's models are not the child's."""


def warm(provider: Provider) -> Provider:
    """The same model as it was left loaded, with this one's price; else the provider itself. A retrained model is another one."""
    with _lock:
        kept = _left.get((os.getpid(), provider.identity))
        if kept is None or not provider.local:
            return provider
        kept.price = provider.price
        return kept


async def leave(*providers: Provider) -> None:
    """Close providers. Local ones stay loaded; those that were left longest ago are closed in their place."""
    closing: list[Provider] = [provider for provider in providers if not provider.local]
    with _lock:
        for provider in providers:
            if provider.local:
                place = (os.getpid(), provider.identity)
                before = _left.pop(place, provider)
                _left[place] = provider
                closing += [before] if before is not provider else []
        most = max(_KEPT, len(providers))
        closing += [_left.pop(place) for place in list(_left)[: max(0, len(_left) - most)]]
    for provider in closing:
        await provider.close()
