"""One sandboxed Jinja2 environment: strict about missing values, one pass, single braces are text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from llmops_lab.errors import BadInput
from llmops_lab.records import is_missing

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

_MARK = re.compile(r"\{[{%#]")
_HELPERS = ("range", "dict", "namespace", "cycler", "joiner")
_PLAIN_HOMES = ("builtins", "datetime", "jinja2")  # top-level modules of the types whose methods a template may call
_UNDEFINED = re.compile(r"'(\w+)' is undefined")


class Gap(Exception):
    """A template met a value that is not there. ``name`` is the variable, or empty when it is part of a larger value."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)


def is_plain(text: str) -> bool:
    """Whether a text holds no slot, block or comment, so that it renders to itself."""
    return _MARK.search(text) is None


@lru_cache(maxsize=4096)
def variables(text: str) -> frozenset[str]:
    """The names that a template reads from outside. Raises BadInput, with the line, for a template that does not parse."""
    from jinja2 import TemplateSyntaxError, meta

    if is_plain(text):
        return frozenset()
    try:
        return frozenset(meta.find_undeclared_variables(_environment().parse(text))) - set(_HELPERS)
    except TemplateSyntaxError as error:
        raise _syntax(error, text) from error


@lru_cache(maxsize=4096)
def compiled(text: str) -> Callable[[Mapping[str, Any]], str]:
    """The function that fills a template. It raises Gap for a missing value, BadInput for a template that fails otherwise."""
    from jinja2 import TemplateSyntaxError, UndefinedError
    from jinja2.exceptions import SecurityError

    try:
        render = _environment().from_string(text).render
    except TemplateSyntaxError as error:
        raise _syntax(error, text) from error

    def fill(values: Mapping[str, Any]) -> str:
        try:
            return render(values)
        except UndefinedError as error:
            found = _UNDEFINED.search(str(error))
            raise Gap(found[1] if found else "", str(error)) from error
        except Gap:
            raise
        except SecurityError as error:
            raise BadInput(
                "a template may read values and call methods of text, numbers, dates, lists and dicts that change nothing. "
                f"Compute the rest outside and pass it in as a value. In: {text[:120]!r}."
            ) from error
        except Exception as error:
            raise BadInput(f"the template failed: {type(error).__name__}: {error}") from error

    return fill


@cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.runtime import Macro
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        def is_safe_callable(self, obj: Any) -> bool:
            # Methods of plain data and Jinja's own: a saved prompt must not be able to call what an object of the notebook can do.
            owner = getattr(getattr(obj, "__wrapped__", obj), "__self__", None)  # str.format comes wrapped by the sandbox
            of_data = owner is not None and not isinstance(owner, ModuleType) and (_home(owner) in _PLAIN_HOMES or isinstance(owner, date))
            of_jinja = isinstance(obj, Macro) or _home(obj) == "jinja2" or any(obj is self.globals[name] for name in _HELPERS)
            return super().is_safe_callable(obj) and (of_data or of_jinja)

    # Autoescape stays off: prompts are not HTML.
    environment = Sandbox(undefined=StrictUndefined, keep_trailing_newline=True, finalize=shown, cache_size=0)
    environment.globals = {name: environment.globals[name] for name in _HELPERS}
    return environment


def _home(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def shown(value: Any) -> Any:
    """A value on its way into the text. Raises Gap for None, NaN and their like in a table."""
    # A None or NaN out of a table would reach the model as the word "None" or "nan".
    if is_missing(value):
        raise Gap("", "a value that the template inserts is missing (None or NaN); fill it in, or write {{ name or '' }} to allow None")
    return value


def _syntax(error: Any, text: str) -> BadInput:
    lines = text.splitlines() or [""]
    line = lines[min(error.lineno, len(lines)) - 1].strip()
    return BadInput(
        f"template error at line {error.lineno}: {error.message} In: {line[:120]!r}. "
        "A slot is written {{ name }}; single braces are text; put {% raw %} ... {% endraw %} around double ones that are text."
    )
