"""What a grid was asked to do becomes a plan: prompts ready to render, models opened, every call's key known. Nothing is sent."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.flows.embedder import ready_to_pick
from llmops_lab.grids.plan import Plan, Target, Variant
from llmops_lab.grids.rows import Rows
from llmops_lab.models._ask import Budget, open_model
from llmops_lab.models._provider import Provider
from llmops_lab.models._warm import warm
from llmops_lab.prompts.patterns import majority
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import ModelSpec
from llmops_lab.redact import Redactor
from llmops_lab.scorers._run import Scorer
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import Ledger, open_ledger


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


@dataclass
class PlannedGrid:
    """A grid that can be estimated and run. ``begun``: what the ledger had when its first pass began, cell -> number of the reply."""

    ask: GridAsk
    settings: Settings
    grid: str
    ledger: Ledger
    providers: Sequence[Provider]
    plan: Plan
    redact: Redactor
    budget: Budget | None
    begun: Mapping[int, int] | None = None

    def recorded(self) -> dict[int, int]:
        """Cell -> number of the reply that the ledger has for it now."""
        only = None if self.ask.reuse else self.grid
        found = self.ledger.answered(self.plan.keys(), grid=only)
        return {cell: found[key] for cell, key in enumerate(self.plan.keys()) if key in found}


def plan_grid(ask: GridAsk, settings: Settings) -> PlannedGrid:
    """Render every prompt for every row, open the models and the ledger. Raises BadInput, UnknownName, MissingExtra or StoreError."""
    redact = Redactor()
    opened = {spec: warm(open_model(spec, settings)) for spec in dict.fromkeys(each.spec for each in ask.models)}
    providers = [opened[each.spec] for each in ask.models]
    if ask.budget is not None:
        _need_prices(ask.models, providers)
    targets = [Target(redact(spec.name), each.identity, spec.params) for spec, each in zip(ask.models, providers, strict=True)]
    variants = [_variant(redact(label), each, ask.rows, settings) for label, each in ask.prompts.items()]
    rows = dataclasses.replace(ask.rows, ids=[redact(each) for each in ask.rows.ids])
    plan = Plan(variants, targets, rows, repeats=ask.repeats, params=ask.params, redact=redact)
    plan.prepare()
    if ask.budget is not None:
        _need_token_limits(plan, providers)
    budget = None if ask.budget is None else Budget(ask.budget)
    return PlannedGrid(ask, settings, uuid.uuid4().hex, open_ledger(settings), providers, plan, redact, budget)


def _variant(label: str, prompt: Prompt, rows: Rows, settings: Settings) -> Variant:
    prompt = ready_to_pick(prompt, settings)
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


def _need_token_limits(plan: Plan, providers: Sequence[Provider]) -> None:
    for prompt, variant in enumerate(plan.variants):
        for model, provider in enumerate(providers):
            if provider.price is not None and provider.price.output and not plan.most_output(prompt, model):
                raise BadInput(
                    f"a budget needs a limit on the tokens of a reply, and {variant.label} with {plan.targets[model].label} has none: "
                    "any call could pass it. Set params={'max_tokens': N}, or leave the budget out."
                )
