"""All that is known to be wrong with a job is said before anything starts: template, parameters, what they name, kernel, GPUs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab import plugins
from llmops_lab.errors import BadInput, LabError, UnknownName
from llmops_lab.grids.rows import Rows, read_rows
from llmops_lab.jobs import gpus as _gpus
from llmops_lab.jobs import kernels, templates
from llmops_lab.jobs import parameters as _parameters
from llmops_lab.jobs.parameters import Parameter
from llmops_lab.models._ask import open_model
from llmops_lab.prompts.files import SCHEME, load_prompts
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import open_ledger

_MLFLOW_RUN = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Checked:
    """A job that can be started. ``parameters``: the value of each, paths made absolute; ``kernel``: the one it will have."""

    template: str
    path: Path
    declared: tuple[Parameter, ...]
    parameters: Mapping[str, Any]
    kernel: str


def check(
    template: str | Path,
    parameters: Mapping[str, Any],
    *,
    kernel: str | None = None,
    gpus: int = 0,
    settings: Settings,
    cwd: str | Path | None = None,
    pending: bool = False,
) -> Checked:
    """Everything that can be known before a kernel is started. ``cwd``: where relative paths begin; without it, here.
    ``pending``: other jobs run before it, which may make the files and models that are not there yet.

    Raises UnknownName (template, parameter, column, model, kernel; the known ones are listed), BadInput or MissingExtra.
    """
    path = templates.find(template)
    declared = _parameters.declared(path)
    values = _parameters.check(declared, parameters)
    kernel = kernel or _own_kernel(path)
    kernels.check(kernel, settings)
    _gpus.check(gpus, settings)
    values = looked_up(declared, values, settings, cwd, pending, kernel)
    shipped = path == templates.names_to_paths().get(path.stem)
    return Checked(path.stem if shipped else str(path), path, tuple(declared), values, kernel)


def looked_up(
    declared: Sequence[Parameter], values: Mapping[str, Any], settings: Settings, cwd: str | Path | None = None, pending: bool = False,
    kernel: str = kernels.DEFAULT,
) -> dict[str, Any]:  # fmt: skip
    """The values, when all that they name is there; files and folders as absolute paths. Raises BadInput, UnknownName, MissingExtra."""
    found = dict(values)
    named = _Named(Path(cwd) if cwd else Path.cwd(), settings, found, pending)
    for parameter in declared:
        for mark in parameter.marks:
            with _naming(parameter.name):
                found[parameter.name] = named.checked(mark, found[parameter.name])
    if any("base" in parameter.marks for parameter in declared):
        named.check_tuning(here=kernels.is_this_python(kernel))
    return found


def _own_kernel(path: Path) -> str:
    found = _parameters.read_notebook(path).get("metadata", {}).get("kernelspec", {}).get("name")
    return found if isinstance(found, str) and found else kernels.DEFAULT


@contextlib.contextmanager
def _naming(parameter: str) -> Iterator[None]:
    # An unknown name says itself what it is no name of; any other message begins with the parameter.
    try:
        yield
    except UnknownName:
        raise
    except BadInput as error:
        error.args = (f"{parameter}: {error.args[0]}",)
        raise


class _Named:
    """What values name: looked up once, and said to be wrong in the words of whoever reads it."""

    def __init__(self, cwd: Path, settings: Settings, values: Mapping[str, Any], pending: bool) -> None:
        self._cwd, self._settings, self._values, self._pending = cwd, settings, values, pending
        self._rows: dict[Path, Rows] = {}

    def checked(self, mark: str, value: Any) -> Any:
        """The value, or each of a list's, with paths made absolute. None and empty text name nothing. Raises BadInput."""
        if isinstance(value, list):
            return [self.checked(mark, each) for each in value]
        if value is None or value == "":
            return value
        kind, _, more = mark.partition(":")
        if mark.startswith("column of "):
            return self._column(mark.removeprefix("column of ").strip(), value)
        look: dict[str, Callable[[Any, str], Any]] = {
            "file": self._file,
            "folder": self._folder,
            "rows": self._data,
            "prompts": self._prompts,
            "model": self._model,
            "base": self._model,
            "scorer": self._scorer,
            "grid": self._grid,
        }
        return look[kind.strip()](value, more)

    def _path(self, value: str) -> Path:
        path = self._cwd / templates.home_expanded(value)
        templates.check_possible(path)
        return path

    def _file(self, value: str, _: str) -> str:
        path = self._path(value)
        if not path.is_file() and not self._to_come(path):
            nearby = sorted(each.name for each in path.parent.iterdir() if each.is_file())[:8] if path.parent.is_dir() else []
            raise BadInput(f"there is no file {path}.{' In that folder: ' + ', '.join(nearby) + '.' if nearby else ''}")
        return str(path)

    def _folder(self, value: str, _: str) -> str:
        path = self._path(value)
        if not path.is_dir() and not self._to_come(path):
            raise BadInput(f"there is no folder {path}.")
        return str(path)

    def _read(self, value: str) -> Rows:
        path = self._path(value)
        if path not in self._rows:
            self._rows[path] = read_rows(path)
        return self._rows[path]

    def _to_come(self, path: Path) -> bool:
        return self._pending and not path.exists()

    def _data(self, value: str, wanted: str) -> str:
        if self._to_come(self._path(value)):
            return str(self._path(value))
        rows = self._read(value)
        sets = [[name.strip() for name in part.split(",") if name.strip()] for part in wanted.split("|")]
        if not any(set(columns) <= set(rows.columns) for columns in sets):
            wants = ", or ".join(" and ".join(columns) for columns in sets)
            raise BadInput(f"{value} has the columns {', '.join(rows.columns)}; it needs {wants}.")
        return str(self._path(value))

    def _column(self, parameter: str, value: str) -> str:
        if self._values.get(parameter) and not self._to_come(self._path(self._values[parameter])):
            self._read(self._values[parameter]).require(value)
        return value

    def _prompts(self, value: Any, _: str) -> Any:
        is_file = isinstance(value, str) and value.endswith(".toml") and not value.startswith(SCHEME)
        given = self._path(value) if is_file else value
        if not (is_file and self._to_come(given)):
            load_prompts(given, fetch=self._fetch)
        return str(given) if is_file else value

    def _fetch(self, address: str) -> Any:
        from llmops_lab.flows.prompts import library

        return library(self._settings).get(address)

    def _model(self, value: str, _: str) -> str:
        try:
            open_model(value, self._settings)
        except UnknownName:
            raise
        except BadInput:
            if not self._pending:
                raise
        return value

    def check_tuning(self, *, here: bool) -> None:
        """Everything about a template that tunes a model: its recipe, rows, packages and disk."""
        from llmops_lab.flows import tune_base, tune_check

        try:
            tune_base.folder_of(self._values["base"])
        except UnknownName:
            raise
        except BadInput:
            if self._pending:
                return  # one of the jobs before it may make the base
            raise
        tune_check.check(self._values, self._rows_of, self._settings, here=here)

    def _rows_of(self, value: str) -> Rows | None:
        return None if self._to_come(self._path(value)) else self._read(value)

    def _scorer(self, value: Any, _: str) -> Any:
        name = value.get("name", "") if isinstance(value, dict) else value
        if name not in plugins.names("scorers"):
            raise UnknownName("scorer", str(name), plugins.names("scorers"))
        return value

    def _grid(self, value: str, _: str) -> str:
        ledger = open_ledger(self._settings)
        if ledger.grid(value) is None and not _MLFLOW_RUN.fullmatch(value):  # one that another machine logged is looked up in MLflow
            raise UnknownName("grid", value, {each["name"] for each in ledger.grids(20)}, f"Looked in {ledger.place}.")
        return value


def parameters_of(template: str | Path) -> tuple[Path, list[Parameter]]:
    """A template's file and what it declares. Raises UnknownName or BadInput."""
    path = templates.find(template)
    return path, _parameters.declared(path)


def listed() -> dict[str, str]:
    """Every shipped template by name, with what it does; one that cannot be read says so."""
    return {name: summary_of(path) for name, path in templates.names_to_paths().items()}


def summary_of(path: Path) -> str:
    """What a template says of itself, or why it cannot be read."""
    try:
        return templates.summary(path)
    except LabError as error:
        return str(error)
