"""What ``llmops-lab doctor`` and ``%lab status`` look at: settings, ledger, MLflow, keys, extras. Nothing is made or changed by looking."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from llmops_lab import plugins
from llmops_lab import settings as _settings
from llmops_lab.errors import LabError
from llmops_lab.redact import redact
from llmops_lab.settings import Settings
from llmops_lab.store import care
from llmops_lab.store._dialect import shown
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track import connect

State = Literal["ok", "note", "broken"]
_VERSIONS = ("llmops-lab", "mlflow", "onnxruntime", "aiohttp", "pandas", "ipython")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report. ``broken`` wants mending; ``note`` is worth knowing."""

    topic: str
    text: str
    state: State = "ok"


def examine() -> list[Finding]:
    """Everything, in the order in which it should be read. Never raises for what is broken: that is a finding."""
    found = [Finding("versions", _versions())]
    try:
        settings = _settings.load()
        origins = _settings.origins()
    except LabError as error:
        return [*found, Finding("settings", str(error), "broken")]
    found += [Finding("home", _home(settings, origins)), *_ledger(settings), *_mlflow(settings), _model(settings)]
    found += [*_keys(settings), *_extras()]
    return found + [Finding("setting", f"{name} = {value}  ({origin})") for name, value, origin in setting_lines(settings, origins)]


def setting_lines(settings: Settings, origins: dict[str, str]) -> list[tuple[str, str, str]]:
    """``(name, value, where it comes from)`` of every setting; passwords are hidden."""
    own = {"tracking_uri": "default"} if connect.is_own(settings.tracking_uri) else {}
    values = {name: getattr(settings, name) for name in origins} | {"ledger": shown(settings.ledger)}
    return [(name, _shown(values[name]), origin) for name, origin in {**origins, **own}.items()]


def standing(settings: Settings) -> dict[str, str]:
    """How things stand, for a glance: where what lies, what runs, what waits."""
    place, answers = _tracking(settings)
    lines = {"home": str(_settings.home_path(settings)), "MLflow": place if answers else f"{place} (does not answer)"}
    if not _there(settings):
        return {**lines, "ledger": "not there yet: the first call makes it"}
    ledger = open_ledger(settings)
    running = [f"{each['name']} ({each['grid'][:8]})" for each in ledger.grids(100) if each["state"] == "running"]
    health = {"ledger": ledger.place, "running grids": ", ".join(running) or "none"}
    return {**lines, **health, "waiting for MLflow": str(len(ledger.outbox_pending()))}


def _versions() -> str:
    found = [f"{name} {_version(name)}" for name in _VERSIONS]
    return f"{', '.join(found)}; Python {platform.python_version()} on {platform.system()} {platform.machine()}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _home(settings: Settings, origins: dict[str, str]) -> str:
    path = _settings.home_path(settings)
    if settings.home:
        why = f"set by {'LLMOPS_LAB_HOME' if origins['home'] == 'environment' else origins['home']}"
    elif settings.project:
        mark = next(name for name in ("pyproject.toml", ".git") if (Path(settings.project) / name).exists())
        why = f"beside {mark}"
    else:
        why = "in the working directory, because no pyproject.toml or .git was found above it"
    return f"{path} ({why})"


def _ledger(settings: Settings) -> Iterator[Finding]:
    home = _settings.home_path(settings)
    if not settings.ledger and not _there(settings):
        yield from _missing(home)
        return
    try:
        health = care.check(open_ledger(settings))
    except LabError as error:
        yield Finding("ledger", redact(str(error)), "broken")
        return
    yield Finding("ledger", f"{health.place}: {health.calls:,} replies; {_sound(health)}", "ok" if health.sound else "broken")
    if health.journal == "delete":
        yield Finding(
            "ledger",
            f"on a network filesystem ({health.filesystem}): a rollback journal in place of WAL, which is slower. "
            "LLMOPS_LAB_HOME on a local disk is faster.",
            "note",
        )
    if health.doubts:
        yield Finding("ledger", f"{health.doubts:,} calls may have been paid for twice: grid.maybe_paid_twice names them", "note")
    if health.waiting:
        yield Finding("outbox", f"{health.waiting:,} entries wait for MLflow; they are sent when the next grid ends", "note")


def _sound(health: care.Health) -> str:
    if health.kind != "sqlite":
        return health.kind
    check = "integrity check passed" if health.sound else "INTEGRITY CHECK FAILED: put a backup in its place"
    return f"SQLite, journal {health.journal} on {health.filesystem or 'an unnamed filesystem'}, {check}"


def _missing(home: Path) -> Iterator[Finding]:
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("ledger", f"cannot be made in {home}: {nearest} is not writable. Set LLMOPS_LAB_HOME to another folder.", "broken")
    else:
        yield Finding("ledger", f"{home / 'lab.db'}: not there yet, the first call makes it")


def _mlflow(settings: Settings) -> Iterator[Finding]:
    try:
        place, answers = _tracking(settings)
    except LabError as error:
        yield Finding("MLflow", redact(str(error)), "broken")
        return
    if answers:
        yield Finding("MLflow", place)
    else:
        text = f"{place} does not answer. Grids go on, and what they log waits in the outbox until it does."
        yield Finding("MLflow", text, "broken")


def _tracking(settings: Settings) -> tuple[str, bool]:
    if settings.tracking_uri:
        return connect.shown(settings), connect.reachable(settings, 2.0)
    store = _settings.home_path(settings) / "mlflow.db"
    return f"sqlite:///{store}{'' if store.exists() else ': not there yet, the first run makes it'}", True


def _model(settings: Settings) -> Finding:
    try:
        plugins.find("models", settings.model.partition(":")[0])
    except LabError as error:
        return Finding("model", f"the default model: {error}", "broken")
    return Finding("model", f"{settings.model} is asked when no model is named")


def _keys(settings: Settings) -> Iterator[Finding]:
    # By name only: not even the length of a key is shown.
    named = {variable: server for server, variable in settings.keys.items() if variable}
    for variable, server in named.items():
        state = "set" if os.environ.get(variable) else "NOT SET"
        yield Finding("key", f"{variable} for {redact(server)}: {state}", "ok" if state == "set" else "note")
    others = sorted(name for name in os.environ if re.search(r"API_KEY$|_TOKEN$", name) and os.environ[name] and name not in named)
    for name in others:
        yield Finding("key", f"{name}: set")
    if not named and not others:
        yield Finding("key", "none found in the environment; local servers need none")


def _extras() -> Iterator[Finding]:
    wanted: dict[str, list[str]] = {}
    for line in requires("llmops-lab") or ():
        found = re.match(r"(?P<name>[\w.\-]+).*;.*extra == ['\"](?P<extra>\w+)['\"]", line)
        if found and found["extra"] != "all":
            wanted.setdefault(found["extra"], []).append(found["name"])
    for extra, names in wanted.items():
        missing = [name for name in names if _version(name) == "missing"]
        if missing:
            yield Finding("extra", f"{extra}: {', '.join(missing)} missing. Type: pip install 'llmops-lab[{extra}]'", "note")
        else:
            yield Finding("extra", f"{extra}: installed")


def _there(settings: Settings) -> bool:
    return bool(settings.ledger) or (_settings.home_path(settings) / "lab.db").exists()


def _shown(value: Any) -> str:
    text = redact(str(value))
    return repr(text) if isinstance(value, str) else text
