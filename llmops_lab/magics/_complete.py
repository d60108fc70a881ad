"""Completion of the magics' arguments: options, commands, and the names of models, prompts, scorers, variables and columns.

It reads the magics' own parsers, so it knows no option by heart. What must be looked up (the ledger's models, the prompt library) is
looked up in a thread: a completion waits a tenth of a second for it and else goes by what it knew before, so that a server that is down
delays no key.
"""

from __future__ import annotations

import argparse
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from llmops_lab import plugins
from llmops_lab import settings as _settings

_PATIENCE = 0.1
_FRESH, _AFTER_FAILURE = 5.0, 60.0
_MAGIC = re.compile(r"(?P<magic>%%?)(?:llmops_)?(?P<name>prompt|grid|lab)\s+(?:\w+\s*<<\s*)?(?P<rest>.*)$")
_ADDRESS = re.compile(r"prompts:/[\w.\-@/]*$")


def install(ipython: Any) -> None:
    """Add the completion to a shell."""
    matcher = _Matcher(ipython)

    @context_matcher(identifier="llmops_lab")
    def match(context: CompletionContext) -> dict[str, Any]:
        return matcher.match(context)

    ipython.Completer.custom_matchers.append(match)


def remove(ipython: Any) -> None:
    """Take it away."""
    matchers = ipython.Completer.custom_matchers
    matchers[:] = [each for each in matchers if getattr(each, "matcher_identifier", "") != "llmops_lab"]


class _Matcher:
    """Finds what could stand at the cursor."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._models, self._prompts = _Known(_recent_models), _Known(_prompt_names)

    def match(self, context: CompletionContext) -> dict[str, Any]:
        """IPython's answer; an empty one where nothing is ours, and also when something breaks: a TAB must never show a traceback."""
        line = context.full_text.split("\n")[context.cursor_line][: context.cursor_position]
        try:
            word, found, whole = self._at(line)
        except Exception:  # whatever is wrong with settings, ledger or library shows when they are used
            word, found, whole = "", [], False
        texts = dict.fromkeys(text for text in found if text.startswith(word) and text != word)
        completions = [SimpleCompletion(text, type="text") for text in texts]
        # Python's own completions are noise on a magic's line (and jedi takes seconds there); file names are none where a path may stand.
        files = {"do_not_suppress": set() if whole else {"IPCompleter.file_matcher"}}
        fragment = word if completions else context.token
        return {"completions": completions, "matched_fragment": fragment, "suppress": bool(completions), "ordered": True, **files}

    def _at(self, line: str) -> tuple[str, Iterable[str], bool]:
        """The word at the cursor, what it could become, and whether no file can stand there."""
        magic = _MAGIC.search(line)
        if magic is None:
            address = _ADDRESS.search(line)
            return (address[0], self._addresses(), True) if address else ("", (), False)
        words = magic["rest"].split(" ")
        word, before = words[-1], [each for each in words[:-1] if each]
        parser, place = _walk(_parser(magic["magic"], magic["name"]), before)
        option, mark, value = word.partition("=")
        if mark and option.startswith("--") and option in parser._option_string_actions:
            return value, *self._values(parser._option_string_actions[option], before)
        last = parser._option_string_actions.get(before[-1]) if before else None
        if last is not None and last.nargs is None:
            return word, *self._values(last, before)
        options = [name for name in parser._option_string_actions if name.startswith("--")]
        if word.startswith("-") or (not place and not word):
            return word, options, True
        return (word, *self._values(place[0], before)) if place else (word, (), False)

    def _values(self, action: argparse.Action, before: list[str]) -> tuple[Iterable[str], bool]:
        if action.choices is not None:
            return list(map(str, action.choices)), True
        space: Mapping[str, Any] = self._shell.user_ns
        known: dict[str, Callable[[], tuple[Iterable[str], bool]]] = {
            "model": lambda: (self._model_names(), True),
            "models": lambda: (self._model_names(), True),
            "scorers": lambda: ([*plugins.names("scorers"), *_functions(space)], True),
            "prompts": lambda: (self._addresses(), False),
            "name": lambda: (self._prompts.get(), True),
            "a": lambda: (self._prompts.get(), True),
            "b": lambda: (self._prompts.get(), True),
            "rows": lambda: ([name for name, value in space.items() if name[0] != "_" and hasattr(value, "to_dict")], False),
            "expected": lambda: (_columns(space, before), True),
        }
        return known[action.dest]() if action.dest in known else ((), False)

    def _model_names(self) -> list[str]:
        settings = _settings.load()
        providers = [name if _is_whole(name) else f"{name}:" for name in plugins.names("models")]
        return [settings.model, *self._models.get(), *settings.prices, *providers]

    def _addresses(self) -> list[str]:
        return [f"prompts:/{name}" for name in self._prompts.get()]


