"""Some cells of a grid are asked anew: paid, recorded and scored like all others. What they had before stays in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future

from llmops_lab.flows.plan_grid import PlannedGrid
from llmops_lab.flows.run_grid import askers, ended
from llmops_lab.grids.loop import submit
from llmops_lab.grids.run import OK, PENDING, GridRun
from llmops_lab.models._warm import leave


def ask_again(planned: PlannedGrid, cells: Sequence[int], state: str) -> tuple[GridRun, Future[str | None]]:
    """Begin to ask these cells. ``state`` is how the grid ended, and ends again. The future gives its MLflow run, or None.

    A cell whose new call fails keeps the reply that it had. A vote is taken anew, with the recorded replies of the other repeats.
    """
    plan, ask = planned.plan, planned.ask
    rows = sorted({plan.place(cell).row for cell in cells})
    run = GridRun(
        plan, askers(planned), ask.judges, planned.ledger, planned.grid,
        expected=ask.expected, concurrency=ask.concurrency, order=rows, redact=planned.redact.tree,
    )  # fmt: skip
    run.statuses[:] = bytes([OK]) * len(plan)
    for cell in cells:
        run.statuses[cell] = PENDING
    return run, submit(_pass(planned, run, _voters(planned, cells), state))


async def _pass(planned: PlannedGrid, run: GridRun, voters: dict[int, int], state: str) -> str | None:
    try:
        await run.go(voters)
    finally:
        await leave(*dict.fromkeys(planned.providers))
    if run.problem is not None:
        return None
    return await asyncio.get_running_loop().run_in_executor(None, ended, planned, state)


def _voters(planned: PlannedGrid, cells: Sequence[int]) -> dict[int, int]:
    """Cell -> recorded reply, for the other repeats of rows whose repeats vote."""
    plan, wanted = planned.plan, set(cells)
    a_repeat = len(plan.variants) * len(plan.targets)
    others = set()
    for cell in cells:
        at = plan.place(cell)
        if plan.variants[at.prompt].vote is not None:
            first = cell - at.replicate * a_repeat
            others |= {first + number * a_repeat for number in range(plan.repeats)} - wanted
    keys = {plan.key(cell): cell for cell in others}
    return {keys[key]: number for key, number in planned.ledger.answered(keys).items()}
