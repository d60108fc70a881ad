"""What one question would send and take, before anything is sent."""

from __future__ import annotations

from llmops_lab.flows.plan_ask import Question, plan_ask
from llmops_lab.grids.plan import CHARACTERS_PER_TOKEN
from llmops_lab.records import Estimate, Request, Usage
from llmops_lab.settings import Settings


def estimate_ask(question: Question, settings: Settings) -> tuple[Request, Estimate]:
    """What would be sent, and what it would take. Raises BadInput."""
    planned = plan_ask(question, settings)
    request, price = planned.plan.request(0), planned.provider.price
    sent = round(len(request.text) / CHARACTERS_PER_TOKEN) * question.repeats
    got = planned.plan.most_output(0, 0) * question.repeats
    cost = price.cost(Usage(sent, got), None) if price is not None else None
    return request, Estimate(question.repeats, question.repeats, 0, sent, got, cost, None)
