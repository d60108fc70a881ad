"""What a call costs: held before it is sent where its key has a budget, booked once it has ended, however it ended."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass, field

from llmops_lab.errors import ProviderFault
from llmops_lab.records import Reply, Request, Usage, output_limit
from llmops_lab.serving.keys import Books, Holder
from llmops_lab.serving.metrics import Call
from llmops_lab.serving.protocol import ApiError, choices_of
from llmops_lab.serving.release import Made, Release
from llmops_lab.store.keys import Entry

BUDGETED_TOKENS = 1024
"""The most tokens of a reply that a key with a budget gets without saying ``max_tokens``: what a call can cost must have an end."""
_UNPRICED = ("audio", "best_of", "fallbacks", "models", "plugins", "prediction", "provider", "search_parameters", "web_search_options")
"""Fields with a price of their own, or with which an upstream may turn to a dearer model."""
_CALLED_BACK = ("function", "custom")  # kinds of tools that the caller runs; others the upstream runs, and bills
_TIERS = (None, "auto", "default", "flex")


@dataclass
class Bill:
    """One call that is sent to a model: what is held for it, and what came of it.

    Until ``paid`` or ``failed`` it counts as broken off: with all that was held; without a budget, with what was seen of it.
    """

    holder: Holder | None
    release: Release
    request: Request
    hold: Entry | None
    made: Made = field(default_factory=Made)
    usage: Usage | None = None
    usd: float | None = None

    def paid(self, reply: Reply) -> None:
        """The whole reply came; tokens that nobody told are guessed from what was said."""
        self.usd = reply.cost_usd
        if None not in (reply.usage.input_tokens, reply.usage.output_tokens):
            self.usage = reply.usage
        elif not self.made.letters:
            self.made.add([{"delta": choice["message"]} for choice in choices_of(reply)])

    def failed(self, fault: ProviderFault) -> None:
        """The model or the upstream failed. What may have been paid for stays open, as if it was broken off."""
        if fault.usage is not None and None not in fault.usage:
            self.usage, self.usd = Usage(*fault.usage), fault.cost_usd
        elif not fault.in_doubt:
            self.usage, self.usd = Usage(), 0.0

    def close(self, books: Books, call: Call) -> None:
        """Book it."""
        usage, guess = (self.usage, 0.0) if self.usage else self.release.so_far(self.request, self.made)
        call.usage, call.guessed = usage, self.usage is None
        call.cost_usd = self.usd if self.usd is not None else self.hold.usd if self.hold else guess or 0.0
        if self.hold is not None and self.hold.usd > 0:
            books.settle(Entry("settle", self.hold.api_key, self.hold.name, call.cost_usd))
        elif self.holder is not None and call.cost_usd > 0:
            books.settle(Entry("settle", self.holder.key.id, "", call.cost_usd))


def bounded(holder: Holder | None, request: Request) -> Request:
    """The request with an end to what it may cost, where its key has a budget."""
    if holder is None or holder.key.budget_usd is None or output_limit(request.params):
        return request
    return dataclasses.replace(request, params={**request.params, "max_tokens": BUDGETED_TOKENS})


async def opened(books: Books, holder: Holder | None, release: Release, request: Request) -> Bill:
    """A bill for a call that is about to be sent, the most that it can cost held. Raises ApiError 403, 429 or 503."""
    if holder is None or holder.key.budget_usd is None:
        return Bill(holder, release, request, None)
    most = release.most_usd(request)
    what = release.name if most is None else _unpriced(request)
    if most is None or what:
        message = (
            f"the key {holder.key.name!r} has a budget and nobody knows what {what!r} costs at most, so it cannot be kept. "
            "Whoever runs this server can set a price: [tool.llmops_lab.prices]; or ask without a budget, for what has none."
        )
        raise ApiError(403, message, code="price_unknown", kind="insufficient_quota")
    entry = Entry("hold", holder.key.id, uuid.uuid4().hex, most)
    if most > 0 and not await books.hold(entry):
        message = (
            f"the key {holder.key.name!r} may spend {holder.key.budget_usd:g} USD, and this request, which may cost "
            f"{most:.2g} USD, might pass that."
        )
        raise ApiError(429, message, code="insufficient_quota", kind="insufficient_quota")
    return Bill(holder, release, request, entry)


def _unpriced(request: Request) -> str:
    """What of a request has a price of its own, which no price of tokens covers; empty where nothing has."""
    named = next((name for name in _UNPRICED if name in request.params), "")
    if request.params.get("service_tier") not in _TIERS:
        return "service_tier"
    contents = (message.content for message in request.messages if not isinstance(message.content, str))
    parts = (str(part["type"]) for content in contents for part in content if part.get("type") != "text")
    hosted = (str(tool["type"]) for tool in request.tools if tool.get("type", "function") not in _CALLED_BACK)
    return named or next(parts, "") or next(hosted, "")
