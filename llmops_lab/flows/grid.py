"""The main story: prompts x rows x models are planned, asked, recorded, scored, and told to MLflow."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput, ProviderFault
from llmops_lab.flows.embedder import embedder
from llmops_lab.flows.track import track_grid
from llmops_lab.grids.decide import StopRule, shuffled_rows
from llmops_lab.grids.loop import submit
from llmops_lab.grids.plan import Plan, Target, Variant
from llmops_lab.grids.rows import Rows
from llmops_lab.grids.run import GridRun
from llmops_lab.models._ask import Asker, Budget, Pool, open_model
from llmops_lab.models._provider import Provider, in_flight
from llmops_lab.models._warm import leave, warm
from llmops_lab.prompts.patterns import majority
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import Estimate, ModelSpec, Outcome, Request, Usage
from llmops_lab.redact import Redactor
from llmops_lab.scorers._run import Scorer
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import CellRow, Ledger, open_ledger

ROW_ORDER_SEED = 0
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class GridAsk:
    """All that a grid was asked to do, checked."""

    prompts: Mapping[str, Prompt]
    rows: Rows
    models: Sequence[ModelSpec]
    judges: Sequence[Scorer]
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
    track: bool


class LiveGrid:
    """A grid at work: its plan and record, and the pass that is running now."""

    def __init__(self, ask: GridAsk, settings: Settings) -> None:
        self.ask, self.settings, self.grid = ask, settings, uuid.uuid4().hex
        self.ledger: Ledger = open_ledger(settings)
        opened = {spec: warm(open_model(spec, settings)) for spec in dict.fromkeys(each.spec for each in ask.models)}
        self.providers: list[Provider] = [opened[each.spec] for each in ask.models]
        if ask.budget is not None:
            _need_prices(ask.models, self.providers)
        self.redact = redact = Redactor()
        named = zip(ask.models, self.providers, strict=True)
        targets = [Target(redact(spec.name), each.identity, spec.params) for spec, each in named]
        variants = [_variant(redact(label), each, ask.rows, settings) for label, each in ask.prompts.items()]
        rows = dataclasses.replace(ask.rows, ids=[redact(each) for each in ask.rows.ids])
        self.plan = Plan(variants, targets, rows, repeats=ask.repeats, params=ask.params, redact=redact)
        self.plan.prepare()
        self._first: Mapping[int, int] | None = None

    def estimate(self) -> Estimate:
        """What the first pass takes, as known before it. The time is a guess from recorded calls to models of the same name."""
        done, plan = self._recorded() if self._first is None else self._first, self.plan
        parts = [self._part(number, done) for number in range(len(plan.targets))]
        costs, times = [part.cost_usd for part in parts], [part.seconds for part in parts]
        return Estimate(
            len(plan),
            len(plan) - len(done),
            len(done),
            sum(part.input_tokens for part in parts),
            sum(part.output_tokens for part in parts),
            None if None in costs else sum(filter(None, costs)),
            None if None in times else max(filter(None, times), default=0.0),
        )

    def _part(self, model: int, done: Mapping[int, int]) -> Estimate:
        plan, price, targets = self.plan, self.providers[model].price, len(self.plan.targets)
        calls = sum(cell not in done for cell in range(model, len(plan), targets))
        sent = round(sum(plan.input_characters) * plan.repeats / _CHARACTERS_PER_TOKEN * calls * targets / len(plan))
        got = sum(plan.most_output(prompt, model) for prompt in range(len(plan.variants))) * calls // len(plan.variants)
        latency = self.ledger.usual_latency(plan.targets[model].label) if calls else 0.0
        busy = None if latency is None else latency * calls
        cost = price.cost(Usage(sent, got), busy) if price else None
        cost, wall = 0.0 if not calls else cost, None if busy is None else busy / self.ask.concurrency
        return Estimate(len(plan), calls, len(plan) // targets - calls, sent, got, cost, wall)

    def start(self) -> tuple[GridRun, Future[str | None]]:
        """Begin a pass over all cells that are still open. The future gives the MLflow run's id, or None where there is none."""
        reused = self._recorded()
        self.ledger.settle_doubts(self.grid, self.plan.keys())
        cells = self._cells(reused) if self._first is None else ()
        self.ledger.begin(self.grid, self.redact(self.ask.name), self.redact.tree(self._description()), cells)
        self._first = reused if self._first is None else self._first
        order = shuffled_rows(len(self.ask.rows.items), ROW_ORDER_SEED) if self.ask.stop else None
        run = GridRun(
            self.plan, self._askers(), self.ask.judges, self.ledger, self.grid,
            expected=self.ask.expected, concurrency=self.ask.concurrency, order=order, rule=self._rule(order),
            redact=self.redact.tree,
        )  # fmt: skip
        return run, submit(self._pass(run, reused))

    def _rule(self, order: Sequence[int] | None) -> StopRule | None:
        if order is None:
            return None
        bounds = self.ask.judges[0].bounds or (0.0, 1.0)
        return StopRule(order, len(self.ask.prompts) * len(self.ask.models), self.ask.repeats, 0.05, bounds)

    async def _pass(self, run: GridRun, reused: Mapping[int, int]) -> str | None:
        try:
            await run.go(reused)
        finally:
            await leave(*dict.fromkeys(self.providers))
        if run.problem is not None:
            return None
        return await asyncio.get_running_loop().run_in_executor(None, self._end, run.state)

    def _end(self, state: str) -> str | None:
        self.ledger.end(self.grid, state)
        return track_grid(self.ledger, self.settings, self.grid, self.plan.request) if self.ask.track else None

    def _recorded(self) -> dict[int, int]:
        only = None if self.ask.reuse else self.grid
        found = self.ledger.answered(self.plan.keys(), grid=only)
        return {cell: found[key] for cell, key in enumerate(self.plan.keys()) if key in found}

    def _cells(self, reused: Mapping[int, int]) -> Sequence[CellRow] | Any:
        for cell in range(len(self.plan)):
            at, rows = self.plan.place(cell), self.plan.rows
            labels = self.plan.variants[at.prompt].label, self.plan.targets[at.model].label
            yield CellRow(cell, self.plan.key(cell), *labels, rows.ids[at.row], at.replicate, reused.get(cell))

    def _askers(self) -> list[_GroupAsk]:
        pools: dict[str, Pool] = {}
        budget = Budget(self.ask.budget) if self.ask.budget is not None else None
        for provider in self.providers:
            places = max(self.ask.concurrency, in_flight(provider))
            pools.setdefault(provider.pool, Pool(places, self.settings.limits.get(provider.pool)))
        options = {"timeout": self.ask.timeout, "retries": self.ask.retries, "budget": budget, "stream": self.ask.stream}
        return [_GroupAsk(Asker(each, pools[each.pool], **options)) for each in self.providers]  # type: ignore[arg-type]

    def _description(self) -> dict[str, Any]:
        ask = self.ask
        prompts = [
            {"label": k, "name": p.name, "version": p.version, "sha256": p.sha256, "template": p.content["template"]}
            for k, p in ask.prompts.items()
        ]
        models = [{"label": t.label, "identity": t.identity, "params": dict(t.params)} for t in self.plan.targets]
        dataset = {"source": ask.rows.source, "digest": ask.rows.digest, "rows": len(ask.rows.items), "columns": ask.rows.columns}
        judges = [
            {"name": each.name, "plugin": each.plugin, "higher_is_better": each.higher_is_better, "bounds": each.bounds}
            for each in ask.judges
        ]
        how = {name: getattr(ask, name) for name in ("repeats", "stop", "expected", "budget", "stream", "reuse")}
        plan = {"prompts": prompts, "models": models, "dataset": dataset, "params": dict(ask.params), "how": how}
        return {**plan, "scorers": [each.name for each in ask.judges], "judges": judges, "stop": ask.stop}


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

    @property
    def in_flight(self) -> int:
        return in_flight(self._asker.provider)

    async def ask(self, request: Request, *, on_retry: Callable[[ProviderFault], None] | None = None) -> Outcome:
        return await self._asker.ask(request, on_retry=on_retry)


def _variant(label: str, prompt: Prompt, rows: Rows, settings: Settings) -> Variant:
    if prompt.examples is not None and prompt.needs_embedder:
        prompt = prompt.with_embed(embedder(settings, prompt.examples.embedder))
    prompt.prepare(rows.items)
    extract = prompt.extract if prompt.pattern else None
    vote = majority if prompt.pattern == "self_consistency" else None
    return Variant(label, prompt.render, prompt.params, prompt.schema, extract, vote)


def _need_prices(models: Sequence[ModelSpec], providers: Sequence[Provider]) -> None:
    for spec, provider in zip(models, providers, strict=True):
        if provider.price is None:
            raise BadInput(
                f"a budget needs a price, and {spec.spec} has none that is known. Set it: [tool.llmops_lab.prices.{spec.spec!r}] "
                "input = ..., output = ... (USD per million tokens), or leave the budget out."
            )
