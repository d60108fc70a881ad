"""What the ``body`` columns of replies and scores hold: JSON in ASCII, so that NUL and lone surrogates survive every database."""

from __future__ import annotations

import json
from typing import Any

from llmops_lab.records import Outcome, Reply, Score, Status, Usage, canonical


def outcome_body(outcome: Outcome) -> str:
    """One outcome as text."""
    reply = outcome.reply
    if reply is None:
        return canonical({"error": outcome.error, "message": outcome.message, "tries": outcome.tries, **_bill(outcome)})
    body: dict[str, Any] = {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "input_tokens": reply.usage.input_tokens,
        "output_tokens": reply.usage.output_tokens,
        "latency_s": reply.latency_s,
        "ttft_s": reply.ttft_s,
        "cost_usd": reply.cost_usd,
        "model": reply.model,
        "tries": outcome.tries,
        **_bill(outcome),
    }
    if reply.tool_calls:
        body["tool_calls"] = reply.tool_calls
    if reply.logprobs is not None:
        body["logprobs"] = reply.logprobs
    return json.dumps(body, separators=(",", ":"))


def _bill(outcome: Outcome) -> dict[str, Any]:
    # Input tokens, output tokens and USD of tries that were billed and gave no usable reply; absent when there were none.
    bill = (outcome.usage.input_tokens, outcome.usage.output_tokens, outcome.cost_usd)
    return {} if bill == (None, None, None) else {"wasted": bill}


def outcome_from(status: Status, body: str) -> Outcome:
    """The outcome that ``outcome_body`` wrote."""
    data = json.loads(body)
    wasted: dict[str, Any] = {}
    if "wasted" in data:
        given, made, cost = data["wasted"]
        wasted = {"usage": Usage(given, made), "cost_usd": cost}
    if status != "ok":
        return Outcome(status, None, error=data["error"], message=data["message"], tries=data["tries"], **wasted)
    reply = Reply(
        data["text"],
        data["finish_reason"],
        Usage(data["input_tokens"], data["output_tokens"]),
        data["latency_s"],
        data["ttft_s"],
        data["cost_usd"],
        data["model"],
        tuple(data.get("tool_calls", ())),
        tuple(data["logprobs"]) if "logprobs" in data else None,
    )
    return Outcome("ok", reply, tries=data["tries"], **wasted)


def score_body(score: Score) -> str:
    """One score as text."""
    body: dict[str, Any] = {"value": score.value}
    for name in ("reason", "error", "detail"):
        if getattr(score, name):
            body[name] = getattr(score, name)
    return json.dumps(body, separators=(",", ":"), default=str)


def score_from(body: str) -> Score:
    """The score that ``score_body`` wrote."""
    return Score(**json.loads(body))
