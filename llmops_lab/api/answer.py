"""The answer that a person holds: its text, what it cost, and where its record lies. Shown inert, whatever the model wrote."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from llmops_lab.records import Message, Usage
from llmops_lab.redact import Redactor

if TYPE_CHECKING:
    from llmops_lab.flows.ask import Asked

SHOWN_CHARACTERS = 50_000
MUTED = "color:var(--jp-ui-font-color2,#767676);font-size:85%"
WARNING = "color:var(--jp-error-color1,#cf222e);font-weight:600"
_PRE = "white-space:pre-wrap;overflow-wrap:anywhere;margin:0 0 .4em 0"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


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
            reply.text, reply.usage, asked.cost_usd, reply.latency_s, reply.ttft_s, reply.finish_reason, asked.run_id, asked.trace_id,
            PromptRef(prompt.name, prompt.version, prompt.sha256), messages, redact(asked.model.name), reply.tool_calls,
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


def money(usd: float | None) -> str:
    """A sum in USD with as many digits as it needs; a missing one is not 0."""
    if usd is None:
        return "cost unknown"
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.6f}".rstrip("0").rstrip(".")


def inert(text: str) -> str:
    """A text whose control characters, lone surrogates and direction marks are escapes, so that it can drive no terminal and no page."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}", text)


def shortened(text: str) -> str:
    """The inert text, or its beginning with a line that says how much is left out."""
    if len(text) <= SHOWN_CHARACTERS:
        return inert(text)
    return f"{inert(text[:SHOWN_CHARACTERS])}\n… {len(text) - SHOWN_CHARACTERS:,} more characters: the whole stands in .text"


def pre(text: str) -> str:
    """An inert text as HTML."""
    return f'<pre style="{_PRE}">{html.escape(text)}</pre>'


def literal(page: str) -> str:
    """A piece of HTML in which JupyterLab typesets no formula: a sum is written with a dollar sign, and so is what a model makes up."""
    return f'<div class="mathjax_ignore">{page}</div>'


def note(parts: Sequence[str], warning: str = "") -> str:
    """The muted line under an answer as HTML, with a warning in front where there is one."""
    mark = [f'<span style="{WARNING}">{html.escape(warning)}</span>'] if warning else []
    return f'<div style="{MUTED}">{" · ".join([*mark, *(html.escape(inert(part)) for part in parts)])}</div>'


def metadata(answer: Answer) -> Mapping[str, Any]:
    """What a notebook keeps beside the output: where the record lies."""
    kept = {name: getattr(answer, name) for name in ("model", "run_id", "trace_id", "finish_reason")}
    return {"llmops_lab": {**kept, "prompt": answer.prompt._asdict()}}
