"""The keys of the served endpoint: make one, list them, end one."""

from __future__ import annotations

from llmops_lab.settings import load
from llmops_lab.store import keys
from llmops_lab.store.keys import ApiKey
from llmops_lab.store.ledger import open_ledger


def create(name: str, *, rpm: int | None = None, budget_usd: float | None = None) -> str:
    """A new key. It is shown this once: the ledger keeps its hash alone. Raises BadInput."""
    return keys.create(open_ledger(load()), name, rpm=rpm, budget_usd=budget_usd)


def listed() -> list[ApiKey]:
    """Every key there ever was, the oldest first."""
    return keys.listed(open_ledger(load()))


def revoke(name: str) -> None:
    """End a key. Raises UnknownName."""
    keys.revoke(open_ledger(load()), name)
