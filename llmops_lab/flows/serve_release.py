"""What a name given to ``serve`` stands for, loaded and ready: a version of a registered name, or a model."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmops_lab import plugins
from llmops_lab.errors import BadInput, ProviderFault
from llmops_lab.flows.resolve import Resolved, address, resolve
from llmops_lab.models._ask import most_it_can_cost, open_model
from llmops_lab.models._provider import Provider
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import Message, Reply, Request, Usage, digest, output_limit
from llmops_lab.serving.protocol import Asked
from llmops_lab.serving.release import Ask, Release
from llmops_lab.settings import Settings

MAIN = "main"
"""The slot of a bundle whose prompt is used where a request names none."""
_LOAD_S = 600.0


def is_model(name: str) -> bool:
    """Whether a name is a model spec, and not a registered name."""
    return name.partition(":")[0] in plugins.names("models")


async def load(name: str, settings: Settings, *, beside: Mapping[str, Release]) -> Release:
    """What ``name`` stands for now: ``NAME@ALIAS``, ``NAME/3`` or a model spec. A local model is in memory when this returns.

    A local model whose base one of ``beside`` has loaded shares it. Raises LabError.
    """
    if is_model(name):
        provider = await asyncio.to_thread(open_model, name, settings)
        release = _release(name, "", digest([provider.identity]), provider, settings, model=name)
    else:
        known = await asyncio.to_thread(resolve, *address(name), settings)
        if known.retired:
            raise BadInput(f"{known.address} was retired. Promote another version, or name one: {known.name}/N.")
        spec = known.model or settings.model
        provider = await asyncio.to_thread(open_model, spec, settings)
        mark = digest([known.digest, provider.identity])
        release = _release(name, str(known.version), mark, provider, settings, model=spec, known=known)
    _share(provider, [other.engine for other in beside.values()])
    await _warm(provider, name)
    return release


def _share(provider: Provider, others: list[Any]) -> None:
    for other in others:
        if hasattr(provider, "join") and provider.join(other):
            return


async def _warm(provider: Provider, name: str) -> None:
    """Load a local model by asking it for one token: what cannot answer is not served."""
    if not provider.local:
        return
    try:
        await provider.ask(Request((Message("user", "ready?"),), {"max_tokens": 1}), timeout=_LOAD_S)
    except ProviderFault as fault:
        await provider.close()
        raise BadInput(f"{name} cannot be served: {fault}") from fault


def _release(
    name: str, version: str, mark: str, provider: Provider, settings: Settings, *, model: str, known: Resolved | None = None
) -> Release:
    return Release(
        name=name,
        version=version,
        digest=mark,
        model=model,
        ask=_asker(provider, settings.timeout),
        prepare=(lambda asked: asked.request) if known is None else lambda asked: prepared(known, asked),
        most_usd=lambda request: None if provider.price is None else most_it_can_cost(request, provider.price, settings.timeout),
        sure=lambda request: _is_sure(provider, request),
        close=provider.close,
        engine=provider,
        links=_links(known),
        aliases=_short_names(name),
    )


def _short_names(name: str) -> tuple[str, ...]:
    if not is_model(name):
        return (address(name)[0],)
    kind, _, target = name.partition(":")
    return (Path(target.rpartition("+")[2]).name,) if kind == "hf" else ()


def _links(known: Resolved | None) -> dict[str, Any]:
    if known is None:
        return {}
    prompts = [
        {"slot": slot, "name": prompt.name, "version": prompt.version, "sha256": prompt.sha256} for slot, prompt in known.prompts.items()
    ]
    return {"kind": known.kind, "prompts": prompts}


def _asker(provider: Provider, timeout: float) -> Ask:
    """One try, priced: whether to try again is for the caller's own client to say."""

    async def ask(request: Request, *, on_text: Callable[[str], None] | None = None) -> Reply:
        try:
            reply = await provider.ask(request, timeout=timeout, on_text=on_text)
        except ProviderFault as fault:
            if provider.price is not None and fault.usage is not None:
                fault.cost_usd = provider.price.cost(Usage(*fault.usage), None)
            raise
        if provider.price is None or reply.cost_usd is not None:
            return reply
        return dataclasses.replace(reply, cost_usd=provider.price.cost(reply.usage, reply.latency_s))

    return ask


def _is_sure(provider: Provider, request: Request) -> bool:
    temperature = request.params.get("temperature", 0 if provider.local else None)
    return temperature == 0 or request.params.get("seed") is not None


def prepared(known: Resolved, asked: Asked) -> Request:
    """The request that the model of a release gets. What the release pins holds: its parameters, its schema, its prompt first.

    ``prompt_variables`` fill the prompt's slots. One slot that they leave open is filled by the text of the last user message. A prompt
    that is one text without open slots goes before the caller's messages as the system message. Raises BadInput.
    """
    prompt = _prompt(known, asked)
    pinned = {**(prompt.params if prompt else {}), **known.params}
    params = {**asked.params, **pinned}
    limits = [output_limit(each) for each in (asked.params, pinned) if output_limit(each)]
    if limits:
        params = {**params, "max_tokens": min(limits)}
    if prompt is None:
        if asked.variables:
            raise BadInput(f"{known.address} has no prompt, so prompt_variables has nothing to fill.")
        return Request(asked.messages, params, tools=asked.tools)
    if prompt.schema is not None:
        params.pop("response_format", None)
    return Request(_messages(prompt, asked), params, schema=prompt.schema, tools=asked.tools)


def _prompt(known: Resolved, asked: Asked) -> Prompt | None:
    slots = known.prompts
    wanted = asked.prompt or (MAIN if MAIN in slots else next(iter(slots), "") if len(slots) == 1 else "")
    if wanted in slots:
        return slots[wanted]
    if not slots and not wanted:
        return None
    said = f"no prompt {wanted!r}" if wanted else 'several prompts, and the request does not say which ("prompt": SLOT)'
    raise BadInput(f"{known.address} has {said}. Known: {', '.join(slots) or 'none'}.")


def _messages(prompt: Prompt, asked: Asked) -> tuple[Message, ...]:
    unknown = sorted(set(asked.variables) - prompt.variables)
    if unknown:
        raise BadInput(f"the prompt has no slot {unknown[0]!r}. Known: {', '.join(sorted(prompt.variables)) or 'none'}.")
    values, messages = dict(asked.variables), asked.messages
    left = sorted(prompt.variables - set(values))
    last = messages[-1] if messages else None
    if len(left) == 1 and last is not None and last.role == "user" and isinstance(last.content, str):
        values[left[0]], messages = last.content, messages[:-1]
    elif left:
        raise BadInput(f"the prompt needs {', '.join(left)}. Send prompt_variables, an object with a value for each.")
    filled = prompt.render(values)
    if messages and not left and isinstance(prompt.template, str) and prompt.system is None and len(filled) == 1:
        filled = (Message("system", filled[0].content),)
    # What was said before stands between the release's instructions and the question that fills its slot.
    place = next((at for at, message in enumerate(filled) if message.role not in ("system", "developer")), len(filled))
    return (*filled[:place], *messages, *filled[place:]) if left else (*filled, *messages)
