"""What ran and what it cost, read from the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmops_lab.settings import Settings
from llmops_lab.store.ledger import open_ledger


@dataclass(frozen=True, slots=True)
class Spent:
    """What calls cost. ``cost_usd`` is the known part, None where no call has a price; ``unpriced`` calls have none."""

    name: str
    model: str
    calls: int
    cost_usd: float | None
    unpriced: int

    def __add__(self, other: Spent) -> Spent:
        known = [each for each in (self.cost_usd, other.cost_usd) if each is not None]
        return Spent(self.name, self.model, self.calls + other.calls, sum(known) if known else None, self.unpriced + other.unpriced)


@dataclass(frozen=True, slots=True)
class Run:
    """One grid of the ledger. ``spent`` None: everything came from the ledger, or nothing was answered."""

    grid: str
    name: str
    state: str
    cells: int
    started: float
    models: tuple[str, ...]
    run_id: str | None
    spent: Spent | None


def spending(settings: Settings) -> list[Spent]:
    """What was spent, by grid name and model, newest first."""
    ledger = open_ledger(settings)
    names = {each["grid"]: each["name"] for each in ledger.grids(1_000_000)}
    totals: dict[tuple[str, str], Spent] = {}
    for grid, model, calls, cost, unpriced in ledger.spend():
        spent = Spent(names.get(grid, grid), model, calls, cost, unpriced)
        key = (spent.name, model)
        totals[key] = totals[key] + spent if key in totals else spent
    return list(totals.values())


def runs(settings: Settings, last: int) -> list[Run]:
    """The newest grids."""
    ledger = open_ledger(settings)
    found = ledger.grids(last)
    totals: dict[str, Spent] = {}
    for grid, model, calls, cost, unpriced in ledger.spend():
        spent = Spent(grid, model, calls, cost, unpriced)
        totals[grid] = totals[grid] + spent if grid in totals else spent
    sizes = ledger.sizes([each["grid"] for each in found])
    return [_run(each, sizes.get(each["grid"], 0), totals.get(each["grid"])) for each in found]


def _run(record: dict[str, Any], cells: int, spent: Spent | None) -> Run:
    models = tuple(model["label"] for model in record["plan"].get("models", ()))
    return Run(record["grid"], record["name"], record["state"], cells, record["started"], models, record["run_id"], spent)
