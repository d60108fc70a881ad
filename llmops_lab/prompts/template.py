r"""The prompt: text or chat messages with ``{{ slots }}``, and what is versioned together with them.

Templates are Jinja2 in a sandbox. A missing variable is an error, never an empty text. Values are inserted once and never read
as templates. Single braces are text, so JSON needs no escaping. Without ``{{``, ``{%`` or ``{#`` a text is sent exactly as written;
in a text with slots the line ends become ``\n``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from llmops_lab.errors import BadInput, meant
from llmops_lab.prompts import _jinja, patterns
from llmops_lab.prompts.fewshot import Embed, Examples
from llmops_lab.records import Example, Message, canonical, digest
from llmops_lab.redact import Redactor

SLOT = "examples"
_Fill = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Prompt:
    """A prompt, ready to be filled with a row's values.

    ``template`` is a text (sent as one user message) or a list of messages, ``{"role": ..., "content": ...}`` with a text or a list of
    OpenAI-style parts as content. ``system`` goes before it as a system message.

    ``examples`` (an ``Examples``, or a list of examples) fill the slot ``{{ examples }}``. Without such a slot they go before the last
    message as chat turns: the last message's own template filled with the example's inputs, answered by its output.

    ``pattern`` is ``step_by_step`` or ``self_consistency``. ``params`` (temperature, max_tokens, ...) and ``schema`` (a JSON schema for
    the reply, or a pydantic model) belong to the prompt and are versioned with it. ``name``, ``version`` and ``author`` say where it
    came from and are not part of its content.

    Raises BadInput for an empty template, one that does not parse (with the line), or a message that is not one.
    """

    template: str | Sequence[Any]
    _: KW_ONLY
    name: str = ""
    system: str | None = None
    examples: Examples | None = None
    pattern: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    version: int | None = None
    author: str = ""

    def __post_init__(self) -> None:
        set_field = functools.partial(object.__setattr__, self)
        if not isinstance(self.template, str):
            set_field("template", tuple(_message(item, number) for number, item in enumerate(_items(self.template), 1)))
        set_field("examples", Examples.of(self.examples))
        set_field("params", dict(self.params))
        if isinstance(self.schema, type) and hasattr(self.schema, "model_json_schema"):
            set_field("schema", self.schema.model_json_schema())
        if not self.template or (isinstance(self.template, str) and not self.template.strip()):
            raise BadInput(f"{self._label} has an empty template. Write the text of the prompt.")
        if self.pattern is not None:
            patterns.instruction(self.pattern)
        try:
            canonical([self.params, self.schema])
        except TypeError as error:
            raise BadInput(f"{self._label}: params and schema must be JSON-like: {error}.") from error
        for number, message in enumerate(self.messages, 1):
            for text in _texts(message.content):
                try:
                    _jinja.variables(text)
                except BadInput as error:
                    where = f", message {number}" if len(self.messages) > 1 else ""
                    raise BadInput(f"{self._label}{where}: {error}") from error

    def __hash__(self) -> int:
        return hash((self.sha256, self.name, self.version))

    @classmethod
    def from_content(cls, content: Mapping[str, Any], **origin: Any) -> Prompt:
        """The inverse of ``content``; ``origin`` gives ``name``, ``version`` and ``author``."""
        values = dict(content)
        if values.get("examples"):
            values["examples"] = Examples.from_content(values["examples"])
        return cls(**values, **origin)

    @property
    def content(self) -> dict[str, Any]:
        """All that decides what is sent, as JSON-like data: this is hashed and stored."""
        template = self.template if isinstance(self.template, str) else [_plain(message) for message in self._own]
        examples = self.examples.content if self.examples else None
        content = {"template": template, "system": self.system, "examples": examples, "pattern": self.pattern, "params": self.params}
        plain: dict[str, Any] = json.loads(canonical({**content, "schema": self.schema}))
        return plain

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of the content as it is stored: with the secrets known now redacted."""
        return digest(Redactor().tree(self.content))

    @property
    def turns(self) -> tuple[Message, ...]:
        """The template as messages, the system message first."""
        return self._own if self.system is None else (Message("system", self.system), *self._own)

    @functools.cached_property
    def messages(self) -> tuple[Message, ...]:
        """The messages before the slots are filled: with the system message and the pattern's instruction, without example turns."""
        messages = list(self.turns)
        if self.pattern is not None:
            last = max((index for index, message in enumerate(messages) if message.role == "user"), default=len(messages) - 1)
            messages[last] = _with_text(messages[last], f"\n\n{patterns.instruction(self.pattern)}")
        return tuple(messages)

    @functools.cached_property
    def variables(self) -> frozenset[str]:
        """The names that a row must have."""
        names = frozenset[str]().union(*(_variables(message) for message in self.messages))
        return names - {SLOT} if self.examples else names

    @property
    def needs_embedder(self) -> bool:
        """Whether examples are chosen by nearness and no embedder was given yet."""
        return self.examples is not None and self.examples.choose == "nearest" and self.examples.embed is None

    def with_embed(self, embed: Embed) -> Prompt:
        """The same prompt with the embedder that its examples need."""
        return dataclasses.replace(self, examples=self.examples.with_embed(embed)) if self.examples else self

    def prepare(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Do in batches what rendering these rows will need (embeddings for nearest examples); nothing otherwise."""
        if self.examples is not None:
            self.examples.prepare(rows)

    def render(self, values: Mapping[str, Any]) -> tuple[Message, ...]:
        """The messages for one row. Raises BadInput, with close matches, for a variable that is not there or is None or NaN."""
        try:
            if self.examples is None:
                return tuple([fill(values) for fill in self._fills])
            return self._render_with(self.examples, values)
        except _jinja.Gap as gap:
            raise self._explained(gap, values) from gap
        except BadInput as error:
            raise BadInput(f"{self._label}: {error}") from error

    def extract(self, text: str) -> str:
        """The final answer in a reply: what follows the last ``Answer:`` line under a reasoning pattern, else the text as it is."""
        return text if self.pattern is None else patterns.final_answer(text)

    @functools.cached_property
    def _fills(self) -> tuple[_Fill, ...]:
        return tuple(_fill_message(message) for message in self.messages)

    @functools.cached_property
    def _has_slot(self) -> bool:
        return any(SLOT in _variables(message) for message in self.messages)

    def _render_with(self, examples: Examples, values: Mapping[str, Any]) -> tuple[Message, ...]:
        picked = examples.pick(values)
        if self._has_slot:
            values = {**values, SLOT: examples.text(picked)}
            return tuple(fill(values) for fill in self._fills)
        *before, last = (fill(values) for fill in self._fills)
        return (*before, *(message for example in picked for message in self._turn(example)), last)

    def _turn(self, example: Example) -> tuple[Message, Message]:
        asked = self._own[-1]
        lacking = sorted(_variables(asked) - set(example.inputs))
        if lacking:
            raise BadInput(
                f"the last message uses {{{{ {lacking[0]} }}}}, which an example lacks (it has {', '.join(example.inputs)}). "
                "Add it to the examples, or place {{ examples }} in the template."
            )
        filled: Message = _fill_message(asked)(example.inputs)
        return filled, Message("assistant", example.output)

    @property
    def _own(self) -> tuple[Message, ...]:
        template: Any = self.template  # messages by now: see __post_init__
        return (Message("user", template),) if isinstance(template, str) else tuple(template)

    @property
    def _label(self) -> str:
        return f"prompt {self.name!r}" if self.name else "the prompt"

    def _explained(self, gap: _jinja.Gap, values: Mapping[str, Any]) -> BadInput:
        if not gap.name:
            empty = sorted(name for name in self.variables if name in values and _is_missing(values[name]))
            return BadInput(f"{self._label}: {gap}.{' Empty here: ' + ', '.join(empty) + '.' if empty else ''}")
        known = ", ".join(map(str, values)) or "none"
        return BadInput(f"{self._label} needs {{{{ {gap.name} }}}}, which is not there.{meant(gap.name, map(str, values))} Known: {known}.")


def _items(template: Any) -> Sequence[Any]:
    if isinstance(template, Mapping | Message) or not isinstance(template, Sequence):
        raise BadInput(f"a template is a text or a list of messages, not a {type(template).__name__}.")
    return template


def _message(item: Any, number: int) -> Message:
    if isinstance(item, Message):
        return item
    if not isinstance(item, Mapping) or set(item) != {"role", "content"}:
        raise BadInput(f'message {number} must be {{"role": ..., "content": ...}}, not {item!r}.')
    role, content = item["role"], item["content"]
    if not isinstance(role, str) or not role:
        raise BadInput(f"message {number} needs a role: system, user or assistant; it has {role!r}.")
    if isinstance(content, str):
        return Message(role, content)
    if not isinstance(content, list | tuple) or not content or not all(isinstance(part, Mapping) and "type" in part for part in content):
        raise BadInput(
            f'message {number}: content must be a text or a list of parts such as {{"type": "text", "text": ...}}, not {content!r}.'
        )
    return Message(role, tuple(dict(part) for part in content))


def _plain(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content if isinstance(message.content, str) else list(message.content)}


def _with_text(message: Message, text: str) -> Message:
    if isinstance(message.content, str):
        return Message(message.role, message.content + text)
    return Message(message.role, (*message.content, {"type": "text", "text": text.strip()}))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _variables(message: Message) -> frozenset[str]:
    return frozenset[str]().union(*(_jinja.variables(text) for text in _texts(message.content)))


def _fill_message(message: Message) -> _Fill:
    if all(_jinja.is_plain(text) for text in _texts(message.content)):
        return lambda values: message
    fill = _fill_tree(message.content)
    return lambda values: Message(message.role, fill(values))


def _fill_tree(value: Any) -> _Fill:
    if isinstance(value, str):
        return (lambda values: value) if _jinja.is_plain(value) else _jinja.compiled(value)
    if isinstance(value, Mapping):
        pairs = {key: _fill_tree(item) for key, item in value.items()}
        return lambda values: {key: fill(values) for key, fill in pairs.items()}
    if isinstance(value, list | tuple):
        kind, fills = type(value), [_fill_tree(item) for item in value]
        return lambda values: kind(fill(values) for fill in fills)
    return lambda values: value


def _is_missing(value: Any) -> bool:
    try:
        _jinja.shown(value)
    except _jinja.Gap:
        return True
    return False
