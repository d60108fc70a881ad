"""``%%grid`` and ``%grid``: every prompt x every row x every model, scored, with a verdict, below the cell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand

from llmops_lab.api.options import Options, add_grid_options
from llmops_lab.errors import BadInput, Cancelled, Unreachable
from llmops_lab.magics import _parse

if TYPE_CHECKING:
    import argparse

_TABLE = re.compile(r"\s*(#.*\n\s*)*\[[^\[\]\n]+\]\s*(#.*)?(\n|$)")
_ABOUT = "Ask every model every prompt about every row, and score the replies."
_BODY = """ The cell's text is the prompts: either TOML, a table for each prompt,
or the text of one prompt, in which {{ name }} is a column of the rows. Lines that begin with --- part several prompts: --- NAME."""
_EXAMPLES = """\
examples:
  %%grid g << --rows tickets.csv --model tiny --scorer exact --expected answer
  --- plain
  What is this ticket about? {{ ticket }}
  --- labels
  Answer with one word: refund, delivery or login. {{ ticket }}

  %%grid --rows frame --scorer my_function --out g    a DataFrame and a function of the notebook
  %grid --prompts prompts.toml --rows tickets.csv     prompts from a file, or from a variable

Interrupt the kernel to cancel; what is done is kept, and g.resume() goes on.
"""


def parser(magic: str = "%%grid") -> Options:
    """The options of ``%%grid``, and of ``%grid`` which takes its prompts from a file."""
    about = _ABOUT if magic == "%grid" else _ABOUT + _BODY
    options = Options(prog=magic, usage="%(prog)s [VAR <<] [options]", description=about, epilog=_EXAMPLES)
    if magic == "%grid":
        options.add_argument("--prompts", required=True, metavar="FILE.toml", help="a .toml file, prompts:/NAME@ALIAS, or a variable")
    else:
        options.add_argument("--prompt", metavar="NAME", help="what the one prompt in the cell is called (prompt)")
    options.add_argument("--out", metavar="VAR", help="assign the grid to this variable")
    add_grid_options(options)
    return options


@magics_class
class GridMagics(Magics):
    """``%%grid``, ``%grid`` and their other name ``llmops_grid``."""

    @line_cell_magic("llmops_grid")
    @line_cell_magic("grid")
    @needs_local_scope
    @no_var_expand
    def grid(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> None:
        """Every prompt x every row x every model, scored; %%grid -h shows the options."""
        assigned, rest = _parse.assignment(line)
        options = parser("%grid" if cell is None else "%%grid").parse_line(rest)
        if options is None:
            return
        name = _parse.variable(assigned, options.out)
        namespace = {**self.shell.user_ns, **(local_ns or {})}
        self._run(options, _prompts(options, cell, namespace), namespace, name)

    def _run(self, options: argparse.Namespace, prompts: Any, namespace: Mapping[str, Any], name: str) -> None:
        from llmops_lab.api import calls, report
        from llmops_lab.api.options import grid_arguments
        from llmops_lab.magics import _show

        wanted = {"prompts": prompts, **grid_arguments(options, namespace)}
        grid = calls.prepare(**wanted)
        if options.dry_run:
            parts = [line.split(": ", 1) for line in report.estimate_lines(grid.estimate)]
            _show.show(_show.table(["estimate", "nothing was sent"], parts))
            return
        _show.show(_show.said(f"estimate: {report.estimate_line(grid.estimate)}"))
        grid.start().wait()
        if name:
            self.shell.user_ns[name] = grid
        cells = report.tally(grid)
        lines = [*report.failure_lines(grid, cells), *report.where_lines(grid, track=not options.no_track), *report.verdict_lines(grid)]
        _show.show(_result(grid, lines), {"llmops_lab": {"grid": grid.grid_id, "run_id": grid.run_id, "state": grid.state}})
        again = f"{name}.resume(), or this cell again" if name else "run this cell again"
        if grid.state == "cancelled":
            raise Cancelled(report.advice(grid, cells, again=again))
        if grid.state == "unreachable":
            raise Unreachable(report.advice(grid, cells, again=again))
        if todo := report.advice(grid, cells, again=again):
            _show.show(_show.said(todo))


def _result(grid: Any, lines: list[str]) -> dict[str, str]:
    from llmops_lab.magics import _show

    said = [_show.said(line) for line in lines]
    plain = "\n".join([repr(grid), *(each["text/plain"] for each in said)])
    return {"text/plain": plain, "text/html": grid._repr_html_() + "".join(each["text/html"] for each in said)}


def _prompts(options: argparse.Namespace, cell: str | None, namespace: Mapping[str, Any]) -> Any:
    if cell is None:
        named = options.prompts
        return namespace[named] if named.isidentifier() and named in namespace else _file(named)
    if not cell.strip():
        raise BadInput("there is nothing to ask: write the prompts below the %%grid line, or use %grid --prompts FILE.toml.")
    if options.prompt is None and _TABLE.match(cell):
        from llmops_lab.api.calls import prompts
        from llmops_lab.prompts.files import read_text

        return read_text(cell, Path("this cell"), fetch=prompts.get)
    return _parted(cell, options.prompt or "prompt")


def _file(named: str) -> str:
    if not named.endswith(".toml") and not named.startswith("prompts:/"):
        raise BadInput(f"--prompts {named}: there is no variable of that name. Name one, a .toml file, or prompts:/NAME@ALIAS.")
    return named


def _parted(cell: str, name: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for line in cell.split("\n"):
        head = re.fullmatch(r"---\s*([\w.\-]+)\s*", line)
        if head:
            name = head[1]
            if name in found:
                raise BadInput(f"two prompts of this cell are called {name!r}. Give each its own name after the ---.")
            found[name] = []
        elif found or line.strip():
            found.setdefault(name, []).append(line)
    empty = [each for each, lines in found.items() if not "".join(lines).strip()]
    if empty:
        raise BadInput(f"the prompt {empty[0]!r} of this cell is empty. Write its text below the --- line.")
    return {each: "\n".join(lines).strip("\n") for each, lines in found.items()}
