"""What a tuning job reads before it starts: files of rows, as examples."""

from __future__ import annotations

from pathlib import Path

from llmops_lab.errors import BadInput
from llmops_lab.grids.rows import read_rows
from llmops_lab.training import data
from llmops_lab.training.data import Examples


def examine(path: str | Path) -> Examples:
    """The examples in a file (.jsonl .csv .tsv .json .parquet). Raises BadInput for a file, a row or columns that will not do."""
    if not str(path):
        raise BadInput("there is no file of training rows. Give data=PATH, a .jsonl or .csv with 'prompt' and 'completion' columns.")
    rows = read_rows(path)
    return data.read(rows.items, rows.source, rows.ids)
