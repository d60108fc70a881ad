"""An upstream's answer with all that it holds: several choices, calls of tools, log probabilities, further fields, streamed or whole.

Checked as strictly as ``_wire`` checks what a grid asks for: a choice without an end, or without anything in it, is no reply.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmops_lab.errors import ProviderFault
from llmops_lab.models._wire import WRONG_TYPES, billed, content, finish_reason, parsed, reply, usage
from llmops_lab.records import Relayed, Reply, Request, Usage
from llmops_lab.remote.faults import NO_HEADERS, error_object, refusal_inside

OnChoices = Callable[[list[dict[str, Any]]], None]
_OURS = frozenset({"id", "object", "created", "model", "choices"})
_FIELDS = tuple(field.name for field in dataclasses.fields(Reply))
_SAID = ("content", "refusal", "reasoning_content", "reasoning", "tool_calls", "function_call", "audio")


def relayed(payload: Mapping[str, Any], *, latency_s: float, headers: Mapping[str, str] = NO_HEADERS) -> Relayed:
    """A whole answer. One choice that a content filter stopped spoils the others as little as OpenAI lets it. Raises ProviderFault."""
    choices = payload.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(each, dict) for each in choices):
        reply(payload, latency_s=latency_s, headers=headers)
        raise ProviderFault("malformed", "the answer is not in the chat-completions format (choices)")
    found = _first_usable(payload, choices, latency_s, headers)
    more = {name: value for name, value in payload.items() if name not in _OURS}
    return _with(found, [_choice(each, at) for at, each in enumerate(choices)], more)


def _with(found: Reply, choices: Sequence[dict[str, Any]], more: Mapping[str, Any]) -> Relayed:
    fields = {name: getattr(found, name) for name in _FIELDS}
    return Relayed(**fields, choices=tuple(choices), more=more)


def _first_usable(payload: Mapping[str, Any], choices: Sequence[Mapping[str, Any]], latency_s: float, headers: Mapping[str, str]) -> Reply:
    found: list[Reply] = []
    filtered: list[ProviderFault] = []
    for choice in choices:
        try:
            found.append(reply({**payload, "choices": [_readable(choice)]}, latency_s=latency_s, headers=headers))
        except ProviderFault as fault:
            if fault.kind != "content_filter":
                raise
            filtered.append(fault)
    if not found:
        raise filtered[0]
    return found[0]


def _readable(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """A choice whose answer stands elsewhere than in its content (in thoughts that met the limit, in sound) as one with an empty text."""
    message = choice.get("message")
    if not isinstance(message, dict) or content(message) is not None or not any(message.get(name) for name in _SAID):
        return choice
    return {**choice, "message": {**message, "content": ""}}


def _choice(choice: Mapping[str, Any], at: int) -> dict[str, Any]:
    word = str(choice.get("finish_reason"))
    return {"logprobs": None, **choice, "index": choice.get("index", at), "finish_reason": _word(word)}


def _word(word: str) -> str:
    return "content_filter" if _filtered(word) else finish_reason(word)


def _filtered(word: str) -> bool:
    try:
        finish_reason(word)
    except ProviderFault as fault:
        return fault.kind == "content_filter"
    return False


def each_of(on_choices: OnChoices | None) -> Callable[[list[list[dict[str, Any]]]], None] | None:
    """What takes the choices of several events one event after the other; None where nobody wants a stream."""

    def take(events: list[list[dict[str, Any]]]) -> None:
        for choices in events:
            if on_choices is not None:
                on_choices(choices)

    return None if on_choices is None else take


class RelayedStream:
    """Collects a stream's events and hands their choices on. ``finished`` once all choices that were asked for have ended."""

    def __init__(self, request: Request) -> None:
        wanted = request.params.get("n")
        self._wanted = wanted if isinstance(wanted, int) else 1
        self._begun = False
        self._held: list[list[dict[str, Any]]] = []
        self._choices: dict[int, _Choice] = {}
        self._usage = Usage()
        self._model = ""
        self._more: dict[str, Any] = {}

    @property
    def finished(self) -> bool:
        """Whether the answer is whole."""
        return sum(bool(each.finish) for each in self._choices.values()) >= max(self._wanted, len(self._choices))

    def add_json(self, text: bytes) -> list[list[dict[str, Any]]]:
        """The same as ``add`` for an event as it was sent."""
        try:
            event = parsed(text)
        except (ValueError, RecursionError):
            raise ProviderFault("malformed", "the stream holds an event that is no JSON", in_doubt=True) from None
        return self.add(event)

    def add(self, event: Any) -> list[list[dict[str, Any]]]:
        """Take one event; returns the choices of the events to pass on: none until something was said, so that a fault can be told.

        Raises ProviderFault: malformed, or what an error object says.
        """
        try:
            return self._add(event)
        except WRONG_TYPES as error:
            raise ProviderFault("malformed", f"the stream is not in the chat-completions format ({error})", in_doubt=True) from None

    def _add(self, event: dict[str, Any]) -> list[list[dict[str, Any]]]:
        self._model = self._model or str(event.get("model") or "")
        if event.get("usage"):
            self._usage = usage(event["usage"])
        self._more |= {name: value for name, value in event.items() if name not in _OURS and value is not None}
        choices = event.get("choices")
        if not choices:
            error = error_object(event)
            if error:
                raise refusal_inside(error, in_doubt=self._begun)
            return []
        for choice in choices:
            self._take(choice)
        self._held.append(choices)
        if not self._begun:
            return []
        passed, self._held = self._held, []
        return passed

    def _take(self, choice: dict[str, Any]) -> None:
        index = choice.setdefault("index", 0)
        if not isinstance(index, int):
            raise TypeError(f"a choice's index is {index!r:.80}")
        mine = self._choices.setdefault(index, _Choice())
        word = choice.get("finish_reason")
        if word:
            mine.finish = choice["finish_reason"] = _word(word)
        delta = choice.get("delta") or {}
        mine.take(delta, choice.get("logprobs"))
        self._begun = self._begun or any(delta.get(name) for name in _SAID) or (bool(word) and mine.is_reply)

    def reply(self, *, latency_s: float, ttft_s: float | None, cut: bool) -> Relayed:
        """The whole reply; ``cut``: no closing mark was sent. Raises ProviderFault: incomplete, empty, content_filter."""
        choices = [self._choices[index].whole(index) for index in sorted(self._choices)]
        # A server that gives fewer choices than were asked for ends with its closing mark; without it, some may be missing.
        if not choices or not (self.finished if cut else all(each.finish for each in self._choices.values())):
            raise billed(ProviderFault("incomplete", "the answer ended without a finish reason", in_doubt=cut), self._usage)
        whole = {"model": self._model, "choices": choices}
        try:
            found = _first_usable(whole, choices, latency_s, NO_HEADERS)
        except ProviderFault as fault:
            raise billed(fault, self._usage) from None
        found = dataclasses.replace(found, usage=self._usage, ttft_s=ttft_s)
        return _with(found, choices, self._more)


