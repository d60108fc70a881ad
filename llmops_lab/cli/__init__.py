"""The command ``llmops-lab``. Exit codes are those of ``errors.ExitCode``.

A further command is one module of this folder: ``add(commands)`` declares it, ``run(options)`` returns its exit code.
What was asked for goes to stdout, everything said about it to stderr, so that ``--json`` and a pipe get the thing itself.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from llmops_lab.api.options import Options, add_grid_options, grid_arguments, number, pair, text_pair
from llmops_lab.errors import BadInput, ExitCode, LabError, ProviderFault, UnknownName


def parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    top = Options(prog="llmops-lab", description="Prompts x rows x models, scored, with a verdict.", epilog=_EXIT_CODES)
    top.add_argument("--version", action="version", version=f"llmops-lab {version('llmops-lab')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("demo", help="the main job on the embedded model and the shipped tickets")
    _ask_options(commands.add_parser("ask", help="one question to one model"))
    run = commands.add_parser("grid", help="every prompt x every row x every model, scored, with a verdict", epilog=_GRID_EXAMPLE)
    run.add_argument("--prompts", required=True, metavar="FILE.toml", help="a table for each prompt; or prompts:/NAME@ALIAS")
    add_grid_options(run)
    run.add_argument("--json", metavar="OUT", help="write the cells to this file as JSON")
    _compare_options(commands.add_parser("compare", help="judge run B against run A on the same rows"))
    _prompts_options(commands.add_parser("prompts", help="the prompt library: versions, aliases, diffs"))
    _ledger_options(commands.add_parser("ledger", help="back up, prune, or forget a row"))
    commands.add_parser("doctor", help="where everything lies, and whether it works")
    for module in _further().values():
        module.add(commands)
    return top


def _further() -> dict[str, ModuleType]:
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


_EXIT_CODES = "exit codes: " + ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ExitCode)
_GRID_EXAMPLE = """example:
  llmops-lab grid --prompts prompts.toml --rows tickets.csv --model tiny --scorer exact --expected answer

