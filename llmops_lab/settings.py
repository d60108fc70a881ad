"""One ``Settings``: defaults < ``[tool.llmops_lab]`` in pyproject.toml < environment < ``configure`` / ``%config``.

The project directory is found by walking up from the working directory to ``pyproject.toml`` or ``.git``. The ledger lies
in its ``.llmops_lab`` folder (``LLMOPS_LAB_HOME`` moves it).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, meant
from llmops_lab.redact import name_secrets

_PREFIX = "LLMOPS_LAB_"


@dataclass(frozen=True)
class Settings:
    """Every setting, with its default. Environment names are ``LLMOPS_LAB_`` + the upper-case field; tables are JSON there."""

    home: str = ""
    """Folder of the ledger. Empty: ``.llmops_lab`` in the project directory."""
    ledger: str = field(default="", repr=False)  # it may hold a password, and a cell shows what configure() returns
    """``postgresql://...`` to keep the ledger in PostgreSQL. Empty: SQLite in ``home``."""
    tracking_uri: str = field(default="", repr=False)
    """MLflow tracking URI. Empty: MLFLOW_TRACKING_URI, else ``mlflow.db`` in ``home``."""
    experiment: str = "llmops_lab"
    """MLflow experiment that runs are logged to."""
    model: str = "tiny"
    """The model that ``%%prompt`` and ``ask`` use when none is named."""
    embedder: str = "hashing"
    """The embedder that scorers and few-shot selection use when none is named."""
    concurrency: int = 16
    """Calls in flight at most, for each provider."""
    timeout: float = 60.0
    """Seconds for one try of one call."""
    retries: int = 4
    """Further tries after the first, for faults that another try can cure."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Base URL (or its beginning) -> name of the environment variable that holds its key."""
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Model spec -> {"input": USD per million tokens, "output": ...} or {"gpu_hour": USD}."""
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Base URL or provider name -> {"concurrency": calls in flight, "rpm": requests a minute}."""
    gates: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Alias -> names of the suites that a gate for it must have run: {"production": ["support", "safety"]}."""
    trace_sample: float = 0.0
    """Share of a grid's successful cells that also get an MLflow trace (failed cells always do, up to 20)."""
    jobs_at_once: int = 2
    """Jobs of this project that run at the same time; the others wait (one that ``llmops-lab run`` runs counts, and never waits)."""
    job_idle: float = 600.0
    """Seconds without a job after which the service ends; the next job starts it again."""
    gpus: str = ""
    """GPUs that jobs may lease, named as in CUDA_VISIBLE_DEVICES: "0,1", or "none". Empty: that variable, else what nvidia-smi counts."""
    kernel_gateway: str = ""
    """URL of a Jupyter gateway, whose kernels jobs then have as gateway:NAME. Empty: JUPYTER_GATEWAY_URL."""
    reviewer: str = ""
    """Under whose name ratings made in this kernel are saved, and releases promoted. Empty: the system's user name."""
    release: Mapping[str, Any] = field(default_factory=dict)
    """Which aliases there are (``aliases``), which ask for a gate (``gate``) or a second person (``approval``); ``in_order``: true."""
    project: str = ""
    """The project directory that was found (read only); empty when there is none."""


_overrides: dict[str, Any] = {}
_place: ContextVar[Path | None] = ContextVar("place", default=None)
_FIELDS = {field.name: field for field in dataclasses.fields(Settings)}


def load() -> Settings:
    """The settings in force now. Raises BadInput for a setting that does not exist or has the wrong type."""
    project = project_dir()
    values = {name: _checked(name, value, source) for source, layer in _layers(project) for name, value in layer.items()}
    values["project"] = str(project) if project else ""
    name_secrets(map(str, values.get("keys", {}).values()))
    return Settings(**values)


@contextlib.contextmanager
def at(folder: Path) -> Iterator[None]:
    """Inside it, settings are those of a process that stands in ``folder``, for this thread or task alone: a server has many projects."""
    before = _place.set(folder.absolute())
    try:
        yield
    finally:
        _place.reset(before)


def _here() -> Path:
    return _place.get() or Path.cwd()


def origins() -> dict[str, str]:
    """Setting -> where its value comes from: ``default``, the path of pyproject.toml, ``environment`` or ``configure()``."""
    found = dict.fromkeys((name for name in _FIELDS if name != "project"), "default")
    for source, layer in _layers(project_dir()):
        found |= dict.fromkeys(layer, source)
    return found