class _Choice:
    """One choice of a stream, put together from its pieces."""

    def __init__(self) -> None:
        self.finish = ""
        self._texts: dict[str, list[str]] = {}
        self._others: dict[str, Any] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._logprobs: dict[str, Any] | None = None

    def take(self, delta: Mapping[str, Any], logprobs: Any) -> None:
        """Take one piece in."""
        for name, value in delta.items():
            if name == "tool_calls":
                for place, call in enumerate(value or ()):
                    index = call.get("index")
                    _grow(self._calls.setdefault(place if index is None else index, {"type": "function"}), call)
            elif isinstance(value, str) and name != "role":
                self._texts.setdefault(name, []).append(value)
            elif isinstance(value, list):
                self._others[name] = [*self._others.get(name, ()), *value]
            elif isinstance(value, dict):
                _grow(self._others.setdefault(name, {}), value)
        if logprobs:
            self._logprobs = self._logprobs or {}
            for name, value in logprobs.items():
                if isinstance(value, list):
                    self._logprobs.setdefault(name, []).extend(value)

    @property
    def is_reply(self) -> bool:
        """Whether it ended as a reply does: with a text, be it an empty one, and not by a filter."""
        return "content" in self._texts and self.finish != "content_filter"

    def whole(self, index: int) -> dict[str, Any]:
        """The choice as a whole answer holds it."""
        texts = {name: "".join(pieces) for name, pieces in self._texts.items()}
        message: dict[str, Any] = {"role": "assistant", "content": None, **texts, **self._others}
        if self._calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [self._calls[at] for at in sorted(self._calls)]
        return {"index": index, "message": message, "logprobs": self._logprobs, "finish_reason": self.finish}


def _grow(call: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Add a piece of a call: what is called comes once (some servers repeat it), what it is called with bit by bit."""
    for name, value in piece.items():
        if isinstance(value, dict):
            _grow(call.setdefault(name, {}), value)
        elif name in ("arguments", "input", "transcript", "data"):
            call[name] = call.get(name, "") + (value or "")
        elif name != "index" and value is not None:
            call[name] = value
