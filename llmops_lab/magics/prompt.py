"""``%%prompt``: ask a model the cell's text, see the answer come, and keep it with all that it came from."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, cell_magic, magics_class, needs_local_scope, no_var_expand

from llmops_lab.api.options import Options, pair, text_pair, whole
from llmops_lab.api.shown import is_live
from llmops_lab.errors import BadInput, Cancelled
from llmops_lab.magics._parse import assignment, variable
from llmops_lab.redact import redact

if TYPE_CHECKING:
    import argparse

    from llmops_lab.flows.ask import Asked, Partial
    from llmops_lab.flows.plan_ask import Question
    from llmops_lab.flows.prompts import Saved
    from llmops_lab.magics._show import Screen
    from llmops_lab.prompts.template import Prompt
    from llmops_lab.records import Message

_OF_CODE = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)
_ABOUT = """\
Ask a model the text of this cell. {{ name }} is filled from --set and then from the notebook's variables; single braces are text.
An empty cell asks the saved prompt NAME, NAME/VERSION or NAME@ALIAS."""
_EXAMPLES = """\
examples:
  %%prompt                                 ask the default model
  %%prompt triage --model tiny --out a     assign the answer: a.text, a.usage, a.cost_usd, a.latency_s, a.run_id, ...
  %%prompt a << triage --model tiny        the same
  %%prompt triage --save                   also keep the text as a version of `triage` in the library
  %%prompt triage@production               with an empty cell: ask the saved version
  %%prompt --thread chat                   go on with the conversation called chat
