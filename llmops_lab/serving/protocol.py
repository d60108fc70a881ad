"""OpenAI's chat completions as this server speaks them: the shapes of answers, and the one shape of errors."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.errors import ProviderFault
from llmops_lab.records import Relayed, Reply
from llmops_lab.redact import redact

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


# ---- answers

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


def encode(value: Any) -> bytes:
    """A body as JSON, in ASCII: lone surrogates of a model survive as escapes."""
    return _encode(value).encode("ascii")


def usage_of(reply: Reply) -> dict[str, Any]:
    """OpenAI's usage, with the details that an upstream gave; what it did not tell counts as 0, as its clients want numbers."""
    given, made = reply.usage.input_tokens or 0, reply.usage.output_tokens or 0
    told = reply.more.get("usage") if isinstance(reply, Relayed) else None
    counts = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
    return {**told, **counts} if isinstance(told, dict) else counts


def completion(number: str, model: str, reply: Reply) -> dict[str, Any]:
    """A whole answer."""
    return {
        **(reply.more if isinstance(reply, Relayed) else {}),
        "id": number,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices_of(reply),
        "usage": usage_of(reply),
    }


def choices_of(reply: Reply) -> list[dict[str, Any]]:
    """The choices of a reply, in OpenAI's form."""
    if isinstance(reply, Relayed):
        return [{**choice, "message": {"refusal": None, **choice["message"]}} for choice in reply.choices]
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or (None if reply.tool_calls else ""), "refusal": None}
    if reply.tool_calls:
        message["tool_calls"] = list(reply.tool_calls)
    return [{"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}]


def piece_of(text: str) -> list[dict[str, Any]]:
    """A piece of a streamed text as the choices of an event."""
    return [{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}]


def rest_of(reply: Reply) -> list[dict[str, Any]]:
    """What follows a text that was streamed piece by piece: calls of tools, and why it ended."""
    delta = {"tool_calls": _numbered(reply.tool_calls)} if reply.tool_calls else {}
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reply.finish_reason}]


def _numbered(calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"index": index, **call} for index, call in enumerate(calls)]


class Stream:
    """The events of one streamed answer, as bytes."""

    def __init__(self, number: str, model: str) -> None:
        head = {"id": number, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self._head = b"data: " + encode(head)[:-1]
        self._begun: set[int] = set()

    def _event(self, choices: list[Any], **more: Any) -> bytes:
        return self._head + b"," + encode({"choices": choices, **more})[1:] + b"\n\n"

    def piece(self, choices: list[dict[str, Any]]) -> bytes:
        """An event of these choices; the first of each says who speaks."""
        for choice in choices:
            if choice["index"] not in self._begun:
                self._begun.add(choice["index"])
                choice["delta"] = {"role": "assistant", "content": "", **(choice.get("delta") or {})}
        return self._event(choices)

    def whole(self, reply: Reply) -> bytes:
        """All of a reply that is there already, one event a choice."""
        events = b""
        for choice in choices_of(reply):
            message = choice.pop("message")
            calls = message.get("tool_calls")
            delta = {**message, "tool_calls": _numbered(calls)} if calls else message
            events += self.piece([{**choice, "delta": delta, "finish_reason": None}])
            events += self._event([{**choice, "delta": {}, "logprobs": None}])
        return events

    def end(self, reply: Reply, *, include_usage: bool) -> bytes:
        """Usage where asked for, and the closing mark."""
        usage = self._event([], usage=usage_of(reply)) if include_usage else b""
        return usage + b"data: [DONE]\n\n"

    @staticmethod
    def error(error: ApiError) -> bytes:
        """The last event of an answer that broke after it had begun: no closing mark follows."""
        return b"data: " + encode(error.body) + b"\n\n"
