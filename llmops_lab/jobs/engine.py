"""Papermill's engine ``llmops``: ``papermill --engine llmops IN OUT`` is a job like any other, with ``run.json`` beside OUT.

Papermill reads and parameterises the notebook; from there on it is the one story of a job, found by name because that stands above
this folder. Papermill's own last write, which is not in one step, is kept away from OUT.
"""

from __future__ import annotations

import copy
import importlib
import logging
import os
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, ExitCode, JobFailed, LabError
from llmops_lab.jobs.outcome import sentence
from llmops_lab.jobs.record import JobRecord

_STORY = "llmops_lab.flows.run_notebook"
_log = logging.getLogger("papermill")


class Engine:
    """As papermill calls it; what it knows of an engine is these three methods."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        log_output: bool = False,
        input_path: str = "",
        execution_timeout: float | None = None,
        **_: Any,
    ) -> Any:
        """Run the notebook as a job. Raises JobFailed when it does not end well; papermill then ends with its exit code."""
        target = _local(output_path)
        try:
            record = importlib.import_module(_STORY).run_notebook(
                nb, input_path, target, kernel=kernel_name, timeout=execution_timeout, on_event=_Log(log_output)
            )
        except LabError as error:  # before anything was started
            raise _refused(error) from None
        if record.state != "succeeded":
            if target is None and output_path:
                from papermill.iorw import write_ipynb

                write_ipynb(nb, output_path)
            raise _ended(record)
        if target is None:
            return nb
        _keep(output_path, target)
        return _without_errors(nb)

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """The kernel that was named, else the notebook's own."""
        found = name or nb.metadata.get("kernelspec", {}).get("name")
        if not found:
            raise BadInput("the notebook names no kernel. Name one: papermill --kernel python3.")
        return str(found)

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        """The language that was named, else the notebook's own, else Python."""
        own = nb.metadata.get("language_info", {}).get("name") or nb.metadata.get("kernelspec", {}).get("language")
        return str(language or own or "python")


class _Log:
    def __init__(self, outputs: bool) -> None:
        self._outputs, self._cell = outputs, None

    def __call__(self, event: dict[str, Any]) -> None:
        record = event["record"]
        if event["kind"] == "output" and self._outputs:
            _log.info(event["text"][2].rstrip("\n"))
        if event["kind"] == "cell" and record.cell != self._cell:
            self._cell = record.cell
            _log.info("cell %s of %s", record.cells_done + 1, record.cells_total)


class _Kept:
    """Stands for OUT when papermill writes it once more: what lies there is whole already."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, path: str) -> str:
        return self._path.read_text("utf-8")

    def write(self, text: str, path: str) -> None:
        pass

    def pretty_path(self, path: str) -> str:
        return path


def _keep(output_path: str | None, target: Path) -> None:
    from papermill.iorw import papermill_io

    handlers = papermill_io._handlers
    handlers[:] = [each for each in handlers if each[0] != output_path]
    papermill_io.register(output_path, _Kept(target))


def _local(output_path: str | None) -> Path | None:
    if not output_path or output_path == "-" or "://" in output_path:
        return None
    from papermill.iorw import papermill_io

    # Papermill has gone to the notebook's working directory; its own files are where it was started.
    started = getattr(dict(papermill_io._handlers).get("local"), "_cwd", None)
    return Path(started or os.getcwd(), output_path)


def _without_errors(nb: Any) -> Any:
    # Papermill takes any error output for a failure, also one that its cell's tag announced, and that of sys.exit(0).
    made = copy.deepcopy(nb)
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.output_type != "error"]
    return made


def _ended(record: JobRecord) -> LabError:
    text = sentence(record.to_json())
    _log.error("job %s: %s", record.id, text)
    return _with_code(JobFailed(text, record.state, ExitCode(record.exit_code or ExitCode.FAILED)))


def _refused(error: LabError) -> LabError:
    _log.error("%s: %s", type(error).__name__, error)
    return _with_code(error)


def _with_code(error: LabError) -> LabError:
    # The command ends with the code of click's Exit; a program that calls papermill catches the error that it knows.
    from click.exceptions import Exit

    kind = type(type(error).__name__, (type(error), Exit), {"__module__": type(error).__module__})
    made: LabError = kind.__new__(kind, *error.args)
    made.__dict__.update(error.__dict__)
    made.exit_code = error.exit_code
    return made
