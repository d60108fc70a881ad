"""A job's card: state, cell, progress, log tail, a button that cancels it; at the end how it ended, and where everything lies."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api.display import MUTED, WARNING, duration, literal, pre
from llmops_lab.api.views._view import Answer
from llmops_lab.errors import LabError, UnknownName
from llmops_lab.escapes import inert
from llmops_lab.flows.look_at_job import Seen, logs, why_waiting
from llmops_lab.jobs.outcome import told
from llmops_lab.redact import redact

_SECONDS_BETWEEN = 0.5
_SECONDS_FOR_MLFLOW = 10.0  # what the card waits after the end for the id of the run
_LINES = 40
_STATIC_LINES = 12
_LONGEST_LINE = 2000
_SILENT = 60.0  # seconds without a heartbeat after which the card says so; whether a process elsewhere lives cannot be known


class Card:
    """The card of one job, an ``api.job.Job``."""

    name = "job"

    def __init__(self, job: Any) -> None:
        self._job = job

    def call(self, method: str, params: Mapping[str, Any], *, user: str) -> Answer:
        """Answer ``state``, or ``cancel`` the job. Raises UnknownName or StoreError."""
        if method not in ("state", "cancel"):
            raise UnknownName("method of the job's card", method, ("state", "cancel"))
        if method == "cancel":
            self._job.cancel()
        return Answer(self.state())

    def listen(self, push: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Push the state whenever it has changed, until the job has ended."""
        stopped = threading.Event()
        threading.Thread(target=self._watch, args=(push, stopped), name="llmops_lab job card", daemon=True).start()
        return stopped.set

    def _watch(self, push: Callable[[dict[str, Any]], None], stopped: threading.Event) -> None:
        last: dict[str, Any] = {}
        over = 0.0
        while not stopped.is_set():
            try:
                state = self.state()
            except LabError as error:  # a ledger that is away for a moment
                state = {**last, "trouble": str(error)}
            if _without_clock(state) != _without_clock(last):
                push(state)
                last = state
            over = over or (time.monotonic() if state.get("over") else 0.0)
            if over and (state.get("run_id") or time.monotonic() - over > _SECONDS_FOR_MLFLOW):
                return
            stopped.wait(_SECONDS_BETWEEN)

    def state(self) -> dict[str, Any]:
        """All that the card shows, as JSON."""
        seen: Seen = self._job.seen
        record = seen.record
        return {
            "id": self._job.id,
            "template": Path(seen.row.template).stem,
            "state": seen.state,
            "over": seen.has_ended,
            "waits": why_waiting(seen, _settings.load()),
            "done": record.cells_done,
            "total": record.cells_total,
            "cell": record.cell,
            "attempt": record.attempt,
            "attempts": record.retries + 1,
            "elapsed": _elapsed(seen),
            "silent": _silent(seen),
            "cancelling": seen.row.cancel_requested is not None and not seen.has_ended,
            "error": _error(seen),
            "exit_code": record.exit_code,
            "told": [[name, redact(line)] for name, line in told(record.result)],
            "log": [line[:_LONGEST_LINE] for line in redact(logs(seen, _LINES)).splitlines()],
            "folder": str(seen.folder),
            "notebook": str(self._job.notebook),
            "run_id": record.mlflow_run_id,
            "trouble": "",
        }

    def page(self) -> tuple[str, str]:
        """The same as text and as HTML, as it stands now."""
        state = self.state()
        lines = [head(state), *_details(state)]
        log = "\n".join(state["log"][-_STATIC_LINES:])
        plain = "\n".join(inert(line) for line in [*lines, *(f"  | {line}" for line in log.splitlines())])
        colour = WARNING if state["over"] and state["state"] != "succeeded" else "font-weight:600"
        first, *rest = (html.escape(inert(line)) for line in lines)
        below = "".join(f'<div style="{MUTED}">{line}</div>' for line in rest)
        return plain, literal(f'<div style="{colour}">{first}</div>{below}{pre(inert(log)) if log else ""}')


def head(state: Mapping[str, Any]) -> str:
    """One line: which job, its state, how far, how long."""
    parts = [f"{state['template']} {state['id']}: {state['state'].replace('_', ' ')}"]
    if state["waits"]:
        parts.append(state["waits"])
    if state["total"]:
        parts.append(f"{state['done']} of {state['total']} cells")
    if state["attempt"] > 1:
        parts.append(f"attempt {state['attempt']} of {state['attempts']}")
    if state["elapsed"] is not None:
        parts.append(duration(state["elapsed"]))
    if not state["over"]:  # this text stays where it was written, and the job goes on
        parts.append(f"as of {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    return " · ".join(parts)


def _details(state: Mapping[str, Any]) -> list[str]:
    found = [f"{name}: {line}" for name, line in state["told"]]
    if state["error"]:
        found.append(state["error"])
    if state["silent"]:
        found.append(state["silent"])
    if state["cancelling"]:
        found.append("cancel requested")
    if state["over"]:
        found.append(
            f"exit code {state['exit_code']} · {state['notebook']}" + (f" · MLflow run {state['run_id']}" if state["run_id"] else "")
        )
    else:
        found.append(f"to look again: lab.job({state['id']!r}); to end it: .cancel()")
    return found


def _error(seen: Seen) -> str:
    error = seen.record.error
    if not error:
        return ""
    cell = f" (cell {seen.record.cells_done + 1})" if error.get("cell") is not None else ""
    return redact(f"{error.get('type', 'error')}: {error.get('message', '')}".strip())[:4000] + cell


def _elapsed(seen: Seen) -> float | None:
    if not seen.record.started:
        return None
    try:
        began = datetime.fromisoformat(seen.record.started)
        ended = datetime.fromisoformat(seen.record.ended) if seen.record.ended else datetime.now(UTC)
    except ValueError:
        return None
    return max(0.0, (ended - began).total_seconds())


def _silent(seen: Seen) -> str:
    beat = seen.row.heartbeat
    if seen.state != "running" or beat is None or time.time() - beat < _SILENT:
        return ""
    return f"no sign of life for {duration(time.time() - beat)}: its process is on another machine, or cannot reach the ledger"


def _without_clock(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name not in ("elapsed", "silent")}
