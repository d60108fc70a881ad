"""The command ``llmops-lab``. Exit codes are those of ``errors.ExitCode``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, ExitCode, LabError

_BY_STATE = {"budget": ExitCode.BUDGET, "unreachable": ExitCode.UNREACHABLE, "cancelled": ExitCode.CANCELLED, "failed": ExitCode.FAILED}


def parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    top = argparse.ArgumentParser(prog="llmops-lab", description="Prompts x rows x models, scored, with a verdict.")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="the main job on the embedded model and the shipped tickets")
    run = commands.add_parser("grid", help="run a grid")
    run.add_argument("--prompts", required=True, metavar="FILE.toml")
    run.add_argument("--rows", required=True, metavar="FILE")
    run.add_argument("--model", action="append", default=[], dest="models")
    run.add_argument("--scorer", action="append", default=[], dest="scorers")
    run.add_argument("--expected", metavar="COL")
    run.add_argument("--param", action="append", default=[], metavar="k=v")
    for name, kind in (("repeats", int), ("budget", float), ("concurrency", int), ("timeout", float)):
        run.add_argument(f"--{name}", type=kind)
    run.add_argument("--name")
    run.add_argument("--fresh", action="store_true", help="ask anew instead of reading recorded replies")
    run.add_argument("--no-track", action="store_true", help="log nothing to MLflow")
    run.add_argument("--json", metavar="OUT", help="write the cells as JSON")
    judge = commands.add_parser("compare", help="judge run B against run A")
    judge.add_argument("a")
    judge.add_argument("b")
    judge.add_argument("--scorer", default="exact")
    judge.add_argument("--json", action="store_true")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        return {"demo": _demo, "grid": _grid, "compare": _compare}[options.command](options)
    except LabError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return int(error.exit_code)


def _demo(_: argparse.Namespace) -> int:
    from llmops_lab.api import calls
    from llmops_lab.stats.verdict import sentence

    data = Path(__file__).parent / "data"
    print("The embedded model is a small fixture, made to show the workbench; it is no assistant.")
    grid = calls.grid(
        str(data / "demo_prompts.toml"), str(data / "tickets.csv"), models=["tiny"], scorers=["exact"], expected="answer", name="demo"
    )
    print(grid)
    _say_where(grid)
    verdict = calls.compare(grid, a="plain", b="labels", scorer="exact")
    print(f"verdict: {sentence(verdict)}")
    return _exit_code(grid)


def _grid(options: argparse.Namespace) -> int:
    from llmops_lab.api import calls

    chosen = {name: getattr(options, name) for name in ("budget", "concurrency", "timeout", "name")}
    grid = calls.grid(
        options.prompts, options.rows, models=options.models, scorers=options.scorers, expected=options.expected,
        params=dict(_pair(text) for text in options.param), repeats=1 if options.repeats is None else options.repeats,
        reuse=not options.fresh, track=not options.no_track, **chosen,
    )  # fmt: skip
    print(grid)
    _say_where(grid)
    if options.json:
        Path(options.json).write_text(json.dumps(grid.records(), indent=1), "utf-8")
    return _exit_code(grid)


def _compare(options: argparse.Namespace) -> int:
    import dataclasses

    from llmops_lab.api import calls
    from llmops_lab.stats.verdict import sentence

    verdict = calls.compare(options.a, options.b, scorer=options.scorer)
    print(json.dumps(dataclasses.asdict(verdict)) if options.json else f"verdict: {sentence(verdict)}")
    return 0


def _say_where(grid: Any) -> None:
    print(f"state: {grid.state}; {grid.calls} calls sent, {grid.reused} cells from the ledger {grid._ledger.place}")
    print(f"MLflow run: {grid.run_id or 'none'}")


def _exit_code(grid: Any) -> int:
    failed = any(record["status"] == "failed" for record in grid.records())
    return int(_BY_STATE.get(grid.state, ExitCode.FAILED if failed else ExitCode.DONE))


def _pair(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not mark or not name:
        raise BadInput(f"--param wants name=value, not {text!r}.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    sys.exit(main())
