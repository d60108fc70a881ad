"""A grid read back from the ledger as tables: one line a cell, and one line a (prompt, model)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.records import Score
from llmops_lab.store.ledger import CellState, Ledger

_UNSENT = {"cancelled": "cancelled", "interrupted": "cancelled", "running": "pending"}
_REASON = {"budget": "budget", "unreachable": "connection", "done": "connection"}
CELL_COLUMNS = (
    *("prompt", "model", "row_id", "replicate", "status", "text"),
    *("input_tokens", "output_tokens", "cost_usd", "latency_s", "ttft_s", "finish_reason", "error", "key"),
)


_SUMMARY_COLUMNS = (
    *("prompt", "model", "n", "n_ok", "n_failed", "n_cancelled", "n_skipped", "n_truncated"),
    *("cost_usd", "latency_p50", "latency_p95"),
)


def check_names(scorers: Sequence[str]) -> None:
    """Raise BadInput for a scorer whose column would take the place of another one."""
    made = [f"{name}{end}" for name in scorers for end in ("_error", "_low", "_high", "_n")]
    taken = {*CELL_COLUMNS, *_SUMMARY_COLUMNS, *made}
    for name in scorers:
        if name in taken or not taken.isdisjoint({f"{name}_low", f"{name}_n"} & {*CELL_COLUMNS, *_SUMMARY_COLUMNS}):
            raise BadInput(
                f"no score can be called {name!r}: the tables have a column of that name. Give it a label: lab.scorer(..., label=...)."
            )


def columns(scorers: Sequence[str]) -> list[str]:
    """The columns of a table of cells, in order."""
    return [*CELL_COLUMNS[:6], *(name for scorer in scorers for name in (scorer, f"{scorer}_error")), *CELL_COLUMNS[6:]]


def cell_records(ledger: Ledger, grid: str, state: str, scorers: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One dict a cell, in plan order; a scorer's column holds None where the cell is unscored."""
    scores: dict[int, dict[str, Score]] = {}
    for cell, scorer, score in ledger.grid_scores(grid):
        scores.setdefault(cell, {})[scorer] = score
    for found in ledger.cells(grid):
        yield cell_record(found, scores.get(found.row.cell, {}), state, scorers)


def cell_record(found: CellState, scores: Mapping[str, Score], state: str, scorers: Sequence[str]) -> dict[str, Any]:
    """One cell as a dict; ``state`` is its grid's."""
    row, outcome = found.row, found.outcome
    reply = outcome.reply if outcome else None
    record: dict[str, Any] = {"prompt": row.prompt, "model": row.model, "row_id": row.row_id, "replicate": row.replicate}
    record["status"] = outcome.status if outcome else _UNSENT.get(state, "skipped")
    record["text"] = reply.text if reply else None
    for name in scorers:
        score = scores.get(name) if reply else None
        record[name] = score.value if score else None
        record[f"{name}_error"] = (score.error or (score.reason if score.value is None else "")) if score else ""
    usage = reply.usage if reply else outcome.usage if outcome else None
    record["input_tokens"] = usage.input_tokens if usage else None
    record["output_tokens"] = usage.output_tokens if usage else None
    record["cost_usd"] = outcome.total_usd if outcome else None
    for name in ("latency_s", "ttft_s", "finish_reason"):
        record[name] = getattr(reply, name) if reply else None
    record["error"] = outcome.error if outcome else _REASON.get(state, "") if record["status"] == "skipped" else ""
    record["key"] = row.key
    return record


def summarise(records: Sequence[Mapping[str, Any]], scorers: Sequence[str], alpha: float = 0.05) -> list[dict[str, Any]]:
    """One dict a (prompt, model): counts, mean of each scorer with its interval (rows are the clusters), cost and latency."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["prompt"], record["model"]), []).append(record)
    return [_line(prompt, model, cells, scorers, alpha) for (prompt, model), cells in groups.items()]


def _line(prompt: str, model: str, cells: Sequence[Mapping[str, Any]], scorers: Sequence[str], alpha: float) -> dict[str, Any]:
    from llmops_lab.stats.intervals import mean_interval  # brings numpy, which asking a grid does not need

    line: dict[str, Any] = {"prompt": prompt, "model": model, "n": len(cells)}
    for status in ("ok", "failed", "cancelled", "skipped"):
        line[f"n_{status}"] = sum(cell["status"] == status for cell in cells)
    line["n_truncated"] = sum(cell["finish_reason"] == "length" for cell in cells)
    repeated = any(cell["replicate"] for cell in cells)
    for name in scorers:
        scored = [cell for cell in cells if cell[name] is not None]
        line[f"{name}_n"] = len(scored)
        line[name] = line[f"{name}_low"] = line[f"{name}_high"] = None
        if scored:
            clusters = [cell["row_id"] for cell in scored] if repeated else None
            interval = mean_interval([float(cell[name]) for cell in scored], clusters=clusters, alpha=alpha)
            line[name], line[f"{name}_low"], line[f"{name}_high"] = interval.value, interval.low, interval.high
    costs = [cell["cost_usd"] for cell in cells if cell["status"] == "ok" or cell["cost_usd"] is not None]
    line["cost_usd"] = sum(costs) if costs and None not in costs else None
    times = sorted(cell["latency_s"] for cell in cells if cell["latency_s"] is not None)
    line["latency_p50"], line["latency_p95"] = _rank(times, 0.5), _rank(times, 0.95)
    return line


def _rank(values: Sequence[float], share: float) -> float | None:
    return values[min(len(values) - 1, int(share * len(values)))] if values else None
