"""What a model provider is. A provider file has one function, ``connect(target, *, settings) -> Provider``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from llmops_lab.records import Reply, Request, Usage


@dataclass(frozen=True, slots=True)
class Price:
    """USD for one input token, one output token, and one hour of the machine. None means that this part is not charged."""

    input: float | None = None
    output: float | None = None
    gpu_hour: float | None = None

    def cost(self, usage: Usage, seconds: float | None) -> float | None:
        """USD of one call; None when what is charged (tokens, time) is not known: missing is not 0."""
        total = 0.0
        for price, tokens in ((self.input, usage.input_tokens), (self.output, usage.output_tokens)):
            if price is None:
                continue
            if tokens is None:
                return None
            total += price * tokens
        if not self.gpu_hour:
            return total
        return None if seconds is None else total + self.gpu_hour * seconds / 3600.0


class Provider(Protocol):
    """One model, ready to be asked. Making one sends nothing over the network."""

    identity: str
    """What enters the call key: base URL and name, the weight digest of a local folder, or a resolved MLflow version."""
    pool: str
    """Which limiter it shares with others: the base URL of an HTTP provider, else its own name."""
    local: bool
    """Computes in this process; no HTTP."""
    price: Price | None
    """None when unknown."""

    async def ask(self, request: Request, *, timeout: float, on_text: Callable[[str], None] | None = None) -> Reply:
        """One try. With ``on_text`` the reply is streamed and each new piece of text handed over. Raises ProviderFault."""
        ...

    async def close(self) -> None:
        """Give back connections and threads."""
        ...


def in_flight(provider: Provider) -> int:
    """Calls that a provider wants at once, whatever the grid's own number is: one that computes in batches may say so. Else 0."""
    return int(getattr(provider, "in_flight", 0))
