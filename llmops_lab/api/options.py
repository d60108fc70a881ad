"""The options that ``llmops-lab``, ``%%grid`` and ``%grid`` share: one parser, so that command, magic and function cannot drift apart."""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from llmops_lab.errors import BadInput, UnknownName, meant


class Options(argparse.ArgumentParser):
    """An argument parser whose complaints are BadInput: they name the option, close matches and what to type next."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **settings})

    def error(self, message: str) -> NoReturn:
        """Raise BadInput in place of printing and leaving."""
        raise BadInput(f"{self.prog}: {_plainly(message, self.prog)} See {self.prog} --help.")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but a misspelt option is named before a required one is missed."""
        words = list(sys.argv[1:] if args is None else args)
        if self._subparsers is None:
            for word in words[: words.index("--")] if "--" in words else words:
                option = word.partition("=")[0]
                if option.startswith("--") and option not in self._option_string_actions:
                    self.error(_unknown(option, [name for name in self._option_string_actions if name.startswith("--")]))
        return super().parse_known_args(words, namespace)

    def parse_line(self, line: str) -> Any:
        """The options of a magic's line, or None when its help was asked for and has been printed. Raises BadInput."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            self.error(f"a quotation mark is not closed in {line.strip()!r} ({error}).")
        try:
            return self.parse_args(words)
        except SystemExit:  # argparse leaves in this way, and only for its help
            return None


def add_grid_options(parser: argparse.ArgumentParser) -> None:
    """Everything that says what a grid shall do, but for its prompts."""
    add = parser.add_argument
    add("--rows", required=True, metavar="FILE", help=".csv, .tsv, .jsonl, .json or .parquet")
    add("--model", action="append", default=[], dest="models", metavar="M", help="a model; more than once for several")
    add("--scorer", action="append", default=[], dest="scorers", metavar="S", help="NAME, or 'NAME option=value ...'; more than once")
    add("--expected", metavar="COL", help="the column that holds the expected answer")
    add("--param", action="append", default=[], type=pair, dest="params", metavar="k=v", help="sampling parameter, as in temperature=0.7")
    add("--repeats", type=whole(1), default=1, metavar="N", help="ask each cell N times (1)")
    add("--name", metavar="N", help="what the grid is called in the ledger and in MLflow")
    add("--budget", type=number(above=0), metavar="USD", help="stop before the call that might pass this sum")
    add("--concurrency", type=whole(1), metavar="N", help="calls in flight at most, for each provider")
    add("--timeout", type=number(above=0), metavar="S", help="seconds for one try of one call")
    add("--retries", type=whole(0), metavar="N", help="further tries after the first")
    add("--stop", choices=["decided"], help="end as soon as the difference between the variants is decided")
    add("--stream", action="store_true", help="stream replies, which measures the time to the first token")
    add("--fresh", action="store_true", help="ask anew in place of reading recorded replies")
    add("--no-track", action="store_true", help="log nothing to MLflow")
    add("--dry-run", action="store_true", help="show what it would take, and send nothing")


def grid_arguments(options: argparse.Namespace, namespace: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The keyword arguments of ``lab.grid`` but for the prompts. ``namespace``: variables that --rows and --scorer may name."""
    from llmops_lab.api.calls import scorer

    variables = namespace or {}
    return {
        "rows": _rows(options.rows, variables),
        "models": options.models,
        "scorers": [_scorer(text, variables, scorer) for text in options.scorers],
        "expected": options.expected,
        "params": dict(options.params),
        "repeats": options.repeats,
        "name": options.name,
        "budget": options.budget,
        "concurrency": options.concurrency,
        "timeout": options.timeout,
        "retries": options.retries,
        "stop": options.stop,
        "stream": options.stream,
        "reuse": not options.fresh,
        "track": not options.no_track,
    }


