import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from llmops_lab.errors import BadInput
from llmops_lab.stats.intervals import (
    bootstrap_interval,
    cluster_interval,
    cluster_standard_error,
    mean_interval,
    t_interval,
    wilson,
)


@given(n=st.integers(1, 5000), share=st.floats(0, 1), alpha=st.sampled_from([0.01, 0.05, 0.1, 0.32]))
def test_wilson_agrees_with_statsmodels(n, share, alpha):
    k = round(share * n)
    found = wilson(k, n, alpha)
    low, high = proportion_confint(k, n, alpha=alpha, method="wilson")
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(values=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60), alpha=st.sampled_from([0.05, 0.2]))
def test_t_agrees_with_statsmodels(values, alpha):
    found = t_interval(values, alpha)
    data = np.array(values)
    if data.std() == 0:
        assert found.low == pytest.approx(found.high)
        return
    low, high = DescrStatsW(data).tconfint_mean(alpha=alpha)
    assert found.low == pytest.approx(low, rel=1e-9, abs=1e-9)
    assert found.high == pytest.approx(high, rel=1e-9, abs=1e-9)


@given(seed=st.integers(0, 10_000), clusters=st.integers(2, 30))
def test_clustered_error_agrees_with_least_squares(seed, clusters):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(clusters), rng.integers(0, clusters, size=50)])
    values = rng.normal(size=len(labels)) + rng.normal(size=clusters)[labels]
    fit = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": labels, "use_correction": True}, use_t=True)
    found = cluster_interval(values, [f"row {label}" for label in labels], 0.05)
    assert cluster_standard_error(values, list(labels)) == pytest.approx(float(fit.bse[0]), rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(fit.conf_int(0.05)[0]), abs=1e-9)


def test_clusters_of_one_give_the_plain_standard_error():
    values = np.random.default_rng(0).normal(size=40)
    assert cluster_standard_error(values, list(range(40))) == pytest.approx(values.std(ddof=1) / math.sqrt(40))


def test_choice_of_interval():
    flags, numbers = [0, 1, 1, 1], [0.2, 0.4, 0.9, 0.1]
    assert mean_interval(flags).method == "wilson"
    assert mean_interval(numbers).method == "t"
    assert mean_interval(flags, clusters=["a", "a", "b", "b"]).method == "cluster"
    assert mean_interval(flags, clusters=["a", "b", "c", "d"]).method == "wilson"
    assert mean_interval(numbers, method="bootstrap").method == "bootstrap"
    assert mean_interval(numbers, method="cluster").method == "cluster"


def test_repeats_widen_the_interval():
    values = np.repeat([0, 1, 1, 0, 1, 1, 1, 0], 5)
    rows = np.repeat(np.arange(8), 5)
    naive, honest = mean_interval(values), mean_interval(values, clusters=list(rows))
    assert honest.high - honest.low > 1.5 * (naive.high - naive.low)
    assert honest.n == naive.n == 40


def test_missing_values_are_left_out_with_their_labels():
    found = mean_interval([1.5, math.nan, 2.5, 3.5], clusters=["x", "y", "z", "z"])
    assert found == mean_interval([1.5, 2.5, 3.5], clusters=["x", "z", "z"])
    assert found.n == 3


@pytest.mark.parametrize("method", ["auto", "wilson", "t", "bootstrap", "cluster"])
def test_no_values_no_interval(method):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mean_interval([math.nan, math.nan], method=method)
    assert found.n == 0
    assert math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize("method", ["t", "bootstrap", "cluster"])
def test_one_value_has_a_mean_and_no_bounds(method):
    found = mean_interval([0.25], method=method)
    assert found.value == 0.25 and found.n == 1
    assert math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize("method", ["t", "bootstrap", "cluster"])
def test_constant_values(method):
    found = mean_interval([0.3] * 20, method=method)
    assert (found.low, found.value, found.high) == pytest.approx((0.3, 0.3, 0.3))


def test_clusters_that_all_succeed_still_have_doubt():
    found = cluster_interval([1] * 12, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    assert found.high == 1 and found.low == pytest.approx(wilson(4, 4).low)


def test_bootstrap_is_repeatable_and_follows_skew():
    values = np.random.default_rng(5).lognormal(sigma=1, size=60)
    found = bootstrap_interval(values, seed=3)
    assert found == bootstrap_interval(values, seed=3)
    assert found != bootstrap_interval(values, seed=4)
    assert found.high - found.value > found.value - found.low


def test_bootstrap_leaves_the_global_generator_alone():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    bootstrap_interval([1.0, 2.0, 4.0], seed=9)
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: mean_interval([1, math.inf]), "infinite"),
        (lambda: mean_interval([1, 2], clusters=["a"]), "2 scores but 1"),
        (lambda: mean_interval([[1, 2]]), "shape"),
        (lambda: mean_interval([0.5], method="wilson"), "bootstrap"),
        (lambda: mean_interval([0.5], method="magic"), "magic"),
        (lambda: wilson(5, 4), "k=5"),
        (lambda: t_interval([1, 2], alpha=95), "alpha"),
    ],
)
def test_wrong_use_is_named(call, named):
    with pytest.raises(BadInput, match=named):
        call()
