"""What travels between steps: frozen records of plain data. No step imports another step; they all import this.

``to_json`` and ``from_json`` are exact inverses for every record here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Status = Literal["ok", "failed", "cancelled", "skipped"]
OutcomeName = Literal["better", "worse", "equivalent", "inconclusive"]
R = TypeVar("R")


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the one form that is ever hashed. Lone surrogates are kept as escapes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain)


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical form of any JSON-like value or record."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def to_json(record: Any) -> str:
    """A record as canonical JSON."""
    return canonical(dataclasses.asdict(record))


def from_json(kind: type[R], text: str) -> R:
    """The record of class ``kind`` that ``to_json`` wrote."""
    return _build(kind, json.loads(text))


def nan_as_null(value: Any) -> Any:
    """The value as strict JSON can hold it: None for a number that is not finite, records and mappings as dicts, numpy's numbers plain."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(name): nan_as_null(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [nan_as_null(each) for each in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_missing(value: Any) -> bool:
    """Whether a table says with it that there is no value: None, NaN, pandas' NaT and NA."""
    return value is None or (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType")


def _build(kind: type[R], data: Mapping[str, Any]) -> R:
    if kind is Message and "more" in data:
        return _build(Turn, data)  # type: ignore[return-value]
    nested: dict[str, Any] = {"usage": Usage, "messages": Message, "examples": Example}
    values = dict(data)
    for name, cls in nested.items():
        item = values.get(name)
        if isinstance(item, Mapping):
            values[name] = _build(cls, item)
        elif isinstance(item, list):
            values[name] = tuple(_build(cls, each) for each in item)
    if kind in (Message, Turn) and isinstance(values.get("content"), list):
        values["content"] = tuple(values["content"])
    for name in ("tool_calls", "logprobs", "choices", "tools"):
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
    return kind(**values)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):  # a numpy scalar or array out of a DataFrame
        return value.tolist()
    if hasattr(value, "as_tuple"):  # a decimal: as text it keeps every figure
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message. ``content`` is text, or a tuple of OpenAI-style parts (dicts: text, image_url, ...)."""

    role: str
    content: str | tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Turn(Message):
    """A message with further fields of OpenAI's, as they are: the calls of tools that an assistant made, which call a result answers.

    A ``content`` of None among them stands for none at all; ``content`` itself is then empty.
    """

    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent to a model: messages and sampling parameters. ``schema``: JSON schema of the reply; ``tools``: OpenAI definitions."""

    messages: tuple[Message, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def text(self) -> str:
        """All text of the messages, for estimates; image parts excluded."""
        return "\n".join(content_text(message.content) for message in self.messages)


def output_limit(params: Mapping[str, Any]) -> int:
    """The most tokens that these parameters let a model write, in all of its ``n`` replies; 0 where nothing limits it."""
    limit = max(int(params.get(name) or 0) for name in ("max_tokens", "max_completion_tokens"))
    return max(0, limit) * max(1, int(params.get("n") or 1))


def content_text(content: str | tuple[dict[str, Any], ...]) -> str:
    """The text of a message's content; image and audio parts are left out."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in content if part.get("type") == "text")


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call, as the provider reported them; None where it said nothing."""

    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. Times in seconds; ``ttft_s`` only where the reply was streamed; ``cost_usd`` None when no price is known.

    ``finish_reason`` "length" means cut by the token limit. ``logprobs`` are of the reply's tokens (natural log).
    """

    text: str
    finish_reason: str
    usage: Usage = Usage()
    latency_s: float = 0.0
    ttft_s: float | None = None
    cost_usd: float | None = None
    model: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Relayed(Reply):
    """A reply with all that an upstream said: its ``choices`` (several where ``n`` was asked for) and, in ``more``, what stood beside them.

    Both in OpenAI's form. The other fields tell of the first choice that can be used, ``usage`` and ``cost_usd`` of all.
    """

    choices: tuple[dict[str, Any], ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one cell's call ended. ``reply`` is there exactly when ``status`` is "ok"; else ``error`` is a fault kind, ``message`` says more.

    ``tries`` counts requests sent; ``answered`` is True when any HTTP answer (an error too) came back, or the model is local.
    ``usage`` and ``cost_usd`` are what tries that gave no usable reply were billed, as far as the provider told; the reply has its own.
    """

    status: Status
    reply: Reply | None
    error: str = ""
    message: str = ""
    tries: int = 1
    answered: bool = True
    usage: Usage = Usage()
    cost_usd: float | None = None

    @property
    def total_usd(self) -> float | None:
        """All that was billed, the reply and the tries before it; None where a part has no price."""
        if self.reply is None or self.reply.cost_usd is None:
            return None if self.reply else self.cost_usd
        return self.reply.cost_usd + (self.cost_usd or 0.0)


@dataclass(frozen=True, slots=True)
class Score:
    """One judgement of one reply. ``value`` None is *unscored* (never 0); ``error`` says why a scorer broke.

    ``value`` keeps its type: True/False makes the scorer binary, a float numeric. ``detail`` holds what a summary
    needs (for example the predicted and the true label).
    """

    value: bool | float | None
    reason: str = ""
    error: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """One worked example for a few-shot slot: the input's fields and the wanted output."""

    inputs: Mapping[str, Any]
    output: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as the user named it: ``tiny`` or ``PROVIDER:TARGET``; ``params`` override the grid's; ``label`` is its column value."""

    spec: str
    params: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def name(self) -> str:
        """The label, or the spec where no label was given."""
        return self.label or self.spec


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a grid would take, before anything is sent. ``cost_usd`` None when a price is unknown; ``seconds`` None without history.

    ``input_tokens`` is a guess of one token per four characters, ``output_tokens`` the limit; so the cost is an upper guess.
    """

    cells: int
    calls: int
    reused: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How b compares with a on the same rows. ``delta`` is mean(b) - mean(a) in the scorer's unit, signed so that > 0 is better for b
    only when the scorer says higher is better; ``outcome`` already takes the direction into account.

    ``n_pairs`` rows were paired, ``n_missing`` lacked a score on one side, and ``n_partial`` of the paired ones could be paired only in
    part (a repeat or a model without a score is left out on both sides). ``needed_rows`` is the number of rows for 80 % power
    at this effect; None once decided.
    """

    outcome: OutcomeName
    delta: float
    ci_low: float
    ci_high: float
    p_value: float
    test: str
    n_pairs: int
    n_missing: int
    needed_rows: int | None
    a: str = ""
    b: str = ""
    scorer: str = ""
    mean_a: float | None = None
    mean_b: float | None = None
    alpha: float = 0.05
    margin: float | None = None
    mde: float | None = None
    wins: int = 0
    losses: int = 0
    ties: int = 0
    n_partial: int = 0
    higher_is_better: bool = True
