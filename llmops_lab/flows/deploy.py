"""A candidate that passed its gate goes live: its alias is moved, a server answers under it, and what does not answer is taken back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, Conflict, LabError, UnknownName
from llmops_lab.flows import keys
from llmops_lab.flows.promote import Released, Wish, promote
from llmops_lab.flows.register_model import base_folder
from llmops_lab.flows.rollback import rollback, withdraw
from llmops_lab.governance.approvals import Rules
from llmops_lab.jobs import process
from llmops_lab.redact import redact
from llmops_lab.serving.listen import bound
from llmops_lab.settings import Settings, home_dir
from llmops_lab.track.registry import Registry, check_name

_ADDRESS = re.compile(r"[\w.\-]{1,200}(?:@[\w\-]{1,100}|/\d{1,9})", re.ASCII)
_TOLD = 2_000  # characters of a server's log that an error shows


@dataclass(frozen=True)
class Contender:
    """What stands at the gate as ``spec``; ``trained`` is what ``register_model`` takes, None for what is registered already."""

    spec: str
    trained: Mapping[str, Any] | None = None


def contender(candidate: str, base: str = "") -> Contender:
    """A candidate by what it is called: NAME/VERSION or NAME@ALIAS, a tuning job's folder (or its run.json), hf:BASE+ADAPTER, or a folder
    with weights.

    ``base`` is the model under an adapter, where neither that nor the job says. Raises BadInput for anything else.
    """
    under, _, last = candidate.rpartition("+")
    base = base or under
    path = Path(last.removeprefix("hf:")).expanduser()
    if not path.exists():
        if _ADDRESS.fullmatch(candidate):
            return Contender(candidate)
        raise BadInput(f"no candidate {candidate!r}. Name a tuning job's folder, a folder with weights, NAME/VERSION or NAME@ALIAS.")
    record = path / "run.json" if path.is_dir() else path
    result = _result(record) if record.is_file() else {"adapter": str(path.absolute())}
    folder = Path(str(result["adapter"]))
    if base or "model" not in result:
        adapter = (folder / "adapter_config.json").is_file()
        if adapter and not base:
            raise BadInput(f"{folder} is an adapter, which is nothing without its base. Say which: base='tiny' or base='hf:FOLDER'.")
        result = {**result, "base": base, "model": f"{base_folder(base)}+{folder}" if adapter else f"hf:{folder}"}
    return Contender(str(result["model"]), result)


def _result(record: Path) -> dict[str, Any]:
    try:
        run = json.loads(record.read_text("utf-8"))
        result = run["result"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{record} is no record of a job: {error!r:.100}.") from error
    if run.get("state") != "succeeded" or not isinstance(result, dict) or not result.get("adapter"):
        raise BadInput(f"{record}: that job is {run.get('state')} and left no weights. Name one that tuned a model and succeeded.")
    return result


def check(name: str, alias: str, port: int, settings: Settings) -> None:
    """Raise BadInput, before anything is asked, for a name or an alias that cannot be, and for a port that is taken."""
    check_name(name)
    Rules.of(settings.release).checked(alias)
    bound("127.0.0.1", port).close()


def current(name: str, alias: str, settings: Settings) -> str:
    """``NAME/VERSION`` that the alias points at now; empty where it points nowhere yet."""
    try:
        version = Registry(settings).find(name).aliases.get(alias)
    except UnknownName:
        return ""
    return "" if version is None else f"{name}/{version}"


def champion(name: str, alias: str, first: str, settings: Settings) -> str:
    """What a candidate stands against: what the alias points at now; ``first`` only while that is nothing. Empty where there is neither."""
    return current(name, alias, settings) or first


@dataclass(frozen=True)
class Live:
    """A release that answered. ``pid`` and ``url`` are None once its server was stopped again."""

    released: Released
    reply: str
    seconds: float
    url: str | None
    pid: int | None
    log: Path


def go_live(
    wish: Wish, settings: Settings, *, port: int = 0, keep: bool = False,
    question: str = "Hello", variables: Mapping[str, str] | None = None, slot: str = "", patience: float = 120.0,
) -> Live:  # fmt: skip
    """Promote, start a server under the alias and ask it; where it does not answer as it must, roll the alias back and raise LabError.

    ``variables`` fill the slots of a release's prompt, ``slot`` names one of a bundle's prompts. ``keep`` leaves the server running when
    the job ends. Raises as ``promote`` does, before anything has changed.
    """
    extra = {**({"prompt_variables": dict(variables)} if variables else {}), **({"prompt": slot} if slot else {})}
    released = promote(wish, settings)
    address = f"{wish.name}@{wish.alias}"
    log = home_dir(settings).absolute() / "served" / f"{address}-{uuid.uuid4().hex[:8]}.log"
    try:
        with _server(address, port, log, keep, patience) as (server, url):
            begun = time.monotonic()
            reply = smoke(url, address, str(released.version), question, patience, extra)
            seconds = time.monotonic() - begun
    except BaseException as error:
        told = _take_back(released, settings)
        if isinstance(error, LabError | OSError):
            raise LabError(f"{address} did not answer as it must: {error} {told}") from error
        error.add_note(told)  # an interruption stays one
        raise
    return Live(released, reply, seconds, url if keep else None, server.pid if keep else None, log)


def _take_back(released: Released, settings: Settings) -> str:
    where = f"{released.name}@{released.alias}"
    if not released.moved:
        return f"{where} was at version {released.version} before, and still is."
    why = "the server under it did not answer as it must"
    try:
        if released.previous is None:
            withdraw(released, settings, why=why)
            return f"It was its first version, so the alias was taken off again: {where} points nowhere, as before."
        back = rollback(released.name, released.alias, settings, why=why, expect=released.version)
    except Conflict as error:
        return f"It was not rolled back, for somebody moved it meanwhile: {error}"
    except Exception as error:  # whatever MLflow or the ledger throws: why the server did not answer has to be heard as well
        return f"It could not be rolled back either: {error} {_still(released, settings)}"
    return f"Rolled back: {where} is at version {back.version} again."


def _still(released: Released, settings: Settings) -> str:
    where = f"{released.name}@{released.alias}"
    try:
        now = current(released.name, released.alias, settings)
    except Exception as error:  # MLflow may be away by now
        return f"Where {where} points now cannot be seen ({error}). Look at llmops-lab history {released.name}."
    if not now:
        return f"{where} points nowhere now."
    still = "still " if now == f"{released.name}/{released.version}" else ""
    return f"{where} {still}points at {now}. Move it by hand: llmops-lab history {released.name}."


@contextmanager
def _server(address: str, port: int, log: Path, keep: bool, patience: float) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name != process.MARK} if keep else dict(os.environ)
    if keep:
        environment[process.KEPT] = os.environ.get(process.MARK, "1")
    command = [sys.executable, "-m", "llmops_lab.cli", "serve", address, "--port", str(port)]
    with log.open("wb") as file:
        server = subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
        )
    answered = False
    try:
        yield server, _url(server, log, patience)
        answered = True
    finally:
        if not (keep and answered):
            _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _url(server: subprocess.Popen[bytes], log: Path, patience: float) -> str:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        said = log.read_text("utf-8", errors="replace")
        if found := re.search(r"^(https?://\S+)$", said, re.MULTILINE):
            return found[1]
        if server.poll() is not None:
            raise LabError(f"the server ended with {server.returncode}: {redact(said.strip())[-_TOLD:] or 'it said nothing'}.")
        time.sleep(0.1)
    raise LabError(f"the server was not ready after {patience:g} s: {redact(log.read_text('utf-8', errors='replace').strip())[-_TOLD:]}.")


def smoke(url: str, address: str, version: str, question: str, patience: float = 60.0, extra: Mapping[str, Any] | None = None) -> str:
    """Ask a server one question in OpenAI's protocol and read its figures; returns the reply. Raises LabError where one is amiss."""
    body = {"model": address, "messages": [{"role": "user", "content": question}], "max_tokens": 32, "temperature": 0, **(extra or {})}
    with _key() as headers:
        content, told = _request(f"{url}/chat/completions", patience, headers, body)
    try:
        reply = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError) as error:
        raise LabError(f"its reply is no chat completion: {redact(content)[:_TOLD]!r}.") from error
    if not isinstance(reply, str) or not reply.strip():
        raise LabError("its reply is empty.")
    if told.get("x-llmops-lab-release", "").split()[-1:] != [version]:
        raise LabError(f"version {version} should answer, and {told.get('x-llmops-lab-release') or 'nobody knows which'} did.")
    figures, _ = _request(f"{url.rpartition('/v1')[0]}/metrics", patience, {})
    if not re.search(rf'^llmops_lab_requests_total{{[^}}]*release="{re.escape(address)}"[^}}]*}} [1-9]', figures, re.MULTILINE):
        raise LabError("its /metrics do not count the request that it answered.")
    return reply


@contextmanager
def _key() -> Iterator[dict[str, str]]:
    # Where there are keys the server asks for one: this lasts for one question.
    if not any(each.revoked is None for each in keys.listed()):
        yield {}
        return
    name = f"smoke-{uuid.uuid4().hex[:12]}"
    try:
        yield {"Authorization": f"Bearer {keys.create(name)}"}
    finally:
        with suppress(LabError):
            keys.revoke(name)


def _request(url: str, patience: float, headers: Mapping[str, str], body: Any = None) -> tuple[str, dict[str, str]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})  # noqa: S310 - the server's own URL
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine is not behind a proxy
    try:
        with opener.open(request, timeout=patience) as response:
            return response.read().decode("utf-8"), {name.lower(): value for name, value in response.headers.items()}
    except urllib.error.HTTPError as error:
        raise LabError(f"it answered {error.code}: {redact(error.read(_TOLD).decode('utf-8', 'replace'))}.") from error
