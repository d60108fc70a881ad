"""The main story: prompts x rows x models are planned, asked, recorded, scored."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput, ProviderFault
from llmops_lab.grids._scoring import Judge
from llmops_lab.grids.decide import StopRule, shuffled_rows
from llmops_lab.grids.loop import submit
from llmops_lab.grids.plan import Plan, Target, Variant
from llmops_lab.grids.rows import Rows
from llmops_lab.grids.run import GridRun, Progress
from llmops_lab.models._ask import Asker, Budget, Pool, open_model
from llmops_lab.models._provider import Provider
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import ModelSpec, Outcome, Request
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import CellRow, Ledger, open_ledger

ROW_ORDER_SEED = 0


@dataclass(frozen=True)
class GridAsk:
    """All that a grid was asked to do, checked."""

    prompts: Mapping[str, Prompt]
    rows: Rows
    models: Sequence[ModelSpec]
    judges: Sequence[Judge]
    expected: str | None
    params: Mapping[str, Any]
    repeats: int
    concurrency: int
    timeout: float
    retries: int
    budget: float | None
    stream: bool
    reuse: bool
    stop: str | None
    name: str


class LiveGrid:
    """A grid at work: its plan and record, and the pass that is running now."""

    def __init__(self, ask: GridAsk, settings: Settings) -> None:
        self.ask, self.settings, self.grid = ask, settings, uuid.uuid4().hex
        self.ledger: Ledger = open_ledger(settings)
        self.providers: list[Provider] = [open_model(spec.spec, settings) for spec in ask.models]
        if ask.budget is not None:
            _need_prices(ask.models, self.providers)
        targets = [Target(spec.name, each.identity, spec.params) for spec, each in zip(ask.models, self.providers, strict=True)]
        variants = [Variant(label, each.render, each.params, each.schema) for label, each in ask.prompts.items()]
        self.redact = Redactor()
        self.plan = Plan(variants, targets, ask.rows, repeats=ask.repeats, params=ask.params, redact=self.redact)
        self.plan.prepare()
        self._begun = False

    def start(self, sink: Callable[[Progress], None] | None = None) -> tuple[GridRun, Future[str]]:
        """Begin a pass over all cells that are still open."""
        reused = self._recorded()
        self.ledger.settle_doubts(self.grid, self.plan.keys())
        if not self._begun:
            self.ledger.begin(self.grid, self.ask.name, self._description(), self._cells(reused))
            self._begun = True
        order = shuffled_rows(len(self.ask.rows.items), ROW_ORDER_SEED) if self.ask.stop else None
        variants = len(self.ask.prompts) * len(self.ask.models)
        rule = StopRule(order, variants, self.ask.repeats, 0.05) if order is not None else None
        run = GridRun(
            self.plan, self._askers(), self.ask.judges, self.ledger, self.grid,
            expected=self.ask.expected, concurrency=self.ask.concurrency, order=order, rule=rule, redact=self.redact.tree, sink=sink,
        )  # fmt: skip
        return run, submit(self._pass(run, reused))

    async def _pass(self, run: GridRun, reused: Mapping[int, int]) -> str:
        try:
            return await run.go(reused)
        finally:
            for provider in self.providers:
                await provider.close()

    def _recorded(self) -> dict[int, int]:
        only = None if self.ask.reuse else self.grid
        found = self.ledger.answered(self.plan.keys(), grid=only)
        return {cell: found[key] for cell, key in enumerate(self.plan.keys()) if key in found}

    def _cells(self, reused: Mapping[int, int]) -> Sequence[CellRow] | Any:
        for cell in range(len(self.plan)):
            at, rows = self.plan.place(cell), self.ask.rows
            labels = self.plan.variants[at.prompt].label, self.plan.targets[at.model].label
            yield CellRow(cell, self.plan.key(cell), *labels, rows.ids[at.row], at.replicate, reused.get(cell))

    def _askers(self) -> list[_GroupAsk]:
        pools: dict[str, Pool] = {}
        budget = Budget(self.ask.budget) if self.ask.budget is not None else None
        for provider in self.providers:
            pools.setdefault(provider.pool, Pool(self.ask.concurrency, self.settings.limits.get(provider.pool)))
        options = {"timeout": self.ask.timeout, "retries": self.ask.retries, "budget": budget, "stream": self.ask.stream}
        return [_GroupAsk(Asker(each, pools[each.pool], **options)) for each in self.providers]  # type: ignore[arg-type]

    def _description(self) -> dict[str, Any]:
        ask = self.ask
        prompts = [{"label": k, "name": p.name, "version": p.version, "sha256": p.sha256} for k, p in ask.prompts.items()]
        models = [{"label": t.label, "identity": t.identity, "params": dict(t.params)} for t in self.plan.targets]
        dataset = {"source": ask.rows.source, "digest": ask.rows.digest, "rows": len(ask.rows.items)}
        scorers = [judge.name for judge in ask.judges]
        return {"prompts": prompts, "models": models, "dataset": dataset, "scorers": scorers, "params": dict(ask.params), "stop": ask.stop}


class _GroupAsk:
    """What the loop sees of an asker."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    @property
    def group(self) -> str:
        return self._asker.provider.pool

    @property
    def silent(self) -> bool:
        return self._asker.pool.silent

    async def ask(self, request: Request, *, on_retry: Callable[[ProviderFault], None] | None = None) -> Outcome:
        return await self._asker.ask(request, on_retry=on_retry)


def _need_prices(models: Sequence[ModelSpec], providers: Sequence[Provider]) -> None:
    for spec, provider in zip(models, providers, strict=True):
        if provider.price is None:
            raise BadInput(
                f"a budget needs a price, and {spec.spec} has none that is known. Set it: [tool.llmops_lab.prices.{spec.spec!r}] "
                "input = ..., output = ... (USD per million tokens), or leave the budget out."
            )
