import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param, _validate_tag

from llmops_lab.track import legal

NAMES = st.text(max_size=300) | st.lists(st.sampled_from(["..", ".", "", "exact", "a b", "openai:m@http:"]), min_size=1).map("/".join)


@given(NAMES)
def test_mlflow_takes_every_key(name):
    key = legal.key(name)
    _validate_metric_name(key)
    _validate_param(key, "value")
    _validate_tag(key, "value")
    assert legal.key(key) == key


@given(st.lists(NAMES, unique=True, max_size=8))
def test_no_two_names_share_a_key(names):
    made = legal.keys(names)
    assert set(made) == set(names)
    assert len(set(made.values())) == len(names)
    for key in made.values():
        _validate_param(key, "value")


def test_ordinary_names_stay_as_they_are_and_do_not_depend_on_the_others():
    assert legal.key("exact/plain/tiny_low") == "exact/plain/tiny_low"
    assert legal.key("exact/plain/openai:m@http://h:1/v1") == "exact/plain/openai:m_http:/_/h:1/v1"
    made = legal.keys(["a@b", "a#b", "a_b"])
    assert made["a_b"] == "a_b"
    assert made["a@b"].startswith("a_b-") and made["a#b"].startswith("a_b-")


@pytest.mark.parametrize("length", [0, 999, 1000])
def test_a_text_that_fits_is_not_touched(length):
    assert legal.cut("x" * length, 1000) == "x" * length


def test_a_cut_text_says_so():
    cut = legal.cut("x" * 12_345, 1000, "grid.json")
    assert len(cut) == 1000
    assert "cut from 12345 characters" in cut and "whole in grid.json" in cut
    assert cut != legal.cut("x" * 12_344 + "y", 1000, "grid.json")  # the hash tells apart what the beginning does not
