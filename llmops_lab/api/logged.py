"""A grid that another machine ran, read back from its MLflow run: read only, and as good as the ledger's for a comparison."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_lab import settings as _settings
from llmops_lab.api.tables import Tables
from llmops_lab.errors import UnknownName
from llmops_lab.flows.rendered import rendered
from llmops_lab.grids.frame import summarise
from llmops_lab.records import Message, Score, is_missing
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track.runs import load_cells

if TYPE_CHECKING:
    from llmops_lab.api.views._grid_detail import Opened
    from llmops_lab.api.views._grid_source import FromTable


class LoggedGrid(Tables):
    """What MLflow keeps of a grid. Raises UnknownName for a run that is not there, LabError for one that is no grid."""

    def __init__(self, run_id: str, settings: Settings) -> None:
        self._cells, self._entry = load_cells(run_id, settings)
        self._run_id = run_id

    @property
    def state(self) -> str:
        """How the grid ended."""
        return str(self._entry["state"])

    @property
    def run_id(self) -> str:
        """The id of its MLflow run."""
        return self._run_id

    @property
    def judges(self) -> list[dict[str, Any]]:
        """Name, plugin, direction and bounds of each scorer."""
        return list(self._entry["judges"])

    @property
    def dataset(self) -> dict[str, Any]:
        """What is kept of the rows: source, digest, number, columns; and digests of the ids and of the expected values."""
        return dict(self._entry["dataset"])

    @property
    def plan(self) -> dict[str, Any]:
        """How the grid was asked, as its run has it: prompts, models, dataset, params, scorers."""
        return dict(self._entry)

    def records(self) -> list[dict[str, Any]]:
        """One dict a cell, in plan order."""
        import pandas

        lines = pandas.read_parquet(self._cells).astype(object).to_dict("records")
        return [{str(name): None if is_missing(value) else value for name, value in line.items()} for line in lines]

    def _lines(self, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
        stored = {(line["prompt"], line["model"]): line for line in self._entry["summary"]}
        lines = summarise(cells, self.scorers)
        return [line | {k: v for k, v in stored[line["prompt"], line["model"]].items() if k not in line} for line in lines]

    def _story(self, lines: list[dict[str, Any]], left: list[str]) -> str:
        total, ok = (sum(line[name] for line in lines) for name in ("n", "n_ok"))
        story = f"{self.state}: {ok:,} of {total:,} cells have a reply; read from MLflow run {self.run_id}"
        return "; ".join([story, *left])

    @property
    def _title(self) -> str:
        return str(self._entry.get("name") or self._run_id)

    @functools.cached_property
    def _table(self) -> FromTable:
        from llmops_lab.api.views._grid_source import FromTable

        return FromTable(self.records, self.scorers, open_ledger(_settings.load()), self.dataset)

    def _source(self) -> FromTable:
        return self._table

    def _opened(self, number: int) -> Opened:
        from llmops_lab.api.views._grid_detail import Opened

        if not 0 <= number < self._table.size():
            raise UnknownName("cell", str(number), [f"0 to {self._table.size() - 1}"])
        line = dict(self._table.records[number])
        scores = {name: Score(line[name], error=line[f"{name}_error"] or "") for name in self.scorers if line["status"] == "ok"}
        return Opened(number, line, scores, note="read from MLflow: only the columns of its table are kept there")

    def _sent(self, opened: Opened, row: Mapping[str, Any] | None) -> tuple[Sequence[Message] | None, str]:
        return rendered(self._entry["prompts"], opened.line["prompt"], row)

    def _some(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        lines = self._table.records
        return [{"cell": number, **lines[number]} for number in dict.fromkeys(numbers) if 0 <= number < len(lines)]
