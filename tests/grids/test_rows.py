"""Rows from outside, in the shapes that real tables have: what cannot be used is named, and nothing is dropped in silence."""

import datetime
import decimal

import numpy
import pandas
import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput
from llmops_lab.grids.rows import read_rows


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_list_in_a_table_cell_is_a_list(folder):
    pandas.DataFrame({"q": ["x", "y"], "a": [["b", "c"], ["d"]]}).to_parquet(folder / "r.parquet")
    rows = read_rows(pandas.read_parquet(folder / "r.parquet"))  # pandas gives arrays back
    assert [row["a"] for row in rows.items] == [["b", "c"], ["d"]]
    assert rows.digest == read_rows(folder / "r.parquet").digest == read_rows([{"q": "x", "a": ["b", "c"]}, {"q": "y", "a": ["d"]}]).digest
    assert read_rows([{"a": numpy.array([1, 2])}]).items == [{"a": [1, 2]}]


def test_columns_of_one_name_are_refused_and_not_dropped():
    with pytest.raises(BadInput, match="'q' occurs 2 times"):
        read_rows(pandas.DataFrame([["x", "y"]], columns=["q", "q"]))
    with pytest.raises(BadInput, match="'1' occurs 2 times"):
        read_rows(pandas.DataFrame([["x", "y"]], columns=[1, "1"]))


@pytest.mark.parametrize("missing", [float("nan"), None, "", pandas.NaT])
def test_an_id_that_is_missing_in_some_rows_is_refused_whatever_holds_the_rows(missing):
    with pytest.raises(BadInput, match="'id' that is empty in row 2"):
        read_rows([{"id": 1, "q": "x"}, {"id": missing, "q": "y"}])


@pytest.mark.parametrize(("name", "text"), [("r.json", "[" * 100_000), ("r.jsonl", '{"q": 1}\n{"q": ' + "[" * 100_000)])
def test_json_that_is_nested_without_end_is_wrong_input(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(BadInput, match=name):
        read_rows(name)


@pytest.mark.parametrize("value", [b"x", {1, 2}, pandas.Interval(0, 1), [10**5000], {"deep": [b"x"]}, {1: "a", "b": 2}])
def test_a_value_that_cannot_be_stored_is_named_by_row_and_column(value):
    with pytest.raises(BadInput, match=r"row 2, column 'photo'"):
        read_rows([{"q": "x", "photo": "none"}, {"q": "y", "photo": value}])


def test_dates_and_decimals_can_be_used():
    rows = read_rows([{"when": datetime.date(2026, 1, 2), "price": decimal.Decimal("1.50")}])
    assert str(rows.items[0]["price"]) == "1.50" and rows.digest != read_rows([{"when": datetime.date(2026, 1, 2), "price": 2}]).digest


def test_names_of_columns_that_are_no_text_are_refused():
    with pytest.raises(BadInput, match="column names are texts"):
        read_rows([{1: "x", "q": "y"}])


def test_a_row_is_called_by_its_id_or_by_its_place_and_not_by_a_hash():
    with pytest.raises(BadInput, match=r"Did you mean q.*2 rows: 2, 3\)"):
        lab.grid({"p": "{{ qq }}"}, [{"qq": 1}, {"q": 2}, {"q": 3}], models=["echo"])
    with pytest.raises(BadInput, match=r"row 7\)"):
        lab.grid({"p": "{{ qq }}"}, [{"id": 7, "q": 2}], models=["echo"])


@pytest.mark.parametrize(
    ("name", "text"), [("R.CSV", "q\nx\n"), ("r.Tsv", "q\nx\n"), ("R.JSONL", '{"q": "x"}\n'), ("r.JSON", '[{"q": "x"}]')]
)
def test_the_case_of_an_ending_does_not_matter(folder, name, text):
    (folder / name).write_text(text)
    assert [dict(row) for row in read_rows(name).items] == [{"q": "x"}]