"""


def parser() -> Options:
    """The options of ``%%prompt``."""
    options = Options(prog="%%prompt", usage="%(prog)s [NAME] [options]", description=_ABOUT, epilog=_EXAMPLES)
    add = options.add_argument
    add("name", nargs="?", default="", metavar="NAME", help="what the prompt is called in the library and in MLflow")
    add("--model", metavar="M", help="which model to ask (default: the setting `model`)")
    add("--set", action="append", default=[], type=text_pair, dest="values", metavar="k=v", help="fill {{ k }} with the text v")
    add("--param", action="append", default=[], type=pair, dest="params", metavar="k=v", help="sampling parameter, as in temperature=0.7")
    add("--out", metavar="VAR", help="assign the answer to this variable (with --repeat a list of answers)")
    add("--save", action="store_true", help="save the text as a version of NAME before it is asked")
    add("--repeat", type=whole(1), default=1, metavar="N", help="ask N times")
    add("--dry-run", action="store_true", help="show what would be sent and what it would take; send and save nothing")
    add("--thread", metavar="T", help="go on with the conversation T of this kernel (%%prompt forget T ends it)")
    add("--no-track", action="store_true", help="write no trace to MLflow")
    return options


@magics_class
class PromptMagics(Magics):
    """``%%prompt`` and its other name ``%%llmops_prompt``."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self.threads: dict[str, tuple[Message, ...]] = {}

    @cell_magic("llmops_prompt")
    @cell_magic("prompt")
    @needs_local_scope
    @no_var_expand
    def prompt(self, line: str, cell: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Ask a model the text of this cell; %%prompt -h shows the options."""
        assigned, line = assignment(line)
        options = parser().parse_line(line)
        if options is None:
            return
        options.out = variable(assigned, options.out)
        question = self._question(options, cell, {**self.shell.user_ns, **(local_ns or {})})
        if options.dry_run:
            self._dry_run(question)
            return
        saved = self._save(question.prompt) if options.save else None
        self._ask(question, options, saved)

    def _question(self, options: argparse.Namespace, cell: str, namespace: Mapping[str, Any]) -> Question:
        from llmops_lab.api.ask import spec_of
        from llmops_lab.flows.plan_ask import Question

        if options.thread and options.repeat > 1:
            raise BadInput("a thread goes on from one answer, and --repeat makes several. Leave one of them out.")
        prompt, own = _prompt(options, cell)
        return Question(
            prompt,
            {**_visible(namespace, self.shell, prompt), **dict(options.values)},
            spec_of(options.model),
            {} if own else dict(options.params),
            repeats=options.repeat,
            stream=True,
            track=not options.no_track,
            history=self.threads.get(options.thread, ()),
            thread=options.thread or "",
        )

    def _dry_run(self, question: Question) -> None:
        from llmops_lab import settings
        from llmops_lab.flows.estimate_ask import estimate_ask
        from llmops_lab.magics import _show

        request, guess = estimate_ask(question, settings.load())
        _show.show(_show.dry_run(request, guess, redact(question.model.name)))

    def _save(self, prompt: Prompt) -> Saved:
        from llmops_lab import settings
        from llmops_lab.flows.prompts import save

        return save(prompt, settings.load())

    def _ask(self, question: Question, options: argparse.Namespace, saved: Saved | None) -> None:
        import dataclasses

        from llmops_lab import settings
        from llmops_lab.api.answer import Answer
        from llmops_lab.api.ask import fault_of
        from llmops_lab.flows.ask import ask
        from llmops_lab.magics import _show

        screen, seen = _show.Screen(is_live(self.shell)), list["Partial"]()

        def progress(partial: Partial) -> None:
            seen[:] = [partial]
            screen.partial(partial)

        question = dataclasses.replace(question, prompt=saved.prompt) if saved else question
        try:
            asked = ask(question, settings.load(), progress=progress)
        except KeyboardInterrupt:
            raise _stopped(screen, seen[0] if seen else None, question.model.name) from None
        found = [Answer.of(each) for each in asked if each.outcome.reply is not None]
        if found:
            self._keep(options, asked, found)
            self._show_answers(screen, options, asked, found, saved)
        if len(found) < len(asked):
            fault = fault_of(asked)
            if not found:
                screen.stopped(seen[0] if seen else None, f"failed: {fault.kind}")
            raise fault

    def _keep(self, options: argparse.Namespace, asked: list[Asked], found: list[Any]) -> None:
        from llmops_lab.records import Message

        if options.out:
            self.shell.user_ns[options.out] = found if options.repeat > 1 else found[0]
        if options.thread:
            self.threads[options.thread] = (*asked[0].request.messages, Message("assistant", found[0].text))

    def _show_answers(self, screen: Screen, options: argparse.Namespace, asked: list[Asked], found: list[Any], saved: Saved | None) -> None:
        from llmops_lab.magics import _show
        from llmops_lab.prompts.diff import diff, title

        notes, change = [], None
        if options.thread:
            turns = sum(message.role == "assistant" for message in self.threads[options.thread])
            notes.append(f"thread {options.thread}, turn {turns}")
        if saved is not None:
            notes.append("saved as a new version" if saved.new else "saved before: same text, same version")
            change = diff(saved.before, saved.prompt) if saved.new and saved.before else None
        elif asked[0].latest is not None:
            notes.append(f"differs from {title(asked[0].latest)}")
            change = diff(asked[0].latest, asked[0].prompt)
        screen.final(_show.answers(found, notes, change, unfold=saved is not None), _show.about(found))


def _stopped(screen: Screen, seen: Partial | None, model: str) -> Cancelled:
    from llmops_lab.flows.ask import WRITING

    if seen is not None and seen.doing == WRITING:
        screen.stopped(seen, "stopped after the answer was recorded")
        return Cancelled("stopped while the trace was written. The answer is on record: lab.load('asks').frame() has it.")
    screen.stopped(seen, "stopped; the call may have been paid for")
    return Cancelled(f"stopped. The call to {redact(model)} was in flight, so it may have been paid for; the ledger says so.")


def _prompt(options: argparse.Namespace, cell: str) -> tuple[Prompt, bool]:
    """The prompt, and whether the cell's text is it: then the parameters belong to it and are versioned with it."""
    from llmops_lab.api.ask import fetch
    from llmops_lab.magics.library import COMMANDS
    from llmops_lab.prompts.files import SCHEME
    from llmops_lab.prompts.template import Prompt

    text, name = cell.strip("\n"), options.name.removeprefix(SCHEME)
    if options.save and not name:
        raise BadInput("--save needs the name to save under, as in %%prompt triage --save.")
    if text.strip():
        if re.search("[@/]", name):
            raise BadInput(f"{options.name} means a saved version, and this cell has a text. Empty the cell, or write just the name.")
        return Prompt(text, name=name, params=dict(options.params)), True
    if not name:
        raise BadInput("there is nothing to ask: write the prompt below the %%prompt line, or name a saved one.")
    if name in COMMANDS:
        raise BadInput(f"the cell is empty. The command has one %: %prompt {name}. A saved prompt of that name: %%prompt {name}@latest.")
    if options.save:
        raise BadInput("there is nothing to save: the cell is empty. Write the prompt below the %%prompt line.")
    return fetch(f"{SCHEME}{name}"), False


def _visible(namespace: Mapping[str, Any], shell: Any, prompt: Prompt) -> dict[str, Any]:
    # Code stays out: a prompt that somebody else saved must not be able to call what this notebook has imported.
    hidden = getattr(shell, "user_ns_hidden", {})
    return {
        name: value
        for name, value in namespace.items()
        if not isinstance(value, _OF_CODE) and (name in prompt.variables or not (name.startswith("_") or name in hidden))
    }
