import gc
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from llmops_lab.errors import BadInput
from llmops_lab.stats.multiple import holm, holm_levels

P_VALUES = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 0.025, 0.05 / 3, 1.0])), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def nothing_to_collect():
    """statsmodels collects garbage at every call: a second each where much is loaded."""
    gc.freeze()
    yield
    gc.unfreeze()


@given(p_values=P_VALUES)
@pytest.mark.usefixtures("nothing_to_collect")
def test_adjusted_values_agree_with_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]), abs=1e-9)


@given(p_values=P_VALUES, alpha=st.sampled_from([0.01, 0.05, 0.1]))
def test_levels_and_adjusted_values_decide_alike(p_values, alpha):
    adjusted, levels = holm(p_values), holm_levels(p_values, alpha)
    assert [p < level for p, level in zip(p_values, levels, strict=True)] == [each < alpha for each in adjusted]
    assert all(0 <= level <= alpha for level in levels)


def test_levels_by_hand():
    assert holm_levels([0.04, 0.001, 0.03], 0.05) == pytest.approx([0.025, 0.05 / 3, 0.025])


def test_nothing_to_correct():
    assert holm([]) == []
    assert holm([0.03]) == [0.03]
    assert holm_levels([0.03], 0.05) == [0.05]


@pytest.mark.parametrize("wrong", [math.nan, -0.1, 1.5])
def test_what_is_no_p_value_is_refused(wrong):
    with pytest.raises(BadInput, match="p-value"):
        holm([0.5, wrong])