Ctrl-C cancels and keeps what is done; the same command goes on from there."""


def _ask_options(ask: argparse.ArgumentParser) -> None:
    ask.add_argument("prompt", metavar="PROMPT", help="a text, FILE.toml#NAME, prompts:/NAME@ALIAS, or - for standard input")
    ask.add_argument("--model", metavar="M", help="which model; without it, that of the settings")
    ask.add_argument("--set", action="append", default=[], type=text_pair, dest="values", metavar="k=v", help="fill a slot of the prompt")
    ask.add_argument("--param", action="append", default=[], type=pair, dest="params", metavar="k=v", help="as in temperature=0.7")
    ask.add_argument("--json", action="store_true", help="print text, tokens, cost, times and ids as JSON")
    ask.add_argument("--no-track", action="store_true", help="no trace in MLflow")


def _compare_options(judge: argparse.ArgumentParser) -> None:
    judge.add_argument("a", metavar="A", help="a grid: its MLflow run id, its own id or its name")
    judge.add_argument("b", metavar="B")
    judge.add_argument("--scorer", default="exact", metavar="S", help="the score column (exact)")
    judge.add_argument("--grid", metavar="RUN", help="A and B are two prompts of this one grid")
    judge.add_argument("--by", choices=["prompt", "model"], default="prompt", help="with --grid: A and B are prompts or models (prompt)")
    judge.add_argument("--margin", type=number(above=0), metavar="D", help="the largest difference that does not matter")
    judge.add_argument("--json", action="store_true", help="print the verdict as JSON")


def _prompts_options(prompts: argparse.ArgumentParser) -> None:
    actions = prompts.add_subparsers(dest="action", required=True, metavar="list|show|diff|alias|rollback")
    actions.add_parser("list", help="all prompts, or the versions of one").add_argument("name", nargs="?", metavar="NAME")
    actions.add_parser("show", help="one version").add_argument("name", metavar="NAME[@ALIAS|/VERSION]")
    diff = actions.add_parser("diff", help="what changed, word by word")
    diff.add_argument("a", metavar="A")
    diff.add_argument("b", nargs="?", metavar="B", help="without it, A against the version before")
    alias = actions.add_parser("alias", help="point an alias at a version")
    alias.add_argument("name", metavar="NAME")
    alias.add_argument("alias", metavar="ALIAS")
    alias.add_argument("version", nargs="?", metavar="VERSION", help="without it, the latest")
    rollback = actions.add_parser("rollback", help="move an alias back to where it pointed before")
    rollback.add_argument("name", metavar="NAME")
    rollback.add_argument("alias", metavar="ALIAS")


def _ledger_options(ledger: argparse.ArgumentParser) -> None:
    actions = ledger.add_subparsers(dest="action", required=True, metavar="backup|prune|forget")
    actions.add_parser("backup", help="copy a SQLite ledger while it is in use").add_argument("file", metavar="FILE")
    prune = actions.add_parser("prune", help="delete old grids, and calls that no other grid uses")
    prune.add_argument("--days", required=True, type=number(above=0), metavar="N", help="those that ended more than N days ago")
    actions.add_parser("forget", help="delete one row from every grid, and say where it still lies").add_argument("row", metavar="ROW_ID")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a model may write what this terminal's encoding cannot
    run = {"demo": _demo, "ask": _ask, "grid": _grid, "compare": _compare, "prompts": _prompts, "ledger": _ledger, "doctor": _doctor}
    run |= {name: module.run for name, module in _further().items()}
    options = argparse.Namespace(command="")
    with _terminating():
        try:
            options = parser().parse_args(arguments)
            code = run[options.command](options)
            sys.stdout.flush()
            return code
        except LabError as error:
            _note(f"{type(error).__name__}: {error}")
            silent = isinstance(error, ProviderFault) and not error.answered
            return int(ExitCode.UNREACHABLE if silent else error.exit_code)
        except KeyboardInterrupt:
            _note("stopped; what is recorded is kept." + (" To go on from there: the same command." if options.command == "grid" else ""))
            return int(ExitCode.CANCELLED)
        except BrokenPipeError:  # whoever read our output has gone, as in "| head"
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return int(ExitCode.DONE)


@contextlib.contextmanager
def _terminating() -> Iterator[None]:
    # SIGTERM (a scheduler, a container that stops) is treated as Ctrl-C is: cancel, keep what is done.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _demo(_: argparse.Namespace) -> int:
    from llmops_lab.api import calls, report
    from llmops_lab.stats.verdict import sentence

    data = Path(__file__).parents[1] / "data"
    print("The embedded model is a small fixture, made to show the workbench; it is no assistant.")
    grid = calls.grid(
        str(data / "demo_prompts.toml"), str(data / "tickets.csv"), models=["tiny"], scorers=["exact"], expected="answer", name="demo"
    )
    _say(repr(grid), *report.where_lines(grid, track=True))
    verdict = calls.compare(grid, a="plain", b="labels", scorer="exact")
    print(f"verdict: {sentence(verdict)}")
    return report.exit_code(grid, report.tally(grid))


_ARGUMENTS = frozenset({"prompt", "model", "params", "values", "stream", "progress", "track"})


def _ask(options: argparse.Namespace) -> int:
    from llmops_lab.api.ask import ask

    values = dict(options.values)
    hidden = {name: values.pop(name) for name in _ARGUMENTS & set(values)}  # slots that are called as an argument of ask is
    answer = ask(
        _one_prompt(options.prompt), options.model, params=dict(options.params), track=not options.no_track, values=hidden, **values
    )
    if options.json:
        shown = ("text", "model", "usage", "cost_usd", "latency_s", "ttft_s", "finish_reason", "tool_calls", "run_id", "trace_id")
        print(_json({**{name: getattr(answer, name) for name in shown}, "prompt": answer.prompt._asdict()}))
        return int(ExitCode.DONE)
    _say(answer.shown)
    _note("; ".join([*([answer.warning] if answer.warning else []), *answer.footer]))
    return int(ExitCode.DONE)


def _one_prompt(text: str) -> Any:
    if text == "-":
        return sys.stdin.read()
    found = re.fullmatch(r"(?P<path>[^\n{]+\.toml)(?:#(?P<name>.+))?", text)
    if found is None:
        return text
    from llmops_lab.api.calls import prompts
    from llmops_lab.prompts.files import read_file

    held = read_file(found["path"], fetch=prompts.get)
    if found["name"] is None and len(held) > 1:
        raise BadInput(
            f"{found['path']} holds {len(held)} prompts. Say which: {found['path']}#{next(iter(held))}. Known: {', '.join(held)}."
        )
    name = found["name"] or next(iter(held))
    if name not in held:
        raise UnknownName(f"prompt in {found['path']}", name, held)
    return held[name]


def _grid(options: argparse.Namespace) -> int:
    from llmops_lab.api import calls, report

    target = _writable(options.json)
    wanted = {"prompts": _prompt_source(options.prompts), **grid_arguments(options)}
    grid = calls.prepare(**wanted)
    if options.dry_run:
        _say(*report.estimate_lines(grid.estimate), "nothing was sent (--dry-run)")
        return int(ExitCode.DONE)
    _note(f"estimate: {report.estimate_line(grid.estimate)}")
    grid.start().wait()
    if target is not None:
        _write(target, _json(grid.records()))
    cells, track = report.tally(grid), not options.no_track
    _say(repr(grid), *report.failure_lines(grid, cells), *report.where_lines(grid, track=track), *report.verdict_lines(grid))
    if todo := report.advice(grid, cells, again="the same command"):
        _note(todo)
    return report.exit_code(grid, cells)


def _prompt_source(text: str) -> Any:
    # A path, or a prompt of the library; a bare text here is a file name with a missing ending.
    if text.startswith("prompts:/") or text.endswith(".toml"):
        return text
    raise BadInput(f"--prompts {text}: name a .toml file with a table for each prompt, or prompts:/NAME@ALIAS.")


def _compare(options: argparse.Namespace) -> int:
    from llmops_lab.api import calls
    from llmops_lab.stats.verdict import sentence

    how = {"scorer": options.scorer, "margin": options.margin}
    if options.grid:
        verdict = calls.compare(options.grid, a=options.a, b=options.b, by=options.by, **how)
    else:
        verdict = dataclasses.replace(calls.compare(options.a, options.b, **how), a=options.a, b=options.b)
    _say(_json(dataclasses.asdict(verdict)) if options.json else f"verdict: {sentence(verdict)}")
    return int(ExitCode.DONE)


def _prompts(options: argparse.Namespace) -> int:
    from llmops_lab.api.calls import prompts

    if options.action == "list" and options.name:
        _say(*[_version_line(each) for each in prompts.versions(options.name)])
    elif options.action == "list":
        found = prompts.list()
        _say(*[_name_line(each) for each in found])
        if not found:
            _note("the prompt library is empty. Save a prompt: %%prompt NAME --save, or lab.prompts.save(text, 'NAME').")
    elif options.action == "show":
        _say(str(prompts.show(options.name)))
    elif options.action == "diff":
        _say(str(prompts.diff(options.a, options.b)))
    elif options.action == "alias":
        _say(f"{options.name}@{options.alias} is version {prompts.alias(options.name, options.alias, options.version)}")
    else:
        _say(f"{options.name}@{options.alias} is back at version {prompts.rollback(options.name, options.alias)}")
    return int(ExitCode.DONE)


def _name_line(found: Any) -> str:
    aliases = "".join(f"  @{alias} -> {number}" for alias, number in found.aliases.items())
    return f"{found.name}  version {found.latest}{aliases}  ({found.updated:%Y-%m-%d %H:%M} UTC)"


def _version_line(found: Any) -> str:
    aliases = "".join(f" @{alias}" for alias in found.aliases)
    author, note = (f" by {found.author}" if found.author else ""), (f": {found.message}" if found.message else "")
    return f"{found.name}/{found.version}{aliases}  {found.created:%Y-%m-%d %H:%M} UTC{author}, {(found.sha256 or 'no hash')[:12]}{note}"


def _ledger(options: argparse.Namespace) -> int:
    from llmops_lab.api import care

    if options.action == "backup":
        _say(f"copied to {care.backup(options.file)}")
    elif options.action == "prune":
        _say(f"{care.prune(days=options.days):,} replies deleted")
    else:
        _say(*str(care.forget_row(options.row)).splitlines())
    return int(ExitCode.DONE)


def _doctor(_: argparse.Namespace) -> int:
    from llmops_lab.flows.doctor import examine

    found = examine()
    mark = {"ok": "ok    ", "note": "note  ", "broken": "BROKEN"}
    width = max(len(each.topic) for each in found)
    _say(*[f"{mark[each.state]}  {each.topic.ljust(width)}  {each.text}" for each in found])
    broken = sum(each.state == "broken" for each in found)
    _say(f"{broken} broken" if broken else "healthy")
    return int(ExitCode.FAILED if broken else ExitCode.DONE)


def _say(*lines: str) -> None:
    for line in lines:
        print(_safe(line))


def _note(text: str) -> None:
    sys.stdout.flush()
    print(_safe(text), file=sys.stderr)


def _safe(text: str) -> str:
    # What a model, a server or a file says can drive no terminal here, and gives away no key into a log.
    from llmops_lab.escapes import inert
    from llmops_lab.redact import redact

    return inert(redact(text))


def _json(value: Any) -> str:
    """Strict JSON: what is not a finite number is null."""
    from llmops_lab.records import nan_as_null
    from llmops_lab.redact import redact

    return redact(json.dumps(nan_as_null(value), indent=1, allow_nan=False))


def _writable(text: str | None) -> Path | None:
    if text is None:
        return None
    path = Path(text).absolute()
    if not path.parent.is_dir():
        raise BadInput(f"--json {text}: the folder {path.parent} does not exist. Make it first, or name another file.")
    if path.is_dir():
        raise BadInput(f"--json {text} is a folder. Name a file in it, for example {Path(text) / 'cells.json'}.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise BadInput(f"--json {text}: the folder {path.parent} cannot be written to. Name another file.")
    return path


def _write(path: Path, text: str) -> None:
    from llmops_lab.store.whole import replacing

    try:
        with replacing(path) as draft:
            draft.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise LabError(
            f"{path} cannot be written: {error.strerror}. The cells are in the ledger; the same command writes them again."
        ) from error
