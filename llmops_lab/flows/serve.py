"""Serve releases and models as an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.escapes import inert
from llmops_lab.flows.deliver import deliver
from llmops_lab.flows.resolve import address
from llmops_lab.flows.serve_follow import follow
from llmops_lab.flows.serve_release import is_model, load
from llmops_lab.grids.loop import quick_handover
from llmops_lab.plugins import names as plugin_names
from llmops_lab.redact import redact
from llmops_lab.serving.app import make_app
from llmops_lab.serving.cache import Cache
from llmops_lab.serving.desk import Desk
from llmops_lab.serving.journal import Journal
from llmops_lab.serving.keys import Books, Gate
from llmops_lab.serving.listen import HEAD_S, bound, is_loopback, run
from llmops_lab.serving.metrics import Metrics
from llmops_lab.serving.release import Release, Shelf
from llmops_lab.settings import Settings
from llmops_lab.settings import load as settings_now
from llmops_lab.store.keys import settle_dead
from llmops_lab.store.ledger import Ledger, open_ledger


def serve(names: Sequence[str], *, host: str, port: int, share: float | None, ready: Callable[[str, bool], None]) -> bool:
    """Serve until SIGINT or SIGTERM; False when requests were cut off at the end. ``share`` of the requests are traced in MLflow.

    ``ready`` gets the base URL and whether keys are asked for. Raises LabError before anything is loaded for a port that is taken,
    a name that does not exist, or an address that others can reach while there are no keys.
    """
    settings = settings_now()
    _check(names)
    at = bound(host, port)
    with at:
        ledger = open_ledger(settings)
        gate = Gate(ledger, say)
        _check_open(host, gate)
        lost = settle_dead(ledger)
        if lost:
            say(f"{lost:g} USD that a server that is gone had held count as spent")
        shelf = asyncio.run(_loaded(names, settings))
        books, metrics = Books(ledger, say), Metrics()
        journal = Journal(
            ledger,
            metrics,
            share=settings.trace_sample if share is None else share,
            trace=functools.partial(_trace, ledger, settings),
            say=say,
        )
        for release in shelf.current.values():
            metrics.serving(release.name, release.version, release.digest)
        desk = Desk(shelf, gate, books, Cache(ledger, say), metrics, journal, patience_s=settings.timeout)
        tasks = [functools.partial(follow, name, shelf, metrics, settings, say=say) for name in shelf.current]
        app = make_app(desk, ledger, books, tasks=tasks, say=say)
        url = f"http://{f'[{host}]' if ':' in host else host}:{at.getsockname()[1]}/v1"
        with quick_handover():  # the event loop does not wait long for the threads that write
            return run(app, at, head_s=min(HEAD_S, settings.timeout), ready=lambda: ready(url, gate.guarded))


def _check(names: Sequence[str]) -> None:
    for name in names:
        if is_model(name):
            continue
        if "@" not in name and "/" not in name:
            hint = "A registered name needs an alias: NAME@production."
            raise UnknownName("model or release", name, plugin_names("models"), hint)
        address(name)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BadInput(f"{', '.join(sorted(twice))} is named twice.")


def _check_open(host: str, gate: Gate) -> None:
    if not is_loopback(host) and not gate.guarded:
        raise BadInput(f"{host} can be reached from elsewhere, and there are no keys. First: llmops-lab keys create NAME")


async def _loaded(names: Sequence[str], settings: Settings) -> Shelf:
    found: dict[str, Release] = {}
    for name in names:
        found[name] = await load(name, settings, beside=found)
    return Shelf(list(found.values()), say)


def _trace(ledger: Ledger, settings: Settings, batch: list[dict[str, Any]]) -> None:
    for payload in batch:
        kind = payload.pop("kind")
        ledger.outbox_add(kind, {**payload, "experiment": settings.experiment})
    deliver(ledger, settings)


def say(text: str) -> None:
    """A line of the server's log, on stderr: no secrets, nothing that drives a terminal."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{stamp} {inert(redact(text.strip()))}", file=sys.stderr, flush=True)
