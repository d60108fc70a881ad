"""Rows come in: a file (.csv .tsv .jsonl .json .parquet), a DataFrame, or a list of dicts. Bad rows are named by line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, UnknownName, clipped
from llmops_lab.records import digest, is_missing

READABLE = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
"""The kinds of file that rows come from."""


@dataclass(frozen=True)
class Rows:
    """The rows of a grid. ``ids`` come from the column ``id``, else from the row's content; ``digest`` names this very set.

    Values of a CSV stay text ("007" is not 7); an empty CSV field is None, a missing value.
    """

    items: Sequence[Mapping[str, Any]]
    ids: Sequence[str]
    source: str
    digest: str

    @property
    def columns(self) -> list[str]:
        """All column names, in order of first appearance."""
        return list(dict.fromkeys(name for row in self.items for name in row))

    def called(self, number: int) -> str:
        """What a message calls the row at this place: its own id, else its place counted from 1 (a content hash would tell nobody)."""
        return str(number + 1) if _is_empty(self.items[number].get("id")) else self.ids[number]

    def require(self, column: str) -> None:
        """Raise UnknownName when no row has this column."""
        if column not in self.columns:
            raise UnknownName("column", column, self.columns, f"The rows come from {self.source}.")


def read_rows(source: Any) -> Rows:
    """Read rows from a path, a DataFrame or a list of dicts. Raises BadInput naming the file, the line and the next step."""
    if isinstance(source, str | Path):
        items, name = _from_file(Path(source)), str(source)
    elif hasattr(source, "to_dict") and hasattr(source, "columns"):
        _differ([str(column) for column in source.columns], "a DataFrame")
        items, name = [_without_nan(row) for row in source.to_dict("records")], "a DataFrame"
    elif isinstance(source, Iterable) and not isinstance(source, Mapping):
        items, name = list(source), "a list"
    else:
        raise BadInput(f"rows must be a path, a DataFrame or a list of dicts, not {type(source).__name__}.")
    for number, row in enumerate(items, 1):
        if not isinstance(row, Mapping):
            raise BadInput(f"row {number} of {name} is {clipped(repr(row))}, not an object with named values.")
        if not all(isinstance(column, str) for column in row):
            raise BadInput(f"row {number} of {name} has {', '.join(map(repr, row))}: column names are texts.")
        if any(hasattr(value, "tolist") for value in row.values()):
            items[number - 1] = {column: _unwrapped(value) for column, value in row.items()}
    if not items:
        raise BadInput(f"{name} has no rows; at least one is needed.")
    found = _digest(items, name)
    return Rows(items, _ids(items, name), name, found)


def _digest(items: Sequence[Mapping[str, Any]], name: str) -> str:
    try:
        return digest([dict(row) for row in items])
    except (TypeError, ValueError, RecursionError) as error:
        for number, row in enumerate(items, 1):
            for column, value in row.items():
                _check_value(value, f"row {number}, column {column!r} of {name}")
        raise BadInput(f"{name} cannot be used: {error}.") from error


def _check_value(value: Any, where: str) -> None:
    try:
        digest(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"{where} cannot be used: {error}. Rows hold text, numbers, true/false, dates, lists and objects.") from error


def _differ(columns: Sequence[str], name: str) -> None:
    for column in columns:
        if columns.count(column) > 1:
            raise BadInput(f"the column {column!r} occurs {columns.count(column)} times in {name}. Column names must differ.")


def _ids(items: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    missing = [number for number, row in enumerate(items, 1) if _is_empty(row.get("id"))]
    if not missing:
        ids = [str(row["id"]) for row in items]
        if len(set(ids)) < len(ids):
            seen: set[str] = set()
            twice = next(each for each in ids if each in seen or seen.add(each))  # type: ignore[func-returns-value]
            places = [number for number, each in enumerate(ids, 1) if each == twice]
            raise BadInput(
                f"id {twice!r} occurs {len(places)} times in {name} (rows {_listed(places)}). Ids must differ; mend or drop the column."
            )
        return ids
    if len(missing) < len(items):
        raise BadInput(f"{name} has a column 'id' that is empty in row {_listed(missing)}. Fill it in, or drop the column.")
    # Twin rows stay apart: the second of two equal rows gets the suffix -2.
    seen_count: dict[str, int] = {}
    ids = []
    for row in items:
        base = digest(dict(row))[:12]
        seen_count[base] = seen_count.get(base, 0) + 1
        ids.append(base if seen_count[base] == 1 else f"{base}-{seen_count[base]}")
    return ids


def _from_file(path: Path) -> list[Any]:
    kind = path.suffix.lower()
    if kind not in READABLE:
        raise BadInput(f"{path} is of no known kind. Known: {', '.join(READABLE)}.")
    if not path.is_file():
        nearby = sorted(each.name for each in path.parent.glob("*") if each.suffix.lower() in READABLE)[:8] if path.parent.is_dir() else []
        raise BadInput(f"{path} does not exist.{' In that folder: ' + ', '.join(nearby) + '.' if nearby else ''}")
    if kind == ".parquet":
        return _parquet(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise BadInput(f"{path} is not UTF-8: line {line} holds the byte 0x{error.object[error.start]:02x}. Save it as UTF-8.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    if kind == ".jsonl":
        return _jsonl(text, path)
    return _json(text, path) if kind == ".json" else _table(text, path, "\t" if kind == ".tsv" else ",")


def _table(text: str, path: Path, mark: str) -> list[Any]:
    csv.field_size_limit(1 << 30)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    try:
        header = next(reader, [])
        if not header:
            return []
        if len(set(header)) < len(header) or "" in header:
            raise BadInput(f"{path}, line 1: column names must be there and differ; found {', '.join(map(repr, header))}.")
        rows = []
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                raise BadInput(
                    f"{path}, line {reader.line_num}: {len(values)} fields, the header has {len(header)}. Quote text that holds commas."
                )
            rows.append({name: value if value != "" else None for name, value in zip(header, values, strict=True)})
        return rows
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}: {error}. Mend the quoting of that line.") from error


def _jsonl(text: str, path: Path) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}, line {number} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise BadInput(f"{path}, line {number} is {clipped(repr(row))}, not an object.")
        rows.append(row)
    return rows


def _json(text: str, path: Path) -> list[Any]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}, line {error.lineno} is not JSON: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(rows, list):
        raise BadInput(f"{path} must hold a list of objects; it holds {clipped(repr(rows))}.")
    return rows


def _parquet(path: Path) -> list[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Any] = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path} is not a readable Parquet file: {error}.") from error
    return rows


def _without_nan(row: Mapping[Any, Any]) -> dict[str, Any]:
    # Missing values of a DataFrame (nan, NaT, pd.NA) become None; numpy scalars become plain numbers.
    plain: dict[str, Any] = {}
    for name, value in row.items():
        value = _unwrapped(value)
        plain[str(name)] = None if is_missing(value) else value
    return plain


def _unwrapped(value: Any) -> Any:
    # numpy's scalars and arrays, and so the lists of a Parquet file that pandas read
    return value.tolist() if hasattr(value, "tolist") else value


def _is_empty(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, str) and not value)


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"{shown} and {len(numbers) - 5} more" if len(numbers) > 5 else shown
