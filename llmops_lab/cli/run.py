"""``llmops-lab run``: a template or a notebook as a job, in this process, with an exit code that can be believed."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import textwrap
import time
from typing import Any

from llmops_lab.api.options import number, whole
from llmops_lab.errors import ExitCode
from llmops_lab.escapes import inert


def add(commands: Any) -> None:
    """Declare the command."""
    run = commands.add_parser("run", help="a template or a notebook as a job", epilog=_EXAMPLE, add_help=False)
    run.add_argument("template", nargs="?", metavar="TEMPLATE", help="a template's name, or the path of a notebook")
    run.add_argument("-p", action="append", default=[], dest="pairs", metavar="name=value", help="a parameter that the template declares")
    run.add_argument("--kernel", metavar="K", help="which kernel; without it, the notebook's own")
    run.add_argument("--timeout", type=number(above=0), metavar="S", help="seconds that one attempt may take")
    run.add_argument("--retries", type=whole(0), default=0, metavar="N", help="further attempts after one that failed")
    run.add_argument("--gpus", type=whole(0), default=0, metavar="N", help="how many GPUs it needs")
    run.add_argument("--out", metavar="DIR", help="where notebook.ipynb and run.json go; an earlier job's move to DIR/previous")
    run.add_argument("--json", action="store_true", help="print the job's record as JSON")
    run.add_argument("-h", "--help", action="store_true", help="this, or the parameters of TEMPLATE")
    run.set_defaults(show_help=run.print_help)


_EXAMPLE = """example:
  llmops-lab run finetune -p data=train.jsonl -p epochs=2 --out out
  llmops-lab run finetune --help      its parameters

Ctrl-C or SIGTERM cancels the job with all its processes."""


def run(options: argparse.Namespace) -> int:
    """Run it to its end; the exit code says how it ended."""
    if options.help or not options.template:
        return _help(options)
    from llmops_lab import settings as _settings
    from llmops_lab.flows import check_job, run_job, submit_job
    from llmops_lab.jobs.outcome import told
    from llmops_lab.jobs.parameters import from_text

    settings = _settings.load()
    _, declared = check_job.parameters_of(options.template)
    spec = submit_job.submit(
        options.template,
        from_text(declared, options.pairs),
        kernel=options.kernel,
        timeout=options.timeout,
        retries=options.retries,
        gpus=options.gpus,
        out=options.out,
        settings=settings,
    )
    _note(f"job {spec.id}: {spec.folder}")
    try:
        record = run_job.run(spec.folder, settings=settings, on_event=_Said(), alone=True)
    except BaseException:
        _never_began(settings, spec.id)
        raise
    _note(_end(record))
    for name, line in told(record.result):
        _note(f"{name}: {line}")
    print(json.dumps(record.to_json(), indent=1) if options.json else inert(str(spec.folder / record.notebook)))
    return int(record.exit_code if record.exit_code is not None else ExitCode.FAILED)


def _never_began(settings: Any, job: str) -> None:
    from llmops_lab.flows.end_job import end_queued
    from llmops_lab.store import jobs
    from llmops_lab.store.ledger import open_ledger

    ledger = open_ledger(settings)
    row = jobs.get(ledger, job)
    if row is not None:  # nothing happens to a job that is queued no longer
        end_queued(ledger, row, "cancelled", "Cancelled", "it was stopped before it began")


class _Said:
    """One line for each cell, so that a log shows how far a job is."""

    def __init__(self) -> None:
        self._cell: int | None = None
        self._began = time.monotonic()

    def __call__(self, event: dict[str, Any]) -> None:
        record = event["record"]
        if event["kind"] == "retry":
            _note(f"attempt {record.attempt} of {record.retries + 1}")
            self._cell = None
        if event["kind"] == "cell" and record.cell is not None and record.cell != self._cell:
            self._cell = record.cell
            _note(f"cell {record.cells_done + 1} of {record.cells_total}, after {round(time.monotonic() - self._began)} s")


def _end(record: Any) -> str:
    from llmops_lab.api.display import duration
    from llmops_lab.jobs.outcome import sentence
    from llmops_lab.jobs.record import epoch

    where = "" if record.mlflow_run_id else " MLflow does not answer; it will be told later."
    took = f" It took {duration(epoch(record.ended) - epoch(record.started))}." if record.started and record.ended else ""
    return f"{sentence(record.to_json()).rstrip('.')}.{took}{where}"


def _help(options: argparse.Namespace) -> int:
    if not options.template:
        options.show_help()
        print(f"\ntemplates:\n{_known()}")
        if not options.help:
            _note("Name a template or the path of a notebook.")
        return int(ExitCode.DONE if options.help else ExitCode.WRONG_USE)
    from llmops_lab.flows.check_job import parameters_of
    from llmops_lab.jobs.parameters import usage
    from llmops_lab.jobs.templates import summary

    path, declared = parameters_of(options.template)
    about = summary(path)
    wanted = "".join(f" -p {each.name}=..." for each in declared if each.required)
    print(inert(f"usage: llmops-lab run {shlex.quote(options.template)}{wanted} [-p name=value ...] [--out DIR] [--timeout S] ..."))
    print(inert(f"\n{about}\n\nparameters (-p name=value):\n{usage(declared)}\n\nThe other options: llmops-lab run --help"))
    return int(ExitCode.DONE)


def _known() -> str:
    from llmops_lab.jobs.templates import names

    lines = [textwrap.fill(f"{name:<10} {about}", 78, initial_indent="  ", subsequent_indent=" " * 13) for name, about in names().items()]
    return inert("\n".join(lines)) or "  none"


def _note(text: str) -> None:
    sys.stdout.flush()
    print(inert(text), file=sys.stderr)
