"""A question that was answered is told to MLflow: a trace for each call, and which version of the library it was."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import LabError
from llmops_lab.flows.deliver import deliver
from llmops_lab.flows.plan_ask import NAME, PlannedAsk, session_of
from llmops_lab.flows.prompts import library
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import Outcome
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import Ledger
from llmops_lab.track import traces


@dataclass(frozen=True)
class Told:
    """``traces``: for each call the trace's id, and the id of its MLflow run, None while MLflow has not got it.

    ``prompt`` has its version where the library knows this text; ``latest`` is the library's latest version under its name where not.
    """

    traces: tuple[tuple[str, str | None], ...]
    prompt: Prompt
    latest: Prompt | None


def queue_traces(planned: PlannedAsk, ledger: Ledger, outcomes: Sequence[Outcome], started: float) -> list[int]:
    """Queue a trace for each call; returns the numbers of the entries. An interrupt meanwhile loses none of them."""

    def queue() -> list[int]:
        return [ledger.outbox_add("ask", _entry(planned, ledger, place, each, started)) for place, each in enumerate(outcomes)]

    try:
        return queue()
    except KeyboardInterrupt:
        queue()  # an entry that is there already is the same trace, and written twice it is still one
        raise


def tell_traces(planned: PlannedAsk, ledger: Ledger, numbers: Sequence[int]) -> Told:
    """Try once to deliver what waits, these entries among it; look up which version of the library was asked."""
    sent = deliver(ledger, planned.settings)
    runs = [sent.get(number) for number in numbers]
    prompt = planned.question.prompt
    # Asked only after MLflow has just taken a trace, so that a server that is away is not waited for twice.
    prompt, latest = _in_library(prompt, planned.settings) if any(runs) else (prompt, None)
    return Told(tuple((traces.trace_id(_trace(planned, place)), run) for place, run in enumerate(runs)), prompt, latest)


def track_stopped(planned: PlannedAsk, ledger: Ledger, texts: Sequence[str]) -> None:
    """Queue the traces of a question that was interrupted, each with the text that had come; they go out with the next delivery."""
    cancelled = Outcome("cancelled", None, "cancelled", "stopped while in flight; it may have been paid for")
    for place, text in enumerate(texts):
        ledger.outbox_add("ask", {**_entry(planned, ledger, place, cancelled, time.time()), "output": text or None})


def _in_library(prompt: Prompt, settings: Settings) -> tuple[Prompt, Prompt | None]:
    if not prompt.name or prompt.version is not None:
        return prompt, None
    shelf = library(settings)
    try:
        same = [info.version for info in shelf.versions(prompt.name) if info.sha256 == prompt.sha256]
        return (dataclasses.replace(prompt, version=min(same)), None) if same else (prompt, shelf.get(prompt.name))
    except LabError:  # not in the library, not a name that it could hold, tampered with: then this text is no version of it
        return prompt, None


def _trace(planned: PlannedAsk, place: int) -> str:
    return f"{planned.number}-{place}"


def _entry(planned: PlannedAsk, ledger: Ledger, place: int, outcome: Outcome, started: float) -> dict[str, Any]:
    question, request, reply = planned.question, planned.plan.request(place), outcome.reply
    entry = {
        "id": _trace(planned, place),
        "trace_id": traces.trace_id(_trace(planned, place)),
        "row_id": planned.plan.rows.ids[0],
        "asks": session_of(ledger, planned.settings).grid,
        "run_name": NAME,
        "name": question.prompt.name or "prompt",
        "started": started,
        "ended": time.time() if reply is None else started + reply.latency_s,
        "inputs": [{"role": message.role, "content": message.content} for message in request.messages],
        "params": dict(request.params),
        "output": reply.text if reply else None,
        "finish_reason": reply.finish_reason if reply else None,
        "model": question.model.spec,
        "usage": dataclasses.asdict(reply.usage if reply else outcome.usage),
        "cost_usd": outcome.total_usd,
        "ttft_s": reply.ttft_s if reply else None,
        "status": "ok" if reply else "failed",
        "error": outcome.error,
        "message": outcome.message,
        "prompt": {"name": question.prompt.name, "version": question.prompt.version, "sha256": question.prompt.sha256},
        "session": question.thread,
        "experiment": planned.settings.experiment,
    }
    redacted: dict[str, Any] = planned.redact.tree(entry)
    return redacted
