"""Every other provider, through the litellm package: ``litellm:PROVIDER/NAME`` (extra ``litellm``).

litellm's own retries, telemetry, price download, .env loading and log messages are off. Keys are read from the environment
under the names that litellm documents. Two weaknesses are litellm's own: a whole (not streamed) answer without a finish reason
arrives here as "stop", and after a reset connection its client may send the request a second time within one try.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from llmops_lab.errors import BadInput, MissingExtra, ProviderFault, UnknownName
from llmops_lab.models._prices import own_server, price_of
from llmops_lab.models._relay import OnChoices, RelayedStream, each_of, relayed
from llmops_lab.models._wire import StreamedReply, body, encode, reply
from llmops_lab.records import Relayed, Reply, Request
from llmops_lab.redact import redact
from llmops_lab.remote.faults import NO_HEADERS, QUOTA_CODES, refusal, short
from llmops_lab.settings import Settings

R = TypeVar("R", bound=Reply)
_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_MODE": "PRODUCTION",  # in its other mode it loads a .env file into the process
}

_NO_JSON = ("JSONDecodeError", "Expecting value", "Unterminated string", "Empty or invalid response")


def connect(target: str, *, settings: Settings) -> LiteLLM:
    """The model NAME of PROVIDER. Sends nothing. Raises MissingExtra, UnknownName (a provider) or BadInput (a missing key)."""
    provider, slash, name = target.partition("/")
    if not slash or not provider or not name:
        raise BadInput(f"litellm:{target} names no model. Write it as litellm:PROVIDER/NAME, for example litellm:anthropic/NAME.")
    litellm = _package()
    known = [str(getattr(each, "value", each)) for each in litellm.provider_list]
    if provider not in known:
        raise UnknownName("litellm provider", provider, known)
    _check_key(litellm, target, provider)
    return LiteLLM(target, provider, settings)


class LiteLLM:
    """One model of one of litellm's providers."""

    local = False
    arguments = True
    """Parameters become arguments of a function, some of which say where a request and its key go: not for strangers to set."""

    def __init__(self, target: str, provider: str, settings: Settings) -> None:
        server = own_server(provider)
        self.identity = f"litellm:{target}" + (f"@{redact(server)}" if server else "")
        self.pool = f"litellm:{provider}" + (f"@{redact(server)}" if server else "")
        self.price = price_of(f"litellm:{target}", settings)
        self._target = target

    async def ask(self, request: Request, *, timeout: float, on_text: Callable[[str], None] | None = None) -> Reply:
        """One try. With ``on_text`` the reply is streamed and each new piece of text handed over. Raises ProviderFault."""
        return await self._once(request, timeout, reply, StreamedReply, on_text)

    async def relay(self, request: Request, *, timeout: float, on_choices: OnChoices | None = None) -> Relayed:
        """The same with all that the answer holds. With ``on_choices`` each event's choices are handed over."""
        return await self._once(request, timeout, relayed, lambda: RelayedStream(request), each_of(on_choices))

    async def _once(
        self, request: Request, timeout: float, read: Callable[..., R], collect: Callable[[], Any], on_piece: Callable[[Any], None] | None
    ) -> R:
        import litellm

        wanted = body(self._target, request)
        encode(wanted)  # litellm's own message for a value that is no JSON names neither the value nor the place
        if on_piece is not None:
            wanted |= {"stream": True, "stream_options": {"include_usage": True}}
        started = time.perf_counter()
        try:
            async with asyncio.timeout(timeout):
                answer = await litellm.acompletion(**wanted, timeout=timeout, num_retries=0, max_retries=0)
                if on_piece is not None:
                    found: R = await _streamed(answer, started, collect(), on_piece)
                    return found
                return read(answer.model_dump(), latency_s=time.perf_counter() - started)
        except ProviderFault:
            raise
        except TimeoutError:
            fault = ProviderFault("timeout", f"no whole answer within {timeout:g} s", in_doubt=True)
        except Exception as error:  # litellm passes on whatever its providers' own clients raise
            fault = _fault(error, timeout)
        raise fault

    async def close(self) -> None:
        """Nothing: litellm keeps its connections for the whole process."""


def _package() -> Any:
    if importlib.util.find_spec("litellm") is None:
        raise MissingExtra("litellm", "litellm")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)  # its messages quote prompts and keys
    return litellm


def _check_key(litellm: Any, target: str, provider: str) -> None:
    missing = litellm.validate_environment(model=target)["missing_keys"]
    first = provider.split("_")[0].upper()  # litellm takes further names than it lists as missing, all beginning like this
    if not missing or own_server(provider) or any(name.startswith(first) and value for name, value in os.environ.items()):
        return
    if all(name.endswith(("_API_KEY", "_TOKEN")) for name in missing):
        raise BadInput(f"{' and '.join(missing)} is not set, and litellm:{target} needs it. Type: export {missing[0]}=...")


async def _streamed(stream: Any, started: float, collected: Any, on_piece: Callable[[Any], None]) -> Any:
    ttft, latest = None, started
    async for chunk in stream:
        latest = time.perf_counter()
        piece = collected.add(chunk.model_dump())
        if piece:
            ttft = latest - started if ttft is None else ttft
            on_piece(piece)
    # Where a provider's stream is cut, litellm makes up a finish reason of "stop": ask what it really received.
    received = [getattr(stream, name, "unknown") for name in ("received_finish_reason", "intermittent_finish_reason")]
    if not any(received):
        raise ProviderFault("incomplete", "the answer ended without a finish reason", in_doubt=True)
    return collected.reply(latency_s=latest - started, ttft_s=ttft, cut=False)


def _fault(error: Exception, timeout: float) -> ProviderFault:
    """The fault for what litellm raised: its class where that is telling, else the status, else its words."""
    import litellm

    kinds, message, status = litellm.exceptions, short(str(error)), getattr(error, "status_code", None)
    headers = getattr(error, "litellm_response_headers", None) or getattr(getattr(error, "response", None), "headers", None) or NO_HEADERS
    if isinstance(error, kinds.Timeout):
        return ProviderFault("timeout", f"no answer within {timeout:g} s", in_doubt=True)
    if isinstance(error, kinds.ContentPolicyViolationError):
        return ProviderFault("content_filter", message, status=400)
    if status == 200 or isinstance(error, json.JSONDecodeError) or any(words in str(error) for words in _NO_JSON):
        return ProviderFault("malformed", message)
    if isinstance(error, kinds.MidStreamFallbackError):
        return ProviderFault("connection", message, answered=True, in_doubt=True)
    if isinstance(error, kinds.APIConnectionError) or not isinstance(status, int) or (status == 500 and not headers):
        return ProviderFault("connection", message, in_doubt=True)  # litellm makes a 500 up where no answer came
    code = next((code for code in QUOTA_CODES if code in f"{error} {getattr(error, 'body', '')}"), None)
    return refusal(status, headers, json.dumps({"error": {"message": message, "code": code}}).encode())
