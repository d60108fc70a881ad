"""Word diff of two prompts: as data, as text in the manner of ``git diff --word-diff``, and as escaped HTML."""

from __future__ import annotations

import difflib
import html
import json
import re
from dataclasses import dataclass

from llmops_lab.escapes import inert
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import Message, content_text

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_STYLE = {"delete": "background:#fdd;color:#800", "insert": "background:#dfd;color:#060"}


@dataclass(frozen=True)
class Diff:
    """What changed from ``a`` to ``b``. ``parts`` are (op, text) with op ``equal``, ``delete`` or ``insert``, in reading order.

    The equal and deleted parts joined are the old text, the equal and inserted parts the new one.
    """

    a: str
    b: str
    parts: tuple[tuple[str, str], ...]

    @property
    def changed(self) -> bool:
        """Whether anything differs."""
        return any(op != "equal" for op, _ in self.parts)

    @property
    def text(self) -> str:
        """Deleted words as ``[-old-]``, inserted ones as ``{+new+}``; control characters are shown as escapes."""
        marks = {"equal": "{}", "delete": "[-{}-]", "insert": "{{+{}+}}"}
        return "".join(marks[op].format(inert(text)) for op, text in self.parts)

    @property
    def html(self) -> str:
        """The same with ``<del>`` and ``<ins>``, all text escaped."""
        body = "".join(_html_part(op, inert(text)) for op, text in self.parts)
        title = html.escape(f"{self.a} → {self.b}")
        note = "" if self.changed else " <em>no difference</em>"
        return f'<div class="llmops-diff"><strong>{title}</strong>{note}<pre style="white-space:pre-wrap">{body}</pre></div>'

    def __str__(self) -> str:
        return f"{self.a} → {self.b}\n{self.text}" if self.changed else f"{self.a} → {self.b}: no difference"

    def _repr_html_(self) -> str:
        return self.html


def diff(a: Prompt, b: Prompt) -> Diff:
    """The word diff of two prompts, over everything that decides what is sent."""
    return Diff(title(a), title(b), word_diff(as_text(a), as_text(b)))


def title(prompt: Prompt) -> str:
    """``name/version``, or as much of it as there is."""
    return f"{prompt.name or 'prompt'}/{prompt.version}" if prompt.version is not None else prompt.name or "prompt"


def as_text(prompt: Prompt) -> str:
    """A prompt as a person reads it: the messages, then examples, pattern, parameters and schema where there are any."""
    messages = prompt.turns
    if len(messages) == 1 and messages[0].role == "user":
        sections = [_content(messages[0])]
    else:
        sections = [f"[{message.role}]\n{_content(message)}" for message in messages]
    if prompt.examples is not None:
        rule = {key: value for key, value in prompt.examples.content.items() if key != "items" and value not in (None, "")}
        sections.append(f"[examples] {_json(rule)}\n{prompt.examples.text(prompt.examples.items)}")
    for name, value in (("pattern", prompt.pattern), ("params", prompt.params), ("schema", prompt.schema)):
        if value:
            sections.append(f"[{name}]\n{value if isinstance(value, str) else _json(value)}")
    return "\n\n".join(sections)


def word_diff(a: str, b: str) -> tuple[tuple[str, str], ...]:
    """The (op, text) parts that lead from a to b: lines are matched first, then the words inside the lines that changed."""
    old, new = a.splitlines(keepends=True), b.splitlines(keepends=True)
    parts: list[tuple[str, str]] = []
    for op, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if op == "replace":
            parts.extend(_words("".join(old[i1:i2]), "".join(new[j1:j2])))
        else:
            parts.append((op, "".join(new[j1:j2] if op == "insert" else old[i1:i2])))
    return tuple(_joined(parts))


def _words(a: str, b: str) -> list[tuple[str, str]]:
    old, new = _WORD.findall(a), _WORD.findall(b)
    parts: list[tuple[str, str]] = []
    for op, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=len(old) > 5000).get_opcodes():
        if op == "equal":
            parts.append((op, "".join(old[i1:i2])))
            continue
        parts.append(("delete", "".join(old[i1:i2])))
        parts.append(("insert", "".join(new[j1:j2])))
    return parts


def _joined(parts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    joined: list[tuple[str, str]] = []
    for op, text in parts:
        if joined and joined[-1][0] == op:
            joined[-1] = (op, joined[-1][1] + text)
        elif text:
            joined.append((op, text))
    return joined


def _content(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    others = [part for part in message.content if part.get("type") != "text"]
    return "\n".join([content_text(message.content), *map(_json, others)]).strip("\n")


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=str)


def _html_part(op: str, text: str) -> str:
    escaped = html.escape(text)
    if op == "equal":
        return escaped
    tag = "del" if op == "delete" else "ins"
    return f'<{tag} style="{_STYLE[op]}">{escaped}</{tag}>'
