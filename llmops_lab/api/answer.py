"""The answer that a person holds: its text, what it cost, and where its record lies. Shown inert, whatever the model wrote."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from llmops_lab.api.display import literal, money, note, pre, shortened
from llmops_lab.escapes import inert
from llmops_lab.records import Message, Usage
from llmops_lab.redact import Redactor

if TYPE_CHECKING:
    from llmops_lab.flows.ask import Asked


class PromptRef(NamedTuple):
    """Which prompt it was. ``version`` is None for a text that is not in the library; ``sha256`` is of its content."""

    name: str
    version: int | None
    sha256: str


@dataclass(frozen=True)
class Answer:
    """A model's answer. ``print`` and ``{{ answer }}`` in a further prompt give its text.

    ``cost_usd`` is of all ``tries`` and None when no price is known; ``ttft_s`` is None when the reply was not streamed; times in seconds.
    ``finish_reason`` "length" means cut by the token limit. ``messages`` are those that were sent, secrets redacted. ``trace_id`` and
    ``run_id`` are MLflow's; ``run_id`` is None as long as MLflow has not taken the trace, which then waits in the outbox.
    """

    text: str
    usage: Usage
    cost_usd: float | None
    latency_s: float
    ttft_s: float | None
    finish_reason: str
    run_id: str | None
    trace_id: str | None
    prompt: PromptRef
    messages: tuple[Message, ...]
    model: str
    tool_calls: tuple[dict[str, Any], ...] = ()
    tries: int = 1

    @classmethod
    def of(cls, asked: Asked) -> Answer:
        """The answer of a call that had one."""
        reply, prompt = asked.outcome.reply, asked.prompt
        if reply is None:
            raise ValueError("this call has no reply")
        redact = Redactor()
        messages = tuple(dataclasses.replace(message, content=redact.tree(message.content)) for message in asked.request.messages)
        return cls(
            reply.text, reply.usage, asked.outcome.total_usd, reply.latency_s, reply.ttft_s, reply.finish_reason, asked.run_id,
            asked.trace_id, PromptRef(prompt.name, prompt.version, prompt.sha256), messages, redact(asked.model.name), reply.tool_calls,
            asked.outcome.tries,
        )  # fmt: skip

    @property
    def footer(self) -> list[str]:
        """What stands under the answer: model, tokens, times, cost, prompt, and what is not as it should be."""
        given, made = (("?" if count is None else str(count)) for count in (self.usage.input_tokens, self.usage.output_tokens))
        parts = [
            f"{self.model} (fixture)" if self.model == "tiny" else self.model,
            f"{given} → {made} tokens",
            f"{self.latency_s:.2f} s",
            "" if self.ttft_s is None else f"first token {self.ttft_s:.2f} s",
            money(self.cost_usd),
            f"{self.tries} tries" if self.tries > 1 else "",
            named(self.prompt),
            "" if self.run_id else "not in MLflow yet, kept in the outbox" if self.trace_id else "not tracked",
        ]
        return [part for part in parts if part]

    @property
    def warning(self) -> str:
        """What a reader must not miss; empty when all is well."""
        return "cut by the token limit" if self.finish_reason == "length" else ""

    @property
    def shown(self) -> str:
        """The text as it is displayed: tool calls below it, control characters as escapes, cut where a page could not hold it."""
        calls = "\n".join(json.dumps(call, ensure_ascii=False, default=str) for call in self.tool_calls)
        return shortened("\n".join(part for part in (self.text, calls) if part) or "(empty answer)")

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return "\n".join([self.shown, *([f"[{self.warning}]"] if self.warning else []), f"[{' · '.join(map(inert, self.footer))}]"])

    def _repr_html_(self) -> str:
        return literal(pre(self.shown) + note(self.footer, self.warning))


def named(prompt: PromptRef) -> str:
    """``name/version``, or as much of it as there is and the beginning of the hash."""
    if prompt.version is not None:
        return f"{prompt.name}/{prompt.version}"
    return f"{prompt.name or 'prompt'} {prompt.sha256[:8]}"


def metadata(answer: Answer) -> Mapping[str, Any]:
    """What a notebook keeps beside the output: where the record lies."""
    kept = {name: getattr(answer, name) for name in ("model", "run_id", "trace_id", "finish_reason")}
    return {"llmops_lab": {**kept, "prompt": answer.prompt._asdict()}}
