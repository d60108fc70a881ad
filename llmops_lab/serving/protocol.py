"""OpenAI's chat completions as this server speaks them: what may be asked, the shapes of answers, and the one shape of errors.

Everything that a model or an upstream may know goes through as it is; what this server itself could not keep is refused by name.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmops_lab.errors import ProviderFault
from llmops_lab.records import Message, Reply, Request, Usage
from llmops_lab.redact import redact

_OURS = frozenset({"model", "messages", "stream", "stream_options", "n", "tools", "prompt_variables", "prompt", "max_completion_tokens"})
_SILENT = frozenset({"user", "metadata", "store", "service_tier", "prompt_cache_key", "safety_identifier"})  # these change no reply
_NOTHING: Mapping[str, Any] = {"frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "response_format": {"type": "text"}}
_MOST_TOKENS = 10**9
_EXACT = 2**53  # the largest whole number that every reader of JSON keeps
_KINDS = {
    # The fault of an upstream: HTTP status, type and code of the error that the caller gets.
    "rate_limited": (429, "rate_limit_error", "upstream_rate_limited"),
    "server_error": (502, "api_error", "upstream_server_error"),
    "timeout": (504, "api_error", "upstream_timeout"),
    "connection": (502, "api_error", "upstream_connection"),
    "incomplete": (502, "api_error", "upstream_incomplete"),
    "empty": (502, "api_error", "upstream_empty"),
    "malformed": (502, "api_error", "upstream_malformed"),
    # Its key is ours, not the caller's, and so is its name for the model: the caller can mend neither.
    "unauthorized": (502, "api_error", "upstream_unauthorized"),
    "not_found": (502, "api_error", "upstream_not_found"),
    "bad_request": (400, "invalid_request_error", "bad_request"),
    "content_filter": (400, "invalid_request_error", "content_filter"),
}


class ApiError(Exception):
    """A request that gets an error: an HTTP status and OpenAI's error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        kind: str = "invalid_request_error",
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.kind, self.param, self.retry_after = status, code, kind, param, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object, without secrets."""
        return {"error": {"message": redact(str(self)), "type": self.kind, "param": self.param, "code": self.code}}


def fault_error(fault: ProviderFault) -> ApiError:
    """What the caller is told of a fault of the model or the upstream."""
    status, kind, code = _KINDS.get(fault.kind, (502, "api_error", "upstream_error"))
    if fault.kind == "rate_limited" and not fault.retryable:
        status, kind, code = 429, "insufficient_quota", "upstream_quota"  # no further try helps: the upstream's account is empty
    return ApiError(status, str(fault), code=code, kind=kind, retry_after=fault.retry_after)


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
    n = body.get("n")
    if n not in (None, 1) or isinstance(n, bool):
        raise ApiError(400, f"n must be 1: this server writes one reply a request, not {n!r}.", code="unsupported_value", param="n")
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
    more = sorted(name for name, value in item.items() if value and name not in ("role", "content"))
    if more:
        raise ApiError(
            400,
            f"{place} holds {', '.join(more)}, which this server does not pass on.",
            code="unsupported_value",
            param=f"{place}.{more[0]}",
        )
    content = item.get("content")
    if isinstance(content, list) and content and all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in content):
        if any(part["type"] == "text" and not isinstance(part.get("text"), str) for part in content):
            raise _wrong(f"{place}.content", f"{place}.content: a part of type text must hold a text.")
        return Message(item["role"], tuple(content))
    if not isinstance(content, str):
        raise _wrong(f"{place}.content", f"{place}.content must be a text or a list of parts.")
    return Message(item["role"], content)


def _params(body: Mapping[str, Any]) -> dict[str, Any]:
    params = {name: value for name, value in body.items() if name not in _OURS and value is not None and name not in _SILENT}
    limit = body.get("max_completion_tokens")
    if limit is not None:
        params["max_tokens"] = limit
    if "max_tokens" in params and (
        isinstance(params["max_tokens"], bool) or not isinstance(params["max_tokens"], int) or not 1 <= params["max_tokens"] <= _MOST_TOKENS
    ):
        raise _wrong("max_tokens", f"max_tokens must be a whole number from 1 to {_MOST_TOKENS:,}, not {params['max_tokens']!r:.80}.")
    temperature = params.get("temperature", 0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or temperature < 0:
        raise _wrong("temperature", f"temperature must be a number of at least 0, not {temperature!r:.80}.")
    for name, value in _NOTHING.items():
        if params.get(name) == value:
            del params[name]
    if params.pop("logprobs", None) or params.get("top_logprobs"):
        raise ApiError(400, "logprobs are not given here.", code="unsupported_value", param="logprobs")
    return params


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


# ---- answers

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


def encode(value: Any) -> bytes:
    """A body as JSON, in ASCII: lone surrogates of a model survive as escapes."""
    return _encode(value).encode("ascii")


def usage_of(usage: Usage) -> dict[str, int]:
    """OpenAI's usage; what an upstream did not tell counts as 0, as its clients want numbers."""
    given, made = usage.input_tokens or 0, usage.output_tokens or 0
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def completion(number: str, model: str, reply: Reply) -> dict[str, Any]:
    """A whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or (None if reply.tool_calls else ""), "refusal": None}
    if reply.tool_calls:
        message["tool_calls"] = list(reply.tool_calls)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
    return {
        "id": number,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "usage": usage_of(reply.usage),
    }


class Stream:
    """The events of one streamed answer, as bytes."""

    def __init__(self, number: str, model: str) -> None:
        head = {"id": number, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self._head = b"data: " + encode(head)[:-1]

    def _event(self, choices: list[Any], **more: Any) -> bytes:
        return self._head + b"," + encode({"choices": choices, **more})[1:] + b"\n\n"

    def start(self) -> bytes:
        """The first event: who speaks."""
        return self._event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}])

    def piece(self, text: str) -> bytes:
        """A piece of text."""
        return self._event([{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}])

    def end(self, reply: Reply, *, include_usage: bool) -> bytes:
        """Tool calls, the finish reason, usage where asked for, and the closing mark."""
        events = b""
        if reply.tool_calls:
            calls = [{"index": index, **call} for index, call in enumerate(reply.tool_calls)]
            events += self._event([{"index": 0, "delta": {"tool_calls": calls}, "logprobs": None, "finish_reason": None}])
        events += self._event([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": reply.finish_reason}])
        if include_usage:
            events += self._event([], usage=usage_of(reply.usage))
        return events + b"data: [DONE]\n\n"

    @staticmethod
    def error(error: ApiError) -> bytes:
        """The last event of an answer that broke after it had begun: no closing mark follows."""
        return b"data: " + encode(error.body) + b"\n\n"
