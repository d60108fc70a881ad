"""The chat-completions format: a Request as its JSON body, whole answers and streamed events as a Reply.

Tolerant of what servers differ in (missing usage, extra fields, several words for one finish reason), strict on what would let a
broken answer pass for a reply: no choices, no content, no finish reason, a content filter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from llmops_lab.errors import ProviderFault
from llmops_lab.records import Message, Reply, Request, Turn, Usage
from llmops_lab.remote.faults import NO_HEADERS, error_object, refusal_inside

_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=dict).encode
_FINISH = {  # other servers' words for OpenAI's
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "safety": "content_filter",
    "recitation": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
}
_JSON = json.JSONDecoder(parse_constant=lambda _: None)  # some servers write NaN and -Infinity, which no client of ours could read
WRONG_TYPES = (TypeError, AttributeError, KeyError, ValueError, OverflowError)  # a field that is not what the format says
_BROKEN_FINISH = {  # the server itself says that the reply is not whole
    "error": "server_error",
    "insufficient_system_resource": "server_error",
    "abort": "incomplete",
    "aborted": "incomplete",
    "cancelled": "incomplete",
}


def body(model: str, request: Request) -> dict[str, Any]:
    """The request as chat completions take it; parameters go through as they are, a schema as strict output where it qualifies."""
    wanted: dict[str, Any] = {**request.params, "model": model, "messages": [_message(each) for each in request.messages]}
    if request.schema is not None:
        title = re.sub(r"[^A-Za-z0-9_-]", "_", str(request.schema.get("title", "")))[:64]
        form = {"name": title or "reply", "schema": request.schema, "strict": _qualifies_as_strict(request.schema)}
        wanted["response_format"] = {"type": "json_schema", "json_schema": form}
    if request.tools:
        wanted["tools"] = request.tools
    return wanted


def encode(wanted: Mapping[str, Any]) -> bytes:
    """The body's bytes. Raises ProviderFault (bad_request) for a parameter that JSON cannot hold."""
    try:
        return _ENCODE(wanted).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ProviderFault("bad_request", f"not sent: a parameter or message part cannot be written as JSON ({error})") from error


def parsed(text: bytes) -> Any:
    """What a server wrote as JSON; a number that is none counts as null. Raises ValueError or RecursionError."""
    return _JSON.decode(text.decode(json.detect_encoding(text), "surrogatepass"))


def decode(answer: bytes) -> dict[str, Any]:
    """A whole answer's JSON object. Raises ProviderFault (malformed)."""
    try:
        payload = parsed(answer)
    except (ValueError, RecursionError):
        start = answer[:200].lstrip().lower()
        what = "an HTML page" if start.startswith(b"<") else "an empty body" if not start else "a body that is no JSON"
        raise ProviderFault("malformed", f"the server answered 200 with {what}") from None
    if not isinstance(payload, dict):
        raise ProviderFault("malformed", f"the server answered 200 with a JSON {type(payload).__name__}, not an object")
    return payload


def reply(payload: Mapping[str, Any], *, latency_s: float, headers: Mapping[str, str] = NO_HEADERS) -> Reply:
    """A whole answer as a Reply. Raises ProviderFault: empty, incomplete, content_filter, malformed, or what an error object says."""
    try:
        return _reply(payload, latency_s, headers)
    except ProviderFault as fault:
        raise billed(fault, usage(payload.get("usage"))) from None
    except WRONG_TYPES as error:
        strange = ProviderFault("malformed", f"the answer is not in the chat-completions format ({error})")
        raise billed(strange, usage(payload.get("usage"))) from None


def _reply(payload: Mapping[str, Any], latency_s: float, headers: Mapping[str, str]) -> Reply:
    choices = payload.get("choices")
    if not choices:
        error = error_object(payload)
        raise refusal_inside(error, headers) if error else ProviderFault("empty", "the answer holds no choices")
    choice = choices[0]
    message = choice.get("message")
    if not message:
        raise ProviderFault("empty", "the answer holds no message")
    finish = finish_reason(choice.get("finish_reason"))
    calls = tuple(message.get("tool_calls") or _legacy_call(message))
    text = content(message)
    if text is None and not calls:
        raise ProviderFault("empty", f"the answer's content is null (finish_reason {finish!r})")
    return Reply(
        text=text or "",
        finish_reason=finish,
        usage=usage(payload.get("usage")),
        latency_s=latency_s,
        model=str(payload.get("model") or ""),
        tool_calls=calls,
        logprobs=logprobs(choice.get("logprobs")),
    )


def content(message: Mapping[str, Any]) -> str | None:
    """A message's text: a string, the text parts of a list, or a refusal (which is an answer); None when there is none."""
    found = message.get("content")
    if isinstance(found, list):
        return "".join(str(part.get("text") or "") for part in found if isinstance(part, dict))
    if found is None:
        found = message.get("refusal")
    return found if isinstance(found, str) else None


