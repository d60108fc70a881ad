"""What a name given to ``serve`` stands for, loaded and ready: a version of a registered name, or a model."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops_lab import plugins
from llmops_lab.errors import BadInput, ProviderFault
from llmops_lab.flows.resolve import Resolved, address, resolve
from llmops_lab.models._ask import may_be_billed, most_it_can_cost, open_model, size_of
from llmops_lab.models._provider import Provider
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import Message, Reply, Request, Usage, digest, output_limit
from llmops_lab.serving.asked import CHAT, Asked, text_only
from llmops_lab.serving.protocol import ApiError, piece_of
from llmops_lab.serving.release import Ask, Made, OnChoices, Release
from llmops_lab.settings import Settings

MAIN = "main"
"""The slot of a bundle whose prompt is used where a request names none."""
_LOAD_S = 600.0
_LETTERS = 4  # in a token, as in a grid's estimate


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
    except BaseException as trouble:
        await provider.close()
        if isinstance(trouble, ProviderFault):
            raise BadInput(f"{name} cannot be served: {trouble}") from trouble
        raise


def _release(
    name: str, version: str, mark: str, provider: Provider, settings: Settings, *, model: str, known: Resolved | None = None
) -> Release:
    return Release(
        name=name,
        version=version,
        digest=mark,
        model=model,
        ask=_asker(provider, settings.timeout),
        prepare=lambda asked: prepared(known, _kept(provider, asked)),
        so_far=lambda request, made: _so_far(provider, request, made),
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


def _kept(provider: Provider, asked: Asked) -> Asked:
    """What the caller asked, as this model can keep it. Raises ApiError 400 for what it would have to leave out."""
    if not hasattr(provider, "relay"):
        return text_only(asked)
    # A library that gets the parameters as arguments has others too: where to send the request and its key, say.
    strange = sorted(set(asked.params) - CHAT) if getattr(provider, "arguments", False) else []
    if strange:
        message = f"{asked.model} takes no {strange[0]!r:.80} from a caller. Known: {', '.join(sorted(CHAT))}."
        raise ApiError(400, message, code="unsupported_value", param=strange[0][:80])
    return asked


def _asker(provider: Provider, timeout: float) -> Ask:
    """One try, priced: whether to try again is for the caller's own client to say."""

    async def ask(request: Request, *, on_choices: OnChoices | None = None) -> Reply:
        try:
            reply = await _answered(provider, request, timeout, on_choices)
        except ProviderFault as fault:
            if provider.price is not None and fault.usage is not None:
                fault.cost_usd = provider.price.cost(Usage(*fault.usage), None)
            fault.in_doubt = fault.in_doubt or may_be_billed(fault)
            raise
        if provider.price is None or reply.cost_usd is not None:
            return reply
        return dataclasses.replace(reply, cost_usd=provider.price.cost(reply.usage, reply.latency_s))

    return ask


async def _answered(provider: Provider, request: Request, timeout: float, on_choices: OnChoices | None) -> Reply:
    relay = getattr(provider, "relay", None)
    if relay is None:
        on_text = None if on_choices is None else lambda text: on_choices(piece_of(text))
        return await provider.ask(request, timeout=timeout, on_text=on_text)
    try:
        found: Reply = await relay(request, timeout=timeout, on_choices=on_choices)
    except ProviderFault as fault:
        if fault.kind != "bad_request" or not fault.retryable:
            raise
        # It was refused for a word that the provider puts differently from now on; the caller's client would not try that again.
        found = await relay(request, timeout=timeout, on_choices=on_choices)
    return found


def _so_far(provider: Provider, request: Request, made: Made) -> tuple[Usage, float | None]:
    """Tokens and USD of a call that broke off: a token for four letters, and at least one for each piece that came."""
    usage = Usage(-(-size_of(request) // _LETTERS), max(made.pieces, -(-made.letters // _LETTERS)))
    seconds = time.perf_counter() - made.began
    return usage, None if provider.price is None else provider.price.cost(usage, seconds)


def _is_sure(provider: Provider, request: Request) -> bool:
    temperature = request.params.get("temperature", 0 if provider.local else None)
    return temperature == 0 or request.params.get("seed") is not None


def prepared(known: Resolved | None, asked: Asked) -> Request:
    """The request that the model of a release gets. What the release pins holds: its parameters, its schema, its prompt first.

    ``prompt_variables`` fill the prompt's slots. One slot that they leave open is filled by the text of the last user message. A prompt
    that is one text without open slots goes before the caller's messages as the system message. Raises BadInput.
    """
    if known is None:
        return asked.request
    prompt = _prompt(known, asked)
    pinned = {**(prompt.params if prompt else {}), **known.params}
    params = {**asked.params, **pinned}
    limits = [limit for each in (asked.params, pinned) if (limit := output_limit({**each, "n": 1}))]  # of one reply, not of all
    if limits:
        params = {**params, "max_tokens": min(limits)}
        params.pop("max_completion_tokens", None)  # its other name, which servers refuse beside it
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
    messages, last, after = _split(asked.messages) if len(left) == 1 else (messages, None, ())
    if last is not None and isinstance(last.content, str):
        values[left[0]] = last.content
    elif left:
        raise BadInput(f"the prompt needs {', '.join(left)}. Send prompt_variables, an object with a value for each.")
    filled = prompt.render(values)
    if messages and not left and isinstance(prompt.template, str) and prompt.system is None and len(filled) == 1:
        filled = (Message("system", filled[0].content),)
    # What was said before stands between the release's instructions and the question that fills its slot.
    place = next((at for at, message in enumerate(filled) if message.role not in ("system", "developer")), len(filled))
    return (*filled[:place], *messages, *filled[place:], *after) if left else (*filled, *messages)


def _split(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], Message | None, tuple[Message, ...]]:
    """What was said before the last question, the question, and the calls of tools that it has led to so far."""
    if not messages or messages[-1].role not in ("user", "tool", "function"):
        return messages, None, ()
    place = next((at for at in range(len(messages) - 1, -1, -1) if messages[at].role == "user"), None)
    return (messages, None, ()) if place is None else (messages[:place], messages[place], messages[place + 1 :])