class _Known:
    """Names that are looked up in a thread, and kept for a while."""

    def __init__(self, look: Callable[[], list[str]]) -> None:
        self._look, self._names, self._until = look, list[str](), 0.0
        self._thread: threading.Thread | None = None

    def get(self) -> list[str]:
        """The names as far as they are known within a tenth of a second."""
        if time.monotonic() >= self._until and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._refresh, name="llmops_lab-completion", daemon=True)
            self._thread.start()
            self._thread.join(_PATIENCE)
        return self._names

    def _refresh(self) -> None:
        try:
            self._names = self._look()
            self._until = time.monotonic() + _FRESH
        except Exception:  # a ledger or a registry that cannot be read: say nothing here, and leave it alone for a while
            self._until = time.monotonic() + _AFTER_FAILURE


def _recent_models() -> list[str]:
    from llmops_lab.store.ledger import open_ledger

    settings = _settings.load()
    if not settings.ledger and not (_settings.home_path(settings) / "lab.db").exists():
        return []  # looking makes no ledger
    plans = [grid["plan"] for grid in open_ledger(settings).grids(20)]
    labels = dict.fromkeys(model["label"] for plan in plans for model in plan.get("models", ()))
    return [label for label in labels if label.partition(":")[0] in plugins.names("models")]


def _prompt_names() -> list[str]:
    from llmops_lab.api.calls import prompts_library

    settings = _settings.load()
    if not settings.tracking_uri and not (_settings.home_path(settings) / "mlflow.db").exists():
        return []
    found = prompts_library().list()
    return [name for each in found for name in (each.name, *(f"{each.name}@{alias}" for alias in each.aliases))]


def _parser(magic: str, name: str) -> argparse.ArgumentParser:
    from llmops_lab.magics import grid, lab, library, prompt

    if name == "grid":
        return grid.parser(f"{magic}grid")
    if name == "lab":
        return lab.parser()
    return prompt.parser() if magic == "%%" else library.parser()


def _walk(parser: argparse.ArgumentParser, words: list[str]) -> tuple[argparse.ArgumentParser, list[argparse.Action]]:
    """The parser of the innermost command that the words name, and its positionals that no word fills yet."""
    place = [action for action in parser._actions if not action.option_strings]
    skip = False
    for at, word in enumerate(words):
        option = parser._option_string_actions.get(word)
        if skip or option is not None or word.startswith("-"):
            skip = option is not None and option.nargs is None and not skip
            continue
        if place and isinstance(place[0], argparse._SubParsersAction):
            inner = place[0].choices.get(word)
            return _walk(inner, words[at + 1 :]) if inner is not None else (parser, [])
        place = place[1:]
    return parser, place


@cache
def _is_whole(provider: str) -> bool:
    # A provider whose summary shows no "name:" takes no target.
    return f"{provider}:" not in plugins.summary("models", provider)


def _functions(space: Mapping[str, Any]) -> list[str]:
    own = {name: value for name, value in space.items() if callable(value) and name[0] != "_"}
    return [name for name, value in own.items() if getattr(value, "__module__", None) == "__main__"]


def _columns(space: Mapping[str, Any], before: list[str]) -> list[str]:
    at = before.index("--rows") + 1 if "--rows" in before else len(before)
    rows = space.get(before[at]) if at < len(before) else None
    return [str(column) for column in getattr(rows, "columns", ())]