def pair(text: str) -> tuple[str, Any]:
    """``name=value``, the value read as JSON where it is JSON: the type of --param."""
    name, mark, value = text.partition("=")
    if not mark or not name.strip():
        raise argparse.ArgumentTypeError(f"wants name=value, as in temperature=0.7, not {text!r}.")
    try:
        return name.strip(), json.loads(value, parse_constant=_no_constant)
    except ValueError:
        return name.strip(), value


def text_pair(text: str) -> tuple[str, str]:
    """``name=value``, the value kept as text ("007" is not 7): the type of --set."""
    name, mark, value = text.partition("=")
    if not mark or not name.strip():
        raise argparse.ArgumentTypeError(f"wants name=value, as in question='How many?', not {text!r}.")
    return name.strip(), value


def whole(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number, ``least`` or more."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"must be a whole number, {least} or more, not {text!r}.")
        return value

    return read


def number(*, above: float) -> Callable[[str], float]:
    """The type of an option that is a number above ``above``."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > above):
            raise argparse.ArgumentTypeError(f"must be a number above {above:g}, not {text!r}.")
        return value

    return read


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _rows(text: str, variables: Mapping[str, Any]) -> Any:
    if not text.isidentifier():
        return text
    if text in variables:
        return variables[text]
    if not variables:
        return text
    tables = [name for name, value in variables.items() if not name.startswith("_") and _is_table(value)]
    known = ", ".join(sorted(tables)) or "none"
    raise BadInput(
        f"--rows {text}: there is no variable of that name.{meant(text, tables)} Variables with rows: {known}. "
        "A file is named with its ending, as in data.csv."
    )


def _is_table(value: Any) -> bool:
    return (hasattr(value, "to_dict") and hasattr(value, "columns")) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    )


def _scorer(text: str, variables: Mapping[str, Any], bind: Callable[..., Any]) -> Any:
    # 'regex pattern=^[0-9]+ $ label=number': a value runs up to the next " name=", so it may hold spaces and backslashes.
    name, *rest = re.split(r"\s+(?=\w+=)", text.strip())
    options: dict[str, Any] = {}
    for item in rest:
        key, value = pair(item)
        options[key] = value
    known = _built_in()
    if name not in known and variables:
        functions = {key: value for key, value in variables.items() if callable(value) and not key.startswith("_")}
        if name not in functions:
            own = [key for key, value in functions.items() if getattr(value, "__module__", "") == "__main__"]
            raise UnknownName("scorer, and no function of this notebook,", name, [*known, *own])
        return bind(functions[name], **options)
    return bind(name, **options)


def _built_in() -> list[str]:
    from llmops_lab import plugins

    return plugins.names("scorers")


def _plainly(message: str, prog: str) -> str:
    message = re.sub(r"^argument (-\S+?)(/\S+)*( \S+)?: ", r"\1 ", message)
    message = re.sub(r"^argument (\S+): ", r"\1: ", message)
    message = message.replace("the following arguments are required:", "missing:")
    if message.startswith("unrecognized arguments: "):
        words = message.partition(": ")[2]
        first = words.partition(" ")[0]
        is_pair = "=" in first and not prog.startswith("%")
        cure = f"A parameter of a job is given as -p {first}" if is_pair else "Put quotation marks around a value that holds spaces"
        message = f"too many words: {words.strip() or 'an empty one'}. {cure}"
    found = re.match(r"(?P<what>.*?):? ?invalid choice: '(?P<name>.*?)' \(choose from (?P<known>.*)\)$", message)
    if found:
        known = [each.strip(" '") for each in found["known"].split(",")]
        message = f"{found['what'].strip()} cannot be {found['name']!r}.{meant(found['name'], known)} Known: {', '.join(known)}"
    return message if message.endswith((".", "?")) else f"{message}."


def _unknown(option: str, known: Sequence[str]) -> str:
    return f"there is no option {option}.{meant(option, known)} Known: {', '.join(sorted(known))}."
