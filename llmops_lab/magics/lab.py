"""``%lab``: where things lie, what ran, what it cost, and which settings are in force."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from llmops_lab.api.options import Options, whole

if TYPE_CHECKING:
    from llmops_lab.flows.overview import Spent
    from llmops_lab.magics._show import Bundle


def parser() -> Options:
    """The commands of ``%lab``."""
    top = Options(prog="%lab", description="The workbench at a glance. %lab alone is %lab status.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    commands.add_parser("status", help="home, ledger, MLflow, running grids, and what waits to be logged")
    commands.add_parser("cost", help="what was spent, by grid and model")
    runs = commands.add_parser("runs", help="the newest grids")
    runs.add_argument("--last", type=whole(1), default=20, metavar="N", help="how many (20)")
    commands.add_parser("settings", help="every setting, and where its value comes from")
    return top


@magics_class
class LabMagics(Magics):
    """``%lab`` and its other name ``%llmops_lab``."""

    @line_magic("llmops_lab")
    @line_magic("lab")
    @no_var_expand
    def lab(self, line: str) -> None:
        """Where things lie, what ran, what it cost: status, cost, runs, settings; %lab -h shows more."""
        options = parser().parse_line(line.strip() or "status")
        if options is None:
            return
        from llmops_lab.magics import _show

        _show.show(COMMANDS[options.command](options))


def _status(_: Any) -> Bundle:
    from llmops_lab import settings
    from llmops_lab.flows.doctor import standing
    from llmops_lab.magics import _show

    return _show.table(["", ""], list(standing(settings.load()).items()))


def _cost(_: Any) -> Bundle:
    from llmops_lab import settings
    from llmops_lab.flows.overview import spending
    from llmops_lab.magics import _show

    found = spending(settings.load())
    lines = [(each.name, each.model, *_spent(each)) for each in found]
    if len(found) > 1:
        lines.append(("all", "", *_spent(sum(found[1:], found[0]))))
    return _show.table(["grid", "model", "calls", "known cost", "calls without a price"], lines, "nothing was asked yet")


def _spent(spent: Spent) -> tuple[str, str, str]:
    from llmops_lab.api.display import money

    return f"{spent.calls:,}", money(spent.cost_usd), f"{spent.unpriced:,}" if spent.unpriced else ""


def _runs(options: Any) -> Bundle:
    from llmops_lab import settings
    from llmops_lab.flows.overview import runs
    from llmops_lab.magics import _show

    lines = [
        (
            each.name,
            each.state,
            f"{each.cells:,}",
            _spent(each.spent)[1] if each.spent else "",
            f"{datetime.fromtimestamp(each.started, UTC):%Y-%m-%d %H:%M}",
            ", ".join(each.models),
            each.run_id or "none yet",
            each.grid,
        )
        for each in runs(settings.load(), options.last)
    ]
    head = ["name", "state", "cells", "cost", "started (UTC)", "models", "MLflow run", "grid"]
    return _show.table(head, lines, "no grid was run yet")


def _settings(_: Any) -> Bundle:
    from llmops_lab import settings
    from llmops_lab.flows.doctor import setting_lines
    from llmops_lab.magics import _show

    return _show.table(["setting", "value", "from"], setting_lines(settings.load(), settings.origins()))


COMMANDS: dict[str, Callable[[Any], Any]] = {"status": _status, "cost": _cost, "runs": _runs, "settings": _settings}
