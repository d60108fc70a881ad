"""The one door to MLflow: where its store lies, how it is made, whether it answers, and a client for it.

MLflow's own default store is relative to the working directory, so each notebook folder would get another one, and
eight processes that meet an empty store at once break it. Here the store is pinned to the ledger's folder, built beside
its final place under a lock, and moved there whole: a store that exists is complete.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sqlite3
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from llmops_lab.errors import BadInput, LabError, StoreError, Unreachable
from llmops_lab.settings import Settings, home_dir

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_MODEL_CATALOG_URI": "",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",  # in its other mode it loads a .env file into the process; MLflow imports it where it is installed
    "MLFLOW_TRACE_USE_ISOLATED_RANDOM_ID_GENERATOR": "true",
    # MLflow also repeats POSTs, which would double what they create; the outbox does our repeating.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"  # the only name by which MLflow lets a store's artifact root be given
_LOCK_SECONDS = 300.0
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

_SPARED = ("numpy", "pandas", "pyarrow", "scipy")

_guard = threading.RLock()
_clients: dict[str, Any] = {}
_ours: set[str] = set()
_exported = ""  # the tracking URI that this module set for the process; the user's own is never replaced


def prepare(settings: Settings) -> str:
    """Set the environment that MLflow reads, make the store when it is missing, and return its absolute tracking URI.

    Called before MLflow is first imported; imports it only when a SQLite store has to be made. Variables that the user
    has set stay as they are. The process's tracking URI is set when the user set none. Raises StoreError when the
    store cannot be made.
    """
    set_defaults()
    with _guard:
        uri = tracking_uri(settings)
        path = _sqlite_path(uri)
        if path is not None and not path.exists():
            _create(path, _artifact_root(settings, uri))
        _export(uri)
    return uri


def set_defaults() -> None:
    """Switch off what MLflow would send or fetch by itself; to be called before it is first imported. What the user set stays."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def tracking_uri(settings: Settings) -> str:
    """Where runs and prompts go: the user's tracking URI (SQLite paths made absolute), else ``mlflow.db`` in the ledger's folder."""
    environment = os.environ.get("MLFLOW_TRACKING_URI", "")
    chosen = settings.tracking_uri if settings.tracking_uri not in _ours else ""
    chosen = chosen or (environment if environment != _exported else "")
    if not chosen:
        _ours.add(ours := _sqlite_uri(home_dir(settings).absolute() / "mlflow.db"))
        return ours
    path = _sqlite_path(chosen)
    if path is None or path.is_absolute():
        return chosen
    # The environment variable is MLflow's own and relative to the working directory; a setting belongs to the project.
    inherited = chosen == os.environ.get("MLFLOW_TRACKING_URI")
    base = Path(settings.project) if settings.project and not inherited else Path.cwd()
    return _sqlite_uri((base / path).absolute())


def is_own(uri: str) -> bool:
    """Whether this tracking URI is the one that was chosen here because the user named none."""
    return uri in _ours


def client(settings: Settings) -> Any:
    """The ``MlflowClient`` of the settings' tracking URI, one for each URI in a process.

    Our own store is brought up to MLflow's schema first, after a copy ``mlflow.db.before-upgrade`` was made. Raises
    BadInput for a URI that MLflow refuses, StoreError for a store that cannot be opened.
    """
    uri = prepare(settings)
    with _guard:
        if uri not in _clients:
            with _mlflow_errors(uri):
                _clients[uri] = _open(uri, _artifact_root(settings, uri))
        return _clients[uri]


def open_lean(settings: Settings) -> None:
    """Import MLflow as ``mlflow-skinny`` has it, without pandas and numpy, and open its store, for a third less CPU.

    For a process that tells of its job and ends: MLflow's data sets and models cannot be used in it afterwards. Nothing happens where
    MLflow is there already or does not answer, and whatever goes wrong goes wrong again, and is told, when it is used.
    """
    if "mlflow" in sys.modules or not reachable(settings):
        return
    spared = [name for name in _SPARED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(spared))  # type: ignore[arg-type]  # None: "is not installed", for as long as MLflow looks for it
    try:
        client(settings)
    except (ImportError, LabError):
        pass
    finally:
        for name in spared:
            del sys.modules[name]


@contextlib.contextmanager
def answering(settings: Settings) -> Iterator[Any]:
    """A client, for one question or a few: what MLflow refuses is a BadInput, and Unreachable is raised where it does not answer."""
    if not reachable(settings):
        raise Unreachable(f"the MLflow server {shown(settings)} does not answer. Nothing was changed; try again once it is back.")
    opened = client(settings)
    from mlflow.exceptions import MlflowException

    try:
        yield opened
    except MlflowException as error:
        if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE") and not reachable(settings):
            raise Unreachable(f"the MLflow server {shown(settings)} stopped answering: {error}") from error
        refused = error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")
        raise (BadInput if refused else LabError)(f"MLflow says: {str(error).rstrip('.')}.") from error


