"""A grid that another machine ran, read back from its MLflow run: read only, and as good as the ledger's for a comparison."""

from __future__ import annotations

import math
from typing import Any

from llmops_lab.api.tables import Tables, unscored
from llmops_lab.grids.frame import summarise
from llmops_lab.settings import Settings
from llmops_lab.track.runs import load_cells


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

    def records(self) -> list[dict[str, Any]]:
        """One dict a cell, in plan order."""
        import pandas

        lines = pandas.read_parquet(self._cells).astype(object).to_dict("records")
        return [{str(name): None if _missing(value) else value for name, value in line.items()} for line in lines]

    def _lines(self, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
        stored = {(line["prompt"], line["model"]): line for line in self._entry["summary"]}
        lines = summarise(cells, self.scorers)
        return [line | {k: v for k, v in stored[line["prompt"], line["model"]].items() if k not in line} for line in lines]

    def _story(self, cells: list[dict[str, Any]], lines: list[dict[str, Any]]) -> str:
        total, ok = (sum(line[name] for line in lines) for name in ("n", "n_ok"))
        story = f"{self.state}: {ok:,} of {total:,} cells have a reply; read from MLflow run {self.run_id}"
        return "; ".join([story, *unscored(cells, self.scorers)])


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