def finish_reason(word: object, *, in_doubt: bool = False) -> str:
    """The finish reason in OpenAI's words. Raises ProviderFault: none at all, a content filter, or a server's own giving up."""
    if not isinstance(word, str) or not word:
        raise ProviderFault("incomplete", "the answer ended without a finish reason", in_doubt=in_doubt)
    word = _FINISH.get(word.lower(), word.lower())
    if word == "content_filter":
        raise ProviderFault("content_filter", "the provider's content filter stopped the answer")
    if word in _BROKEN_FINISH:
        raise ProviderFault(_BROKEN_FINISH[word], f"the server gave up the answer (finish_reason {word!r})", in_doubt=True)
    return word


def usage(found: Any) -> Usage:
    """Token counts as reported; None for what is missing."""
    if not isinstance(found, dict):
        return Usage()
    given, made = (found.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return Usage(_count(given), _count(made))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def logprobs(found: Any) -> tuple[float, ...] | None:
    """Natural-log probabilities of the reply's tokens, in the chat form or the older ``token_logprobs``."""
    if not isinstance(found, dict):
        return None
    items: Iterable[Any] = found.get("token_logprobs") or [
        each.get("logprob") for each in found.get("content") or () if isinstance(each, dict)
    ]
    return tuple(float(each) for each in items if isinstance(each, int | float)) or None


class StreamedReply:
    """Collects a stream's events. ``finished`` is True once a finish reason came: from then on the answer is whole."""

    def __init__(self) -> None:
        self.finished = False
        self.started = False
        self._text: list[str] = []
        self._logprobs: list[float] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish: object = None
        self._has_content = False
        self._usage = Usage()
        self._model = ""

    def add(self, event: Any) -> str:
        """Take one event; returns the new piece of text. Raises ProviderFault: malformed, or what an error object says."""
        try:
            return self._add(event)
        except WRONG_TYPES as error:
            raise ProviderFault("malformed", f"the stream is not in the chat-completions format ({error})", in_doubt=True) from None

    def add_json(self, text: bytes) -> str:
        """The same for an event as it was sent."""
        try:
            event = parsed(text)
        except (ValueError, RecursionError):
            raise ProviderFault("malformed", "the stream holds an event that is no JSON", in_doubt=True) from None
        return self.add(event)

    def _add(self, event: dict[str, Any]) -> str:
        self._model = self._model or str(event.get("model") or "")
        if event.get("usage"):
            self._usage = usage(event["usage"])
        choices = event.get("choices")
        if not choices:
            error = error_object(event)
            if error:
                raise refusal_inside(error, in_doubt=self.started)
            return ""
        choice = choices[0]
        if choice.get("finish_reason"):
            self._finish, self.finished = choice["finish_reason"], True
        if choice.get("logprobs"):
            self._logprobs.extend(logprobs(choice["logprobs"]) or ())
        return self._delta(choice.get("delta") or {})

    def reply(self, *, latency_s: float, ttft_s: float | None, cut: bool) -> Reply:
        """The whole reply; ``cut``: no closing mark was sent. Raises ProviderFault: incomplete, empty, content_filter."""
        try:
            finish = finish_reason(self._finish, in_doubt=cut)
            if not self._has_content and not self._calls:
                raise ProviderFault("empty", f"the stream held no content (finish_reason {finish!r})")
        except ProviderFault as fault:
            raise billed(fault, self._usage) from None
        return Reply(
            text="".join(self._text),
            finish_reason=finish,
            usage=self._usage,
            latency_s=latency_s,
            ttft_s=ttft_s,
            model=self._model,
            tool_calls=tuple(self._calls[index] for index in sorted(self._calls)),
            logprobs=tuple(self._logprobs) or None,
        )

    def _delta(self, delta: Mapping[str, Any]) -> str:
        for position, call in enumerate(delta.get("tool_calls") or _legacy_call(delta)):
            self._add_call(call, position)
        text = content(delta)
        if text is None:
            return ""
        self._has_content = True
        if text:
            self.started = True
            self._text.append(text)
        return text

    def _add_call(self, piece: Mapping[str, Any], position: int) -> None:
        self.started = True
        index = piece.get("index")
        call = self._calls.setdefault(
            index if isinstance(index, int) else position, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = piece.get("id") or call["id"]
        function = piece.get("function") or {}
        call["function"]["name"] = function.get("name") or call["function"]["name"]  # some servers repeat it in each piece
        call["function"]["arguments"] += function.get("arguments") or ""


def billed(fault: ProviderFault, used: Usage) -> ProviderFault:
    # A reply that cannot be used is paid for all the same.
    if used != Usage():
        fault.usage = (used.input_tokens, used.output_tokens)
    return fault


def _message(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content, **(message.more if isinstance(message, Turn) else {})}


def _legacy_call(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    call = message.get("function_call")
    return [{"id": "", "type": "function", "function": call}] if call else []


def _qualifies_as_strict(schema: object) -> bool:
    # OpenAI refuses strict mode unless every object lists all its properties as required and allows no others.
    if isinstance(schema, list | tuple):
        return all(map(_qualifies_as_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    if (schema.get("type") == "object" or "properties" in schema) and (
        schema.get("additionalProperties") is not False or set(schema.get("properties", ())) != set(schema.get("required", ()))
    ):
        return False
    return all(map(_qualifies_as_strict, schema.values()))
