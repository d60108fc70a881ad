"""API keys of the served endpoint: hashed, with limits, and what was spent under each. A spend limit holds across servers and restarts.

What a call may cost at most is held before it is sent and settled when it has ended. What a server that died had held counts as
spent: the calls were on their way and may have been paid for.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.escapes import storable
from llmops_lab.store._owner import is_alive
from llmops_lab.store.ledger import Ledger

_COLUMNS = "id, name, sha256, rpm, budget_usd, spent_usd, held_usd, created, revoked"
_PREFIX = "sk-lab-"  # of a shape that every sink masks


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key as the ledger knows it: limits None are none; ``held_usd`` is what calls in flight may cost at most."""

    id: str
    name: str
    sha256: str
    rpm: int | None
    budget_usd: float | None
    spent_usd: float
    held_usd: float
    created: float
    revoked: float | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line in the books of a key: ``hold`` USD before a call, or ``settle`` the hold of that name with what the call cost.

    A settlement without a hold before it (``name`` empty) just counts what was spent.
    """

    kind: str
    api_key: str
    name: str
    usd: float


def hashed(secret: str) -> str:
    """What is kept of a key. It has 256 random bits, so one round of SHA-256 cannot be undone by guessing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def create(ledger: Ledger, name: str, *, rpm: int | None = None, budget_usd: float | None = None) -> str:
    """Make a key and return it: the only time that anybody sees it. Raises BadInput for a name that a key in use has."""
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise BadInput(f"a key's name is a printable text of up to 100 characters, not {name!r}.")
    secret = _PREFIX + secrets.token_urlsafe(32)
    with ledger.transaction() as execute:
        if execute("SELECT 1 FROM api_keys WHERE name = ? AND revoked IS NULL", (name,)):
            raise BadInput(f"a key called {name!r} is in use. Choose another name, or first: llmops-lab keys revoke {name}")
        values = (secrets.token_hex(8), name, hashed(secret), rpm, budget_usd, time.time())
        execute("INSERT INTO api_keys (id, name, sha256, rpm, budget_usd, created) VALUES (?, ?, ?, ?, ?, ?)", values)
    return secret


def revoke(ledger: Ledger, name: str) -> None:
    """End a key; servers that run take notice within a second or so. Raises UnknownName."""
    with ledger.transaction() as execute:
        if not execute("UPDATE api_keys SET revoked = ? WHERE name = ? AND revoked IS NULL RETURNING id", (time.time(), storable(name))):
            raise UnknownName("key in use", name, [key.name for key in listed(ledger) if key.revoked is None])


def listed(ledger: Ledger) -> list[ApiKey]:
    """Every key there ever was, the oldest first."""
    return [ApiKey(*row) for row in ledger.select(f"SELECT {_COLUMNS} FROM api_keys ORDER BY created")]  # noqa: S608


def with_hash(ledger: Ledger, sha256: str) -> ApiKey | None:
    """The key in use that has this hash."""
    found = ledger.select(f"SELECT {_COLUMNS} FROM api_keys WHERE sha256 = ? AND revoked IS NULL", (sha256,))  # noqa: S608
    return ApiKey(*found[0]) if found else None


def book(ledger: Ledger, entries: Sequence[Entry]) -> list[bool]:
    """Do these in order, all in one transaction; for each hold, whether the budget had room for it. Raises StoreError."""
    with ledger.transaction() as execute:
        return [_hold(execute, entry, ledger.owner) if entry.kind == "hold" else _settle(execute, entry) for entry in entries]


def _hold(execute: Any, entry: Entry, owner: str) -> bool:
    sql = (
        "UPDATE api_keys SET held_usd = held_usd + ? WHERE id = ? AND revoked IS NULL "
        "AND (budget_usd IS NULL OR spent_usd + held_usd + ? <= budget_usd + 1e-12) RETURNING id"
    )
    if not execute(sql, (entry.usd, entry.api_key, entry.usd)):
        return False
    execute(
        "INSERT INTO holds (hold, api_key, usd, owner, at) VALUES (?, ?, ?, ?, ?)",
        (entry.name, entry.api_key, entry.usd, owner, time.time()),
    )
    return True


def _settle(execute: Any, entry: Entry) -> bool:
    held = execute("DELETE FROM holds WHERE hold = ? RETURNING usd", (entry.name,)) if entry.name else []
    if entry.name and not held:
        return False  # settled before: what is sent twice counts once
    amount = held[0][0] if held else 0.0
    # Where nothing else is held any more it is exactly 0 again, whatever the sums of fractions came to.
    sql = (
        "UPDATE api_keys SET spent_usd = spent_usd + ?, held_usd = CASE WHEN EXISTS (SELECT 1 FROM holds WHERE api_key = ?) "
        "THEN held_usd - ? ELSE 0 END WHERE id = ?"
    )
    execute(sql, (entry.usd, entry.api_key, amount, entry.api_key))
    return True


def settle_dead(ledger: Ledger) -> float:
    """Count as spent what servers that are gone had held; returns how much, in USD."""
    rows = ledger.select("SELECT hold, api_key, usd, owner FROM holds")
    lost = [Entry("settle", key, hold, usd) for hold, key, usd, owner in rows if not is_alive(owner)]
    return sum(entry.usd for entry, done in zip(lost, book(ledger, lost), strict=True) if done) if lost else 0.0
