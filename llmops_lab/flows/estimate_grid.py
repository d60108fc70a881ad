"""What a grid will take, before anything is sent: calls, tokens, cost and time."""

from __future__ import annotations

from collections.abc import Mapping

from llmops_lab.flows.plan_grid import PlannedGrid
from llmops_lab.grids.plan import CHARACTERS_PER_TOKEN
from llmops_lab.records import Estimate, Usage


def estimate_grid(planned: PlannedGrid) -> Estimate:
    """What the first pass takes, as known before it. The time is a guess from recorded calls to models of the same name."""
    done, plan = planned.recorded() if planned.begun is None else planned.begun, planned.plan
    parts = [_of_one_model(planned, model, done) for model in range(len(plan.targets))]
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


def _of_one_model(planned: PlannedGrid, model: int, done: Mapping[int, int]) -> Estimate:
    plan, price, models = planned.plan, planned.providers[model].price, len(planned.plan.targets)
    calls = sum(cell not in done for cell in range(model, len(plan), models))
    sent = round(sum(plan.input_characters) * plan.repeats / CHARACTERS_PER_TOKEN * calls * models / len(plan))
    got = sum(plan.most_output(prompt, model) for prompt in range(len(plan.variants))) * calls // len(plan.variants)
    latency = planned.ledger.usual_latency(plan.targets[model].label) if calls else 0.0
    busy = None if latency is None else latency * calls
    cost = price.cost(Usage(sent, got), busy) if price else None
    wall = None if busy is None else busy / planned.ask.concurrency
    return Estimate(len(plan) // models, calls, len(plan) // models - calls, sent, got, cost if calls else 0.0, wall)
