"""One cell of a grid as it opens: what was asked, what came back, what scorers said, and where all of it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmops_lab.api.display import shortened
from llmops_lab.errors import UnknownName
from llmops_lab.escapes import inert
from llmops_lab.grids.frame import cell_record
from llmops_lab.records import Message, Score, content_text
from llmops_lab.store import pages
from llmops_lab.store.ledger import Ledger

DOCUMENTS = ("documents", "contexts", "context", "retrieved_contexts", "retrieved_documents", "passages", "sources")
"""Columns of a row that hold what was retrieved for it."""


@dataclass(frozen=True)
class Opened:
    """One cell: its ``line`` as ``records()`` has it, its scores, and what only the ledger knows. ``earlier``: other outcomes."""

    number: int
    line: Mapping[str, Any]
    scores: Mapping[str, Score]
    message: str = ""
    tries: int | None = None
    at: float | None = None
    tool_calls: Sequence[Any] = ()
    earlier: Sequence[pages.Event] = field(default_factory=tuple)
    note: str = ""


def opened(ledger: Ledger, grid: str, number: int, state: str, scorers: Sequence[str]) -> Opened:
    """One cell of a grid in the ledger. Raises UnknownName."""
    found = pages.cell(ledger, grid, number)
    if found is None:
        raise UnknownName("cell", str(number), (), "It was never there, or its row was forgotten.")
    scores = {name: score for (_, name), score in pages.scores_of(ledger, grid, number, number).items()}
    outcome = found.outcome
    reply = outcome.reply if outcome else None
    earlier = [each for each in pages.history(ledger, found.row.key) if each.at != found.at]
    older = reply is not None and not any(each.at == found.at and each.grid == grid for each in pages.history(ledger, found.row.key))
    note = "answered by a call that was on record: nothing was sent for this cell" if older else ""
    return Opened(
        number, cell_record(found, scores, state, scorers), scores if reply else {}, outcome.message if outcome else "",
        outcome.tries if outcome else None, found.at, reply.tool_calls if reply else (), earlier, note,
    )  # fmt: skip


def of_cell(opened: Opened, sent: tuple[Sequence[Message] | None, str], row: Mapping[str, Any] | None) -> dict[str, Any]:
    """All of a cell as plain data, every text inert."""
    line = opened.line
    scores = [
        {
            "name": inert(name),
            "value": None if score.value is None else float(score.value),
            "flag": isinstance(score.value, bool),
            "reason": shown(score.reason),
            "error": shown(score.error),
            "detail": [[inert(str(key)), shown(value)] for key, value in score.detail.items()],
        }
        for name, score in opened.scores.items()
    ]
    numbers = {name: line[name] for name in ("input_tokens", "output_tokens", "cost_usd", "latency_s", "ttft_s")}
    return {
        "cell": opened.number,
        "row_id": inert(line["row_id"]),
        "replicate": line["replicate"],
        "prompt": inert(line["prompt"]),
        "model": inert(line["model"]),
        "status": line["status"],
        "text": None if line["text"] is None else shortened(line["text"]),
        "error": inert(line["error"] or ""),
        "message": shown(opened.message),
        "finish_reason": inert(line["finish_reason"] or ""),
        "tool_calls": shown(list(opened.tool_calls)) if opened.tool_calls else "",
        "scores": scores,
        "numbers": {**numbers, "tries": opened.tries, "at": opened.at},
        "note": opened.note,
        "earlier": [{"at": each.at, "status": each.outcome.status, "text": shown(_came(each))} for each in opened.earlier],
        **told(*sent),
        **row_of(row),
    }


def _came(event: pages.Event) -> str:
    outcome = event.outcome
    return outcome.reply.text if outcome.reply else f"{outcome.error}: {outcome.message}"


def told(messages: Sequence[Message] | None, why: str) -> dict[str, Any]:
    """The prompt as it was rendered, as far as a page shows it; ``why`` there is none."""
    if messages is None:
        return {"messages": None, "why": inert(why)}
    return {"messages": [{"role": inert(each.role), "text": _content(each)} for each in messages], "why": ""}


def _content(message: Message) -> str:
    text = shortened(content_text(message.content))
    if isinstance(message.content, str):
        return text
    others = [str(part.get("type")) for part in message.content if part.get("type") != "text"]
    return "\n".join([text, *(f"[{inert(kind)}]" for kind in others)]) if others else text


def row_of(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values of a row, and apart from them the documents that were retrieved for it."""
    if row is None:
        return {"row": None, "documents": []}
    documents = [(name, value) for name, value in row.items() if name.lower() in DOCUMENTS and value]
    taken = {name for name, _ in documents}
    return {
        "row": [[inert(name), shown(value)] for name, value in row.items() if name not in taken],
        "documents": [{"name": inert(name), "texts": [shown(each) for each in _listed(value)]} for name, value in documents],
    }


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def shown(value: Any) -> str:
    """Any value as inert text; None as nothing."""
    if value is None:
        return ""
    return shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str))


def provenance(plan: Mapping[str, Any], prompt: str, model: str, ids: Mapping[str, Any]) -> list[list[str]]:
    """Names and values that say where a cell comes from: prompt version, model, dataset, run, key."""
    kept: Mapping[str, Any] = next((each for each in plan.get("prompts", ()) if each["label"] == prompt), {})
    target: Mapping[str, Any] = next((each for each in plan.get("models", ()) if each["label"] == model), {})
    dataset = plan.get("dataset", {})
    version = f", version {kept['version']}" if kept.get("version") else ", no version (not saved in the library)"
    lines = [
        ["prompt", f"{kept.get('name') or prompt}{version}" if kept else prompt],
        ["prompt sha256", str(kept.get("sha256") or "")],
        ["model", model],
        ["model identity", str(target.get("identity") or "")],
        ["parameters", json.dumps(target["params"]) if target.get("params") else ""],
        ["dataset", f"{dataset.get('source', '')}, {dataset.get('rows', 0):,} rows" if dataset else ""],
        ["dataset digest", str(dataset.get("digest") or "")],
        *([name, str(value or "")] for name, value in ids.items()),
    ]
    return [[name, inert(value)] for name, value in lines if value]


def run_link(uri: str, run_id: str | None) -> str:
    """The page of an MLflow run, where a server shows one; "" for a store in a file."""
    return f"{uri.rstrip('/')}/#/runs/{run_id}" if run_id and uri.startswith(("http://", "https://")) and "@" not in uri else ""