def _layers(project: Path | None) -> list[tuple[str, Mapping[str, Any]]]:
    file = str(project / "pyproject.toml") if project else ""
    return [(file, _from_pyproject(project)), ("environment", _from_environment()), ("configure()", _overrides)]


def configure(**values: Any) -> Settings:
    """Override settings in this process, as ``%config`` does. A value of None takes the override back. Returns what is now in force."""
    for name, value in values.items():
        if value is None:
            _overrides.pop(name, None)
        else:
            _overrides[name] = _checked(name, value, "configure()")
    return load()


def project_dir() -> Path | None:
    """The nearest folder, from the working directory upwards, that holds pyproject.toml or .git."""
    here = _here()
    return next((folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file() or (folder / ".git").exists()), None)


def home_path(settings: Settings) -> Path:
    """The ledger's folder, absolute, whether it is there or not."""
    base = Path(settings.project) if settings.project else _here()
    return _here() / Path(settings.home).expanduser() if settings.home else base / ".llmops_lab"


def home_dir(settings: Settings) -> Path:
    """The ledger's folder, absolute; made when it is missing."""
    home = home_path(settings)
    if not home.exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / ".gitignore").write_text("*\n")
    return home


def _from_pyproject(project: Path | None) -> dict[str, Any]:
    path = project / "pyproject.toml" if project else None
    if path is None or not path.is_file():
        return {}
    try:
        tools = tomllib.loads(path.read_text("utf-8")).get("tool", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}. Mend the file and try again.") from error
    table = tools.get("llmops_lab", {}) if isinstance(tools, dict) else {}
    if not isinstance(table, dict):
        raise BadInput(f"{path}: llmops_lab must be a table, [tool.llmops_lab], not {table!r}.")
    return table


def _from_environment() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in os.environ.items():
        key = name.removeprefix(_PREFIX).lower()
        if not name.startswith(_PREFIX) or key not in _FIELDS or key == "project":
            continue
        if isinstance(_default(key), Mapping):
            try:
                values[key] = json.loads(value)
            except ValueError as error:
                raise BadInput(f"{name} must be a JSON object, for example '{{}}'; it is {value!r}.") from error
        else:
            values[key] = value
    if "tracking_uri" not in values and os.environ.get("MLFLOW_TRACKING_URI"):
        values["tracking_uri"] = os.environ["MLFLOW_TRACKING_URI"]
    return values


def _default(name: str) -> Any:
    spec = _FIELDS[name]
    return spec.default if spec.default is not dataclasses.MISSING else {}


def _checked(name: str, value: Any, source: str) -> Any:
    if name not in _FIELDS or name == "project":
        hint = meant(name, _FIELDS) or f" Known: {', '.join(sorted(_FIELDS))}."
        raise BadInput(f"{source} sets {name!r}, which is no setting.{hint}")
    default = _default(name)
    if isinstance(default, Mapping):
        if not isinstance(value, Mapping):
            raise BadInput(f"{source}: {name} must be a table, not {value!r}.")
        for provider, limits in value.items() if name == "limits" else ():
            _check_limits(limits, f"{source}: limits of {provider!r}")
        return value
    if isinstance(default, str):
        if not isinstance(value, str):
            raise BadInput(f"{source}: {name} must be a text, not {value!r}.")
        return value
    return _number(name, value, source, type(default))


def _number(name: str, value: Any, source: str, kind: type) -> Any:
    try:
        number = kind(value)
        exact = not isinstance(value, bool) and math.isfinite(number) and (isinstance(value, str) or number == value)
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact:
        raise BadInput(f"{source}: {name} must be a {'whole ' if kind is int else ''}number, not {value!r}.")
    if number < 0 or (name in ("concurrency", "timeout", "jobs_at_once", "job_idle") and number == 0):
        raise BadInput(f"{source}: {name} must be above 0, not {value!r}.")
    if name == "trace_sample" and number > 1:
        raise BadInput(f"{source}: trace_sample is a share of the cells, from 0 to 1, not {value!r}.")
    return number


def _check_limits(limits: Any, where: str) -> None:
    if not isinstance(limits, Mapping) or not limits or not set(limits) <= {"concurrency", "rpm"}:
        raise BadInput(f"{where} must be a table of concurrency (calls in flight) and rpm (requests a minute), not {limits!r}.")
    for name, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise BadInput(f"{where}: {name} must be a number above 0, not {value!r}.")
        if name == "concurrency" and value < 1:
            raise BadInput(f"{where}: concurrency must be 1 or more, not {value!r}.")
