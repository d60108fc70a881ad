"""Prompt files (TOML, one table a prompt) and everything else that a user may hand over as prompts.

    [plain]
    template = "Answer briefly: {{ question }}"

    [steps]
    system = "You are careful."
    template = "{{ question }}"
    pattern = "step_by_step"            # or "self_consistency"
    params = { temperature = 0.7, max_tokens = 200 }
    schema = { type = "object", required = ["answer"] }

    [chat]
    [[chat.messages]]                   # in place of `template`
    role = "user"
    content = "{{ question }}"

    [few]
    template = "{{ text }}"
    examples = [ { text = "I was charged twice", output = "billing" } ]

    [nearest]
    template = "{{ text }}"
    examples = { file = "solved.csv", choose = "nearest", count = 3, by = "text", embedder = "hashing" }   # .csv or .jsonl

    [live]
    uri = "prompts:/triage@production"  # a version from the library

The columns of an example file are the input fields; the column ``output`` holds the answer. Its path is relative to the TOML file.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, meant
from llmops_lab.prompts.fewshot import Examples
from llmops_lab.prompts.template import Prompt

Fetch = Callable[[str], Prompt]
SCHEME = "prompts:/"
_KEYS = ("template", "messages", "system", "examples", "pattern", "params", "schema", "uri")
_KIND_NAMES: dict[type, str] = {str: "text", dict: "table", list: "list of tables"}
_EXAMPLE_KEYS = ("items", "file", "choose", "count", "seed", "by", "embedder")


def load_prompts(value: Any, *, fetch: Fetch | None = None) -> dict[str, Prompt]:
    """Every form of prompts as name -> Prompt.

    ``value`` is a mapping of names to prompts, one prompt, a list of prompts, or the path of a TOML file. A prompt is a text, a list of
    messages, a ``Prompt`` or ``prompts:/NAME@ALIAS`` / ``prompts:/NAME/VERSION``, which ``fetch`` looks up. Prompts without a name of
    their own get the mapping's key, or ``prompt``, ``prompt_2``, ... Raises BadInput for anything else.
    """
    if isinstance(value, Path) or (isinstance(value, str) and _is_path(value)):
        return read_file(value, fetch=fetch)
    if isinstance(value, Mapping):
        names = [str(name) for name in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadInput(f"two prompts are called {twice!r}. Give them names that read differently.")
        found = {str(name): load_prompt(item, fetch=fetch) for name, item in value.items()}
    else:
        found = _numbered(value if isinstance(value, list | tuple) and not _is_chat(value) else [value], fetch)
    if not found:
        raise BadInput("no prompt was given. Give a text, a mapping of names to texts, or the path of a .toml file.")
    return {name: prompt if prompt.name else dataclasses.replace(prompt, name=name) for name, prompt in found.items()}


def load_prompt(value: Any, *, fetch: Fetch | None = None) -> Prompt:
    """One prompt from a text, a list of messages, a ``Prompt``, or a ``prompts:/`` address."""
    if isinstance(value, Prompt):
        return value
    if isinstance(value, str) and value.startswith(SCHEME):
        if fetch is None:
            raise BadInput(f"{value} is in the prompt library, which is not open here.")
        return fetch(value)
    if isinstance(value, str | list | tuple):
        return Prompt(value)
    raise BadInput(f"a prompt is a text, a list of messages, a Prompt or an address {SCHEME}NAME@ALIAS, not a {type(value).__name__}.")


def read_file(path: str | Path, *, fetch: Fetch | None = None) -> dict[str, Prompt]:
    """The prompts of a TOML file, in its order. Raises BadInput naming the file, and the line or the table."""
    return read_text(_text(Path(path), ".toml"), Path(path), fetch=fetch)


def read_text(text: str, path: Path, *, fetch: Fetch | None = None) -> dict[str, Prompt]:
    """The prompts of a TOML text. ``path`` is what errors call it; example files lie beside it."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is malformed: {error}") from error
    if not tables:
        raise BadInput(f'{path} holds no prompt. Write a table for each, for example [plain] with template = "...".')
    return {name: _from_table(path, name, table, fetch) for name, table in tables.items()}


