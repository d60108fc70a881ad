"""The main story: the open cells of a planned grid are asked, recorded and scored, and the grid is told to MLflow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from llmops_lab.errors import StoreError
from llmops_lab.flows.plan_grid import PlannedGrid
from llmops_lab.flows.track import track_grid
from llmops_lab.grids.decide import StopRule, shuffled_rows
from llmops_lab.grids.loop import submit
from llmops_lab.grids.run import GridRun
from llmops_lab.models._ask import Asker, Pool, limits_of
from llmops_lab.models._provider import in_flight
from llmops_lab.models._warm import leave
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import digest
from llmops_lab.store.ledger import CellRow
from llmops_lab.store.rows import keep_rows

_ALPHA = 0.05


def run_grid(planned: PlannedGrid) -> tuple[GridRun, Future[str | None]]:
    """Begin a pass over all cells that have no good reply. The future gives the MLflow run's id, or None where there is none."""
    ask, ledger, reused = planned.ask, planned.ledger, planned.recorded()
    ledger.settle_doubts(planned.grid, planned.plan.keys())
    cells = _cells(planned, reused) if planned.begun is None else ()
    ledger.begin(planned.grid, planned.redact(ask.name), planned.redact.tree(_description(planned)), cells)
    keep_rows(ledger, ask.rows.digest, _rows(planned), len(ask.rows.ids))
    planned.begun = reused if planned.begun is None else planned.begun
    order = shuffled_rows(len(ask.rows.items)) if ask.stop else None
    rule = None
    if order is not None:
        rule = StopRule(order, len(ask.prompts) * len(ask.models), ask.repeats, _ALPHA, ask.judges[0].bounds or (0.0, 1.0))
    run = GridRun(
        planned.plan, askers(planned), ask.judges, ledger, planned.grid,
        expected=ask.expected, concurrency=ask.concurrency, order=order, rule=rule, redact=planned.redact.tree,
    )  # fmt: skip
    return run, submit(_pass(planned, run, reused))


async def _pass(planned: PlannedGrid, run: GridRun, reused: Mapping[int, int]) -> str | None:
    try:
        await run.go(reused)
    finally:
        await leave(*dict.fromkeys(planned.providers))
    if run.problem is not None:
        with suppress(StoreError):  # a ledger that cannot be written to may not take this either
            await asyncio.get_running_loop().run_in_executor(None, planned.ledger.end, planned.grid, run.state)
        return None
    return await asyncio.get_running_loop().run_in_executor(None, ended, planned, run.state)


def ended(planned: PlannedGrid, state: str) -> str | None:
    """Record how a grid ended and tell MLflow; returns its run, or None."""
    planned.ledger.end(planned.grid, state)
    return track_grid(planned.ledger, planned.settings, planned.grid, planned.plan.request) if planned.ask.track else None


def _cells(planned: PlannedGrid, reused: Mapping[int, int]) -> Iterator[CellRow]:
    plan = planned.plan
    for cell in range(len(plan)):
        at = plan.place(cell)
        labels = plan.variants[at.prompt].label, plan.targets[at.model].label
        yield CellRow(cell, plan.key(cell), *labels, plan.rows.ids[at.row], at.replicate, reused.get(cell))


def _rows(planned: PlannedGrid) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = planned.plan.rows
    return ((row_id, planned.redact.tree(dict(row))) for row_id, row in zip(rows.ids, rows.items, strict=True))


def askers(planned: PlannedGrid) -> list[Asker]:
    """What asks each model of the grid; its budget counts on from what is spent."""
    ask, pools = planned.ask, dict[str, Pool]()
    if planned.budget is not None:
        planned.budget.reopen()
    for spec, provider in zip(ask.models, planned.providers, strict=True):
        places = max(ask.concurrency, in_flight(provider))
        pools.setdefault(provider.pool, Pool(places, limits_of(spec.spec, provider.pool, planned.settings)))
    options: dict[str, Any] = {"timeout": ask.timeout, "retries": ask.retries, "budget": planned.budget, "stream": ask.stream}
    return [Asker(each, pools[each.pool], **options) for each in planned.providers]


def _description(planned: PlannedGrid) -> dict[str, Any]:
    """What the ledger and MLflow keep of how the grid was asked."""
    ask, rows = planned.ask, planned.ask.rows
    prompts = [_prompt(label, each) for label, each in ask.prompts.items()]
    models = [{"label": each.label, "identity": each.identity, "params": dict(each.params)} for each in planned.plan.targets]
    dataset: dict[str, Any] = {"source": rows.source, "digest": rows.digest, "rows": len(rows.items), "columns": rows.columns}
    if ask.expected is not None:  # which answer each row was compared with: two grids that differ in it do not pair
        dataset |= {"expected": ask.expected, "ids": digest(sorted(rows.ids))}
        dataset["answers"] = digest(dict(zip(rows.ids, (row.get(ask.expected) for row in rows.items), strict=True)))
    judges = [{name: getattr(each, name) for name in ("name", "plugin", "higher_is_better", "bounds")} for each in ask.judges]
    how = {name: getattr(ask, name) for name in ("repeats", "stop", "expected", "budget", "stream", "reuse")}
    plan = {"prompts": prompts, "models": models, "dataset": dataset, "params": dict(ask.params), "how": how}
    return {**plan, "scorers": [each.name for each in ask.judges], "judges": judges}


def _prompt(label: str, prompt: Prompt) -> dict[str, Any]:
    kept = {"label": label, "name": prompt.name, "version": prompt.version, "sha256": prompt.sha256}
    kept |= {name: prompt.content[name] for name in ("template", "system", "pattern", "params", "schema")}
    return kept | {"examples": prompt.examples.choose if prompt.examples else None}
