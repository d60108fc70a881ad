"""Sums and tables as a person reads them."""

import pytest

from llmops_lab.api.display import money, table


@pytest.mark.parametrize(
    ("usd", "shown"),
    [(None, "cost unknown"), (0.0, "$0.00"), (0.0000004, "$0.00000040"), (0.0123, "$0.012"), (0.5, "$0.50"), (1234.5, "$1,234.50")],
)
def test_a_sum_is_never_shown_as_nothing_when_it_is_something(usd, shown):
    assert money(usd) == shown


def test_a_table_is_aligned_inert_and_one_line_a_row():
    plain, page = table(["name", "note"], [["a", None], ["<b>", "two\nlines \x1b[2J"]])
    assert plain.split("\n") == ["name  note", "a", "<b>   two lines \\x1b[2J"]
    assert "&lt;b&gt;" in page and "<b>" not in page and "\x1b" not in page


def test_a_table_without_rows_has_its_head():
    assert table(["name"], [])[0] == "name"