def read_examples(path: str | Path) -> list[dict[str, Any]]:
    """The rows of an example file, .csv (first line: names) or .jsonl. Raises BadInput naming the file and line."""
    path = Path(path)
    text = _text(path, ".csv")
    if path.suffix == ".jsonl":
        return [_json_line(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if path.suffix != ".csv":
        raise BadInput(f"{path}: examples are read from .csv or .jsonl files.")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise BadInput(f"{path} is malformed at line {reader.line_num}: it does not have as many fields as the first line.")
            rows.append(dict(row))
        return rows
    except csv.Error as error:
        raise BadInput(f"{path} is malformed at line {reader.line_num + 1}: {error}.") from error


def _from_table(path: Path, name: str, table: Any, fetch: Fetch | None) -> Prompt:
    where = f"{path}, [{name}]"
    if not isinstance(table, Mapping):
        raise BadInput(f'{path}: {name} is no table. Each prompt is a table: [{name}] with template = "...".')
    _known(where, table, _KEYS)
    if sum(key in table for key in ("template", "messages", "uri")) != 1:
        raise BadInput(f"{where}: give one of template, messages and uri.")
    try:
        if "uri" in table:
            _known(where, table, ("uri",))
            return load_prompt(_typed(where, table, "uri", str), fetch=fetch)
        return Prompt(
            _typed(where, table, "messages", list) if "messages" in table else _typed(where, table, "template", str),
            name=name,
            system=_typed(where, table, "system", str),
            examples=_examples(path, where, table.get("examples")),
            pattern=_typed(where, table, "pattern", str),
            params=_typed(where, table, "params", dict) or {},
            schema=_typed(where, table, "schema", dict),
        )
    except BadInput as error:
        raise error if str(path) in str(error) else BadInput(f"{where}: {error}") from error


def _examples(path: Path, where: str, value: Any) -> Examples | None:
    if value is None or isinstance(value, list):
        return Examples.of(value)
    if not isinstance(value, Mapping):
        raise BadInput(f"{where}: examples must be a list of tables, or a table with items or file.")
    _known(f"{where}, examples", value, _EXAMPLE_KEYS)
    for key in ("file", "choose", "by", "embedder"):
        _typed(f"{where}, examples", value, key, str)
    if ("file" in value) == ("items" in value):
        raise BadInput(f"{where}: examples need either items or file.")
    items = read_examples(path.parent / value["file"]) if "file" in value else value["items"]
    rest = {key: item for key, item in value.items() if key not in ("file", "items")}
    return Examples.of(items, **rest)


def _typed(where: str, table: Mapping[str, Any], key: str, kind: type) -> Any:
    value = table.get(key)
    if value is not None and not isinstance(value, kind):
        raise BadInput(f"{where}: {key} must be a {_KIND_NAMES[kind]}, not {value!r}.")
    return value


def _known(where: str, table: Iterable[str], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise BadInput(f"{where} has {key!r}, which is not known.{meant(key, known)} Known: {', '.join(known)}.")


def _text(path: Path, suffix: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        near = sorted(item.name for item in path.parent.glob(f"*{suffix}")) if path.parent.is_dir() else []
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.{meant(path.name, near)}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{path} is not UTF-8: byte 0x{data[error.start]:02x} at line {line}. Save it as UTF-8.") from error


def _json_line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BadInput(f"{path} is malformed at line {number}: {error}.") from error
    if not isinstance(row, dict):
        raise BadInput(f"{path} is malformed at line {number}: each line must be a JSON object.")
    return row


def _is_path(value: str) -> bool:
    return value.endswith(".toml") and "\n" not in value and "{{" not in value


def _is_chat(value: Iterable[Any]) -> bool:
    return all((isinstance(item, Mapping) and "role" in item) or hasattr(item, "role") for item in value)


def _numbered(values: Iterable[Any], fetch: Fetch | None) -> dict[str, Prompt]:
    found: dict[str, Prompt] = {}
    for number, value in enumerate(values, 1):
        prompt = load_prompt(value, fetch=fetch)
        name = prompt.name or ("prompt" if number == 1 else f"prompt_{number}")
        if name in found:
            name = f"{name}/{prompt.version}" if prompt.version else f"{name}_{number}"
        found[name] = prompt
    return found
