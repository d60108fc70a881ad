"""Rows become examples: chats that end with the answer to learn. Rows that cannot are named, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from random import Random
from typing import Any

from llmops_lab.errors import BadInput, clipped
from llmops_lab.records import digest
from llmops_lab.training._alike import same

Turn = tuple[str, str]
FORMS = (("prompt", "completion"), ("input", "output"))
_ROLES = ("system", "developer", "user", "assistant")
_FORMS_TOLD = "'messages', or 'prompt' and 'completion', or 'input' and 'output'"


@dataclass(frozen=True)
class Example:
    """One exercise: ``turns`` are (role, text) up to the question, ``answer`` is what to learn.

    ``id``: the row's own or a digest; ``place``: where it stands, for people.
    """

    turns: tuple[Turn, ...]
    answer: str
    id: str = field(compare=False, default="")
    place: str = field(compare=False, default="")

    @property
    def called(self) -> str:
        """What a message calls it: row and file, and the row's own id where it has one."""
        return self.place or self.id

    @property
    def question(self) -> str:
        """The turns as one text."""
        return "\n".join(text for _, text in self.turns)

    @property
    def messages(self) -> list[dict[str, str]]:
        """The turns in the form that chat templates and prompts take."""
        return [{"role": role, "content": text} for role, text in self.turns]


@dataclass(frozen=True)
class Examples:
    """The examples of one file or list. ``digest`` names what is in them; ``source`` is for people."""

    items: tuple[Example, ...]
    source: str

    def __len__(self) -> int:
        return len(self.items)

    @property
    def digest(self) -> str:
        """SHA-256 of turns and answers, in order."""
        return digest([[list(each.turns), each.answer] for each in self.items])

    def take(self, numbers: Sequence[int], what: str) -> Examples:
        """Some of them, as a set of its own."""
        source = self.source if self.source.endswith(f"({what})") else f"{self.source} ({what})"
        return Examples(tuple(self.items[number] for number in numbers), source)


def asked(example: Example) -> str:
    """What is asked, system messages aside: by this two examples are compared."""
    return " ".join(text for role, text in example.turns if role not in ("system", "developer"))


def read(rows: Sequence[Mapping[str, Any]], source: str, ids: Sequence[str] = ()) -> Examples:
    """Examples of rows with ``messages``, or ``prompt`` and ``completion``, or ``input`` and ``output``; a column ``system`` goes before.

    ``prompt`` and ``completion`` may be texts or lists of messages; ``messages`` ends with the assistant's answer. A row may have one
    form only, and all rows have the same. Raises BadInput naming the column or row that is wrong, and for no rows at all.
    """
    if not rows:
        raise BadInput(f"{source} has no rows: there is nothing to learn from. Each row needs {_FORMS_TOLD}.")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    form = _form(columns, source)
    made, file = [], PurePath(source).name
    for number, row in enumerate(rows, 1):
        where = f"row {number} of {source}"
        turns, answer = _chat(row, where) if form == ("messages",) else _pair(row, form, where)
        own = f" ({row['id']})" if row.get("id") not in (None, "") else ""
        name = str(ids[number - 1]) if ids else digest([list(turns), answer])[:12]
        made.append(Example(turns, answer, name, f"row {number}{own} of {file}"))
    return Examples(tuple(made), source)


def split(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """(the larger part, a ``share`` of it held out); the same seed gives the same parts.

    Questions that the leak check would call the same stay on one side. Raises BadInput when either part would be empty.
    """
    groups: dict[str, list[int]] = {}
    for number, each in enumerate(examples.items):
        groups.setdefault(same(asked(each)), []).append(number)
    order = list(groups.values())
    Random(seed).shuffle(order)  # noqa: S311 - a split, not a secret
    wanted, out = max(1, round(len(examples) * share)), list[int]()
    while order and len(out) < wanted:
        out += order.pop()
    kept = sorted(number for group in order for number in group)
    if not kept:
        raise BadInput(f"{examples.source} has too few different rows ({len(groups)}) to hold some out. Name a file of validation rows.")
    return examples.take(kept, "to learn from"), examples.take(sorted(out), "held out")


def mix(examples: Examples, replay: Examples | None, seed: int) -> Examples:
    """Training rows and replay rows (of what the model can already do, against forgetting), shuffled."""
    items = [*examples.items, *(replay.items if replay else ())]
    Random(seed).shuffle(items)  # noqa: S311 - an order, not a secret
    return Examples(tuple(items), " + ".join(each.source for each in (examples, replay) if each))


def _form(columns: Sequence[str], source: str) -> tuple[str, ...]:
    if "messages" in columns:
        return ("messages",)
    for form in FORMS:
        if set(form) <= set(columns):
            return form
    half = next((form for form in FORMS if set(form) & set(columns)), None)
    lacking = f" It has {(set(half) & set(columns)).pop()!r} but no {(set(half) - set(columns)).pop()!r}." if half else ""
    raise BadInput(f"{source} needs the columns {_FORMS_TOLD}.{lacking} Found: {', '.join(columns) or 'none'}.")


def _chat(row: Mapping[str, Any], where: str) -> tuple[tuple[Turn, ...], str]:
    turns = _turns(row.get("messages"), f"{where}, column 'messages'")
    if turns[-1][0] != "assistant":
        raise BadInput(f"{where}: the last message must be the assistant's, which is what is learnt; it is the {turns[-1][0]}'s.")
    if len(turns) < 2:
        raise BadInput(f"{where}: the messages hold an answer and no question. Add the user's message before it.")
    return turns[:-1], turns[-1][1]


def _pair(row: Mapping[str, Any], form: Sequence[str], where: str) -> tuple[tuple[Turn, ...], str]:
    asked, answer = (
        _side(row.get(name), f"{where}, column {name!r}", role) for name, role in zip(form, ("user", "assistant"), strict=True)
    )
    if len(answer) > 1 or answer[0][0] != "assistant":
        raise BadInput(f"{where}, column {form[1]!r}: the answer is one text, or one message of the assistant.")
    system = row.get("system")
    if system is not None and not isinstance(system, str):
        raise BadInput(f"{where}, column 'system' must be a text, not {type(system).__name__}.")
    return (*((("system", system),) if system else ()), *asked), answer[0][1]


def _side(value: Any, where: str, role: str) -> tuple[Turn, ...]:
    if isinstance(value, str) and value.strip():
        return ((role, value),)
    if isinstance(value, list):
        return _turns(value, where)
    raise BadInput(f"{where} must be a text that is not empty; it is {_short(value)}.")


def _turns(value: Any, where: str) -> tuple[Turn, ...]:
    if isinstance(value, str):
        import json

        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadInput(f"{where} is not JSON: {error}.") from error
    if not isinstance(value, list) or not value:
        raise BadInput(f'{where} must be a list of {{"role": ..., "content": ...}}; it is {_short(value)}.')
    return tuple(_turn(item, f"{where}, message {number}") for number, item in enumerate(value, 1))


def _turn(item: Any, where: str) -> Turn:
    role, content = (item.get("role"), item.get("content")) if isinstance(item, Mapping) else (None, None)
    if role not in _ROLES:
        raise BadInput(f"{where} needs a role, one of {', '.join(_ROLES)}; it is {_short(item)}.")
    if not isinstance(content, str) or not content.strip():
        raise BadInput(f"{where} needs a text as content that is not empty; it is {_short(content)}.")
    return str(role), content


def _short(value: Any) -> str:
    return "missing" if value is None else clipped(repr(value))
