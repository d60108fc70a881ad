"""Serve models: a spec such as ``tiny``, as an OpenAI-compatible server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from llmops_lab.models._ask import most_it_can_cost, open_model
from llmops_lab.models._provider import Provider
from llmops_lab.records import Reply, Request, digest
from llmops_lab.serving.release import Release
from llmops_lab.settings import Settings, load


def serve(names: Sequence[str], *, host: str, port: int, ready: Callable[[str], None], settings: Settings | None = None) -> bool:
    """Serve until SIGINT or SIGTERM; False when requests were cut off at the end."""
    from llmops_lab.serving.app import Desk, make_app
    from llmops_lab.serving.listen import bound, run
    from llmops_lab.serving.release import Shelf

    settings = settings or load()
    at = bound(host, port)
    with at:
        shelf = Shelf([_of_model(name, settings) for name in names])
        url = f"http://{host}:{at.getsockname()[1]}/v1"
        return run(make_app(Desk(shelf)), at, ready=lambda: ready(url))


def _of_model(spec: str, settings: Settings) -> Release:
    provider = open_model(spec, settings)

    return Release(
        name=spec,
        version="",
        digest=digest([provider.identity]),
        model=spec,
        ask=_asker(provider, settings.timeout),
        prepare=lambda wanted: wanted.request,
        most_usd=lambda request: None if provider.price is None else most_it_can_cost(request, provider.price, settings.timeout),
        sure=lambda request: _is_sure(provider, request),
        close=provider.close,
    )


def _asker(provider: Provider, timeout: float) -> Any:
    async def ask(request: Request, *, on_text: Callable[[str], None] | None = None) -> Reply:
        reply = await provider.ask(request, timeout=timeout, on_text=on_text)
        if provider.price is None or reply.cost_usd is not None:
            return reply
        return dataclasses.replace(reply, cost_usd=provider.price.cost(reply.usage, reply.latency_s))

    return ask


def _is_sure(provider: Provider, request: Request) -> bool:
    temperature = request.params.get("temperature", 0 if provider.local else None)
    return temperature == 0 or request.params.get("seed") is not None