def pages(search: Callable[..., Any], first: str | None) -> Iterator[Any]:
    """All that a search of the client finds, page after page; ``first`` is its first argument."""
    token: str | None = None
    while True:
        page = search(first, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def shown(settings: Settings) -> str:
    """The tracking URI for a message, without its password."""
    return _without_password(tracking_uri(settings))


def reachable(settings: Settings, seconds: float = 2.0) -> bool:
    """Whether the tracking server answers at all within ``seconds``; a store in a file always does. Imports no MLflow.

    Any HTTP answer counts, a refusal to an anonymous caller too; 502, 503 and 504 come from a proxy whose server is away.
    """
    parts = urlsplit(tracking_uri(settings))
    scheme = parts.scheme.partition("+")[0]
    if scheme in ("http", "https"):
        return _within(seconds, lambda: _answers(f"{parts.geturl().rstrip('/')}/health", seconds))
    if scheme in _PORTS and parts.hostname:
        host, port = parts.hostname, parts.port or _PORTS[scheme]
        return _within(seconds, lambda: _connects(host, port, seconds))
    return True


def _within(seconds: float, check: Callable[[], bool]) -> bool:
    # Name resolution knows no timeout, so the whole check is left behind when time is up.
    found: list[bool] = []
    worker = threading.Thread(target=lambda: found.append(check()), daemon=True, name="mlflow-reachable")
    worker.start()
    worker.join(seconds)
    return bool(found and found[0])


def _answers(url: str, seconds: float) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=seconds):  # noqa: S310 - http(s) only, checked by the caller
            return True
    except urllib.error.HTTPError as answer:
        return answer.code not in (502, 503, 504)
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLCertVerificationError)  # it is there; the real call says what is wrong
    except (OSError, ValueError):
        return False


def _connects(host: str, port: int, seconds: float) -> bool:
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return True
    except OSError:
        return False


def _export(uri: str) -> None:
    global _exported
    current = os.environ.get("MLFLOW_TRACKING_URI", "")
    if current and current != _exported:
        return
    if current != uri:
        if "mlflow" in sys.modules:
            import mlflow

            mlflow.set_tracking_uri(uri)  # also resets where traces go
        os.environ["MLFLOW_TRACKING_URI"] = uri
    _exported = uri


def _sqlite_path(uri: str) -> Path | None:
    if not uri.startswith("sqlite:///") or "?" in uri or uri.endswith(":memory:") or len(uri) == len("sqlite:///"):
        return None
    return Path(unquote(uri[len("sqlite:///") :]))


def _sqlite_uri(path: Path) -> str:
    # The path is unquoted again by whoever opens it; a space may stay, these two may not.
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def _artifact_root(settings: Settings, uri: str) -> str:
    home = home_dir(settings).absolute()
    return str(home / "mlartifacts") if uri == _sqlite_uri(home / "mlflow.db") else ""


def _create(path: Path, artifacts: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if path.exists():
                return
            try:
                with _root(artifacts), _quiet(), _mlflow_errors(_sqlite_uri(path)):
                    _build(_sqlite_uri(draft))
                if not path.exists():
                    _version_file(path).write_text(version("mlflow"))
                    os.replace(draft, path)
            finally:
                for left in path.parent.glob(f".{path.name}.*.new*"):  # those of killed processes too: the lock is ours
                    left.unlink()
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"the MLflow store {path} cannot be made: {error}. Make space or set LLMOPS_LAB_HOME to another folder.", str(path)
        ) from error


def _build(uri: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    root = os.environ.get(_ARTIFACT_ROOT, "./mlruns")
    SqlAlchemyStore(uri, root).engine.dispose()


def _open(uri: str, artifacts: str) -> Any:
    path = _sqlite_path(uri)
    if path is not None:
        with contextlib.closing(sqlite3.connect(path)) as store:
            store.execute("SELECT count(*) FROM sqlite_master")  # MLflow would try a broken file for 100 s
    if artifacts and path is not None:
        _upgrade(path)
    from mlflow import MlflowClient

    with _root(artifacts), _quiet():
        return MlflowClient(tracking_uri=uri)


def _upgrade(path: Path) -> None:
    # Left to itself, MLflow migrates some old stores as it opens them: with no copy, and in every process at once.
    if _seen_version(path) == version("mlflow"):
        return
    from alembic.util import CommandError
    from mlflow.store.db.utils import _get_latest_schema_revision, _upgrade_db, create_sqlalchemy_engine_with_retry

    copy = path.with_name(f"{path.name}.before-upgrade")
    with _locked(path), contextlib.closing(sqlite3.connect(path)) as store:
        (revision,) = store.execute("SELECT version_num FROM alembic_version").fetchone()
        if revision != _get_latest_schema_revision():
            with contextlib.closing(sqlite3.connect(copy)) as target:
                store.backup(target)
            try:
                with _quiet():
                    engine = create_sqlalchemy_engine_with_retry(_sqlite_uri(path))
                    _upgrade_db(engine)
                    engine.dispose()
            except CommandError as error:
                raise StoreError(f"{path} cannot be used by MLflow {version('mlflow')}: {error}. A copy is {copy}.", str(path)) from error
        _version_file(path).write_text(version("mlflow"))


def _version_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.version")


def _seen_version(path: Path) -> str:
    try:
        return _version_file(path).read_text()
    except OSError:
        return ""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # SQLite's own lock: works on every system and is gone when its process is killed.
    lock = sqlite3.connect(path.with_name(f".{path.name}.lock"), timeout=_LOCK_SECONDS, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        lock.close()


@contextlib.contextmanager
def _root(artifacts: str) -> Iterator[None]:
    # MLflow keeps the store that it opens here for the URI, so experiments made later get this root as well.
    if not artifacts or _ARTIFACT_ROOT in os.environ:
        yield
        return
    os.environ[_ARTIFACT_ROOT] = artifacts
    try:
        yield
    finally:
        del os.environ[_ARTIFACT_ROOT]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow.store.db.utils")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _mlflow_errors(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    safe = _without_password(uri)
    try:
        yield
    except MlflowException as error:
        raise BadInput(f"MLflow refuses the tracking URI {safe}: {error} Set MLFLOW_TRACKING_URI to one that it knows.") from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = getattr(error, "orig", None) or error
        raise StoreError(f"the MLflow store {safe} cannot be opened: {cause}.", str(_sqlite_path(uri) or safe)) from error


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return uri.replace(f":{parts.password}@", ":***@") if parts.password else uri
