"""``%prompt``: the prompt library from a notebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from llmops_lab.api.options import Options
from llmops_lab.errors import UnknownName

if TYPE_CHECKING:
    import argparse

    from llmops_lab.magics._show import Bundle

_ADDRESS = "NAME, NAME/VERSION or NAME@ALIAS"


def parser() -> Options:
    """The commands of ``%prompt``."""
    top = Options(prog="%prompt", description="The prompt library: versions, aliases, differences. %%prompt (a cell) asks a model.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name, about, arguments in (
        ("list", "all prompts, or all versions of one", [("name", "?", "NAME")]),
        ("show", "the text of a version", [("name", None, _ADDRESS)]),
        ("diff", "what changed from A to B; of one prompt: its latest version against the one before", [("a", None, "A"), ("b", "?", "B")]),
        ("alias", "point an alias at a version", [("name", None, "NAME"), ("alias", None, "ALIAS"), ("version", None, "VERSION")]),
        ("rollback", "move an alias back to where it pointed before", [("name", None, "NAME"), ("alias", None, "ALIAS")]),
        ("history", "where an alias pointed, oldest first", [("name", None, "NAME"), ("alias", None, "ALIAS")]),
        ("forget", "end a conversation that %%prompt --thread began", [("thread", None, "THREAD")]),
    ):
        command = commands.add_parser(name, help=about.replace("%", "%%"), description=about.replace("%", "%%"))
        for argument, count, shown in arguments:
            command.add_argument(argument, nargs=count, metavar=shown)
    return top


@magics_class
class LibraryMagics(Magics):
    """``%prompt`` and its other name ``%llmops_prompt``."""

    @line_magic("llmops_prompt")
    @line_magic("prompt")
    @no_var_expand
    def prompt(self, line: str) -> None:
        """The prompt library: list, show, diff, alias, rollback, history; %prompt -h shows more."""
        options = parser().parse_line(line)
        if options is None:
            return
        from llmops_lab.magics import _show

        _show.show(self._forget(options.thread) if options.command == "forget" else COMMANDS[options.command](options))

    def _forget(self, thread: str) -> Bundle:
        from llmops_lab.magics import _show

        threads = self.shell.magics_manager.registry["PromptMagics"].threads
        if thread not in threads:
            raise UnknownName("thread", thread, threads, "A thread lives as long as its kernel.")
        turns = sum(message.role == "assistant" for message in threads.pop(thread))
        return _show.said(f"thread {thread} is over ({turns} {'turn' if turns == 1 else 'turns'}); the next --thread {thread} begins anew")


def _list(options: argparse.Namespace) -> Bundle:
    from llmops_lab.api.calls import prompts_library
    from llmops_lab.magics import _show

    if options.name is None:
        found = [
            (
                each.name,
                each.latest,
                ", ".join(f"@{alias} → {version}" for alias, version in each.aliases.items()),
                f"{each.updated:%Y-%m-%d %H:%M}",
            )
            for each in prompts_library().list()
        ]
        return _show.table(
            ["prompt", "latest", "aliases", "changed (UTC)"], found, "no prompt is saved yet: %%prompt NAME --save saves one"
        )
    versions = [
        (
            each.version,
            " ".join(f"@{alias}" for alias in each.aliases),
            each.author,
            f"{each.created:%Y-%m-%d %H:%M}",
            (each.sha256 or "")[:12],
            each.message,
        )
        for each in prompts_library().versions(options.name)
    ]
    return _show.table(["version", "aliases", "author", "saved (UTC)", "sha256", "message"], versions)


def _version(options: argparse.Namespace) -> Bundle:
    from llmops_lab.api.calls import prompts_library
    from llmops_lab.magics import _show

    return _show.laid_out(prompts_library().show(options.name))


def _diff(options: argparse.Namespace) -> Bundle:
    from llmops_lab.api.calls import prompts_library
    from llmops_lab.magics import _show

    return _show.laid_out(prompts_library().diff(options.a, options.b))


def _alias(options: argparse.Namespace) -> Bundle:
    from llmops_lab.api.calls import prompts_library
    from llmops_lab.magics import _show

    version = prompts_library().alias(options.name, options.alias, options.version)
    return _show.said(f"{options.name}@{options.alias} is {options.name}/{version} now")


def _rollback(options: argparse.Namespace) -> Bundle:
    from llmops_lab.api.calls import prompts_library
    from llmops_lab.magics import _show

    version = prompts_library().rollback(options.name, options.alias)
    return _show.said(f"{options.name}@{options.alias} is back at {options.name}/{version}")


def _history(options: argparse.Namespace) -> Bundle:
    from llmops_lab.api.calls import prompts_library
    from llmops_lab.magics import _show

    moves = [
        (f"{move.at:%Y-%m-%d %H:%M:%S}", move.previous, move.version or "taken away", move.author, "rollback" if move.rollback else "")
        for move in prompts_library().history(options.name, options.alias)
    ]
    return _show.table(["moved (UTC)", "from", "to", "by", ""], moves, f"{options.name}@{options.alias} was never moved from here")


COMMANDS: dict[str, Callable[[Any], Any]] = {
    "list": _list,
    "show": _version,
    "diff": _diff,
    "alias": _alias,
    "rollback": _rollback,
    "history": _history,
}
