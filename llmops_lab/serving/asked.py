"""What may be asked: the body of a chat completion and of feedback, checked.

Everything that a model or an upstream may know goes through as it is; what a model that only writes text cannot keep is refused by name.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmops_lab.records import Message, Request, Turn
from llmops_lab.serving.protocol import ApiError

_OURS = frozenset({"model", "messages", "stream", "stream_options", "tools", "prompt_variables", "prompt", "max_completion_tokens"})
_SILENT = frozenset({"user", "metadata", "store", "service_tier", "prompt_cache_key", "safety_identifier"})  # these change no text
_NOTHING: Mapping[str, Any] = {  # what asks for no more than a text
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "response_format": {"type": "text"},
    "logprobs": False,
    "top_logprobs": 0,
    "tool_choice": "none",
}
CHAT = frozenset(
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens metadata modalities n "
    "parallel_tool_calls prediction presence_penalty prompt_cache_key reasoning_effort response_format safety_identifier seed service_tier "
    "stop store temperature tool_choice top_k top_logprobs top_p user verbosity web_search_options".split()
)
"""What a chat completion may hold beside its messages and tools."""
_INSTEAD = ("tool_calls", "function_call", "refusal", "audio")  # what a message without content may hold
_MOST_CHOICES = 128
_MOST_TOKENS = 10**9
_HOTTEST = 1000  # far above what any model makes sense of
_EXACT = 2**53  # the largest whole number that every reader of JSON keeps


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, checked. ``variables`` fill the slots of the release's prompt, ``prompt`` says which where it has several."""

    model: str
    messages: tuple[Message, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    stream: bool = False
    include_usage: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""

    @property
    def request(self) -> Request:
        """What is asked, before the release adds what is its own."""
        return Request(self.messages, self.params, tools=self.tools)


def asked(raw: bytes) -> Asked:
    """The request in a body. Raises ApiError 400 that names the field."""
    body = _object(raw)
    messages = body.get("messages")
    if not isinstance(messages, list) or (not messages and not body.get("prompt_variables")):
        raise _wrong("messages", "messages must be a list of messages, at least one.")
    stream, options = body.get("stream"), body.get("stream_options")
    if stream not in (None, True, False):
        raise _wrong("stream", f"stream must be true or false, not {stream!r}.")
    tools = body.get("tools") or ()
    if not isinstance(tools, list | tuple) or not all(isinstance(each, dict) for each in tools):
        raise _wrong("tools", "tools must be a list of objects.")
    return Asked(
        model=_text(body, "model", required=True),
        messages=tuple(_message(each, number) for number, each in enumerate(messages)),
        params=_params(body),
        tools=tuple(tools),
        stream=bool(stream),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        variables=_variables(body),
        prompt=_text(body, "prompt"),
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = _decode(raw.decode(json.detect_encoding(raw), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is no JSON: {error or 'it is nested too deeply'}.", code="invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, f"the body must be a JSON object, not a {type(body).__name__}.", code="invalid_json")
    return body


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_constant(text)


_decode = json.JSONDecoder(parse_constant=_no_constant, parse_float=_number).decode


def _text(body: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    value = body.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise _wrong(name, f"{name} must be a text{'' if value is None else f', not {value!r:.80}'}.")
    return value


def _message(item: Any, number: int) -> Message:
    place = f"messages[{number}]"
    if not isinstance(item, dict) or not isinstance(item.get("role"), str) or not item["role"]:
        raise _wrong(place, f"{place} must be an object with a role and content.")
    more = {name: value for name, value in item.items() if value is not None and name not in ("role", "content")}
    content = item.get("content")
    if isinstance(content, list) and content and all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in content):
        if any(part["type"] == "text" and not isinstance(part.get("text"), str) for part in content):
            raise _wrong(f"{place}.content", f"{place}.content: a part of type text must hold a text.")
        content = tuple(content)
    elif content is None and any(more.get(name) for name in _INSTEAD):
        return Turn(item["role"], "", {"content": None, **more})
    elif not isinstance(content, str):
        raise _wrong(f"{place}.content", f"{place}.content must be a text or a list of parts.")
    return Turn(item["role"], content, more) if more else Message(item["role"], content)


def _params(body: Mapping[str, Any]) -> dict[str, Any]:
    params = {name: value for name, value in body.items() if name not in _OURS and value is not None}
    limit = body.get("max_completion_tokens")
    if limit is not None:
        params["max_tokens"] = limit
    if "max_tokens" in params and (
        isinstance(params["max_tokens"], bool) or not isinstance(params["max_tokens"], int) or not 1 <= params["max_tokens"] <= _MOST_TOKENS
    ):
        raise _wrong("max_tokens", f"max_tokens must be a whole number from 1 to {_MOST_TOKENS:,}, not {params['max_tokens']!r:.80}.")
    temperature = params.get("temperature", 0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= _HOTTEST:
        raise _wrong("temperature", f"temperature must be a number from 0 to {_HOTTEST}, not {temperature!r:.80}.")
    n = params.get("n", 1)
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= _MOST_CHOICES:
        raise _wrong("n", f"n must be a whole number from 1 to {_MOST_CHOICES}, not {n!r:.80}.")
    if n == 1:
        params.pop("n", None)
    return params


def text_only(wanted: Asked) -> Asked:
    """The request as a model that takes texts and writes one can keep it. Raises ApiError 400 for what it would have to leave out."""
    params = {name: value for name, value in wanted.params.items() if name not in _SILENT and _NOTHING.get(name, _UNSAID) != value}
    more = {"n": "several replies to one request", "logprobs": "log probabilities", "top_logprobs": "log probabilities"}
    for name, what in more.items():
        if name in params:
            raise _unsupported(name, f"{name}: {wanted.model} gives no {what}.")
    if wanted.tools:
        raise _unsupported("tools", f"tools: {wanted.model} calls none.")
    for number, message in enumerate(wanted.messages):
        place = f"messages[{number}]"
        if isinstance(message, Turn):
            names = [name for name in sorted(message.more) if name != "content"]
            raise _unsupported(f"{place}.{names[0]}", f"{place} holds {', '.join(names)}, which {wanted.model} cannot read.")
        kinds = [] if isinstance(message.content, str) else [part["type"] for part in message.content if part["type"] != "text"]
        if kinds:
            raise _unsupported(f"{place}.content", f"{place} holds a part of type {kinds[0]:.80}; {wanted.model} reads texts alone.")
    return dataclasses.replace(wanted, params=params)


_UNSAID = object()


def _variables(body: Mapping[str, Any]) -> dict[str, Any]:
    value = body.get("prompt_variables") or {}
    if not isinstance(value, dict):
        raise _wrong("prompt_variables", "prompt_variables must be an object: the name of a slot and its value.")
    return value


def feedback_of(raw: bytes) -> tuple[str, dict[str, Any]]:
    """The request that a caller speaks of, and what it says: a value, and where it likes a comment. Raises ApiError 400."""
    body = _object(raw)
    value = body.get("value")
    if not isinstance(value, bool | int | float | str) or (isinstance(value, str) and not 0 < len(value) <= 200):
        raise _wrong("value", "value must be true, false, a number, or a text of up to 200 characters.")
    if isinstance(value, int) and abs(value) > _EXACT:
        raise _wrong("value", f"value must be a number up to {_EXACT:,}.")
    comment = _text(body, "comment")
    if len(comment) > 4000:
        raise _wrong("comment", "comment must have 4,000 characters at most.")
    return _text(body, "request_id", required=True), {"value": value, "comment": comment}


def _wrong(param: str, message: str) -> ApiError:
    return ApiError(400, message, code="invalid_value", param=param)


def _unsupported(param: str, message: str) -> ApiError:
    return ApiError(400, message, code="unsupported_value", param=param)
