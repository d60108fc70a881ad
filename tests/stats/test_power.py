import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import TTestPower, ttest_power

from llmops_lab.errors import BadInput
from llmops_lab.stats.discordant import equivalence
from llmops_lab.stats.discordant import mcnemar as exact_mcnemar
from llmops_lab.stats.power import (
    MOST,
    fewest_rows,
    mcnemar_power,
    minimum_detectable_effect,
    needed_rows,
    t_power,
)


@given(n=st.integers(6, 3000), effect=st.floats(0.01, 1), sd=st.floats(0.2, 3), alpha=st.sampled_from([0.01, 0.05]))
def test_t_power_agrees_with_statsmodels(n, effect, sd, alpha):
    expected = ttest_power(effect / sd, nobs=n, alpha=alpha, alternative="two-sided")
    if not math.isnan(expected):
        assert t_power(n, effect, sd, alpha) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("n", "win", "loss", "alpha"), [(14, 0.5, 0.1, 0.05), (25, 0.4, 0.05, 0.05), (20, 0.6, 0.3, 0.1), (9, 0.85, 0.1, 0.01)]
)
def test_mcnemar_power_is_the_sum_over_all_tables(n, win, loss, alpha):
    total = 0.0
    for wins, losses in itertools.product(range(n + 1), repeat=2):
        if wins + losses <= n and mcnemar([[0, losses], [wins, 0]], exact=True).pvalue < alpha:
            total += multinomial.pmf([wins, losses, n - wins - losses], n, [win, loss, 1 - win - loss])
    assert mcnemar_power(n, win, loss, alpha) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(("delta", "sd"), [(0.1, 0.5), (0.3, 0.4), (0.02, 0.3)])
def test_needed_rows_of_numeric_scores_agree_with_statsmodels(delta, sd):
    expected = TTestPower().solve_power(effect_size=delta / sd, alpha=0.05, power=0.8, alternative="two-sided")
    assert needed_rows(10, delta, sd=sd) == math.ceil(expected)
    assert needed_rows(10, -delta, sd=sd) == math.ceil(expected)


@given(delta=st.floats(0.02, 0.3), more=st.floats(0.01, 0.5))
@settings(max_examples=40)
def test_needed_rows_of_binary_scores_reach_the_power(delta, more):
    discordance = min(1.0, delta + more)
    rows = needed_rows(6, delta, discordance=discordance)
    win, loss = (discordance + delta) / 2, (discordance - delta) / 2
    assert mcnemar_power(rows, win, loss) >= 0.8
    assert rows <= 7 or mcnemar_power(rows - 1, win, loss) < 0.8


def test_binary_rows_by_the_known_formula():
    # Connor (1987) without the correction for discreteness, about 1.07 of which the exact test takes here
    assert needed_rows(20, 0.2, discordance=0.3) == pytest.approx(56, rel=0.15)
    assert needed_rows(20, 0.002, discordance=0.3) == pytest.approx((1.959964 + 0.841621) ** 2 * 0.3 / 0.002**2, rel=0.01)


@given(
    n=st.integers(1, 2000),
    delta=st.one_of(st.just(0.0), st.floats(-1, 1), st.floats(1e-300, 1e-200)),
    spread=st.one_of(st.just(0.0), st.floats(0, 1)),
    binary=st.booleans(),
    margin=st.sampled_from([None, 0.01, 0.2]),
)
def test_needed_rows_are_always_finite_and_more_than_there_are(n, delta, spread, binary, margin):
    given_spread = {"discordance": spread} if binary else {"sd": spread}
    rows = needed_rows(n, delta, margin=margin, **given_spread)
    assert isinstance(rows, int)
    assert max(n, 5) < rows <= MOST


def test_no_difference_at_all_asks_for_the_smallest_one():
    assert needed_rows(100, 0.0, discordance=0.2) > 10_000
    assert needed_rows(100, 0.0, sd=0.4) == needed_rows(100, 0.004, sd=0.4)
    assert needed_rows(100, 0.0, sd=0.0) == needed_rows(100, 0.01, sd=0.1)
    assert needed_rows(100, 0.0, discordance=0.0) == needed_rows(100, 0.01, discordance=0.01)


def test_a_margin_makes_equivalence_count():
    assert needed_rows(50, 0.0, sd=0.4, margin=0.1) < needed_rows(50, 0.0, sd=0.4)
    # scipy's normal quantiles: (z(.95) + z(.90))^2 sd^2 / margin^2 at no true difference
    assert needed_rows(50, 0.0, sd=0.4, margin=0.1) == math.ceil((1.6448536 + 1.2815516) ** 2 * 16)
    assert needed_rows(50, 0.3, sd=0.4, margin=0.1) == max(51, needed_rows(2, 0.3, sd=0.4))


def test_a_margin_without_any_disagreement():
    rows = needed_rows(10, 0.0, discordance=0.0, margin=0.05)
    assert equivalence(0, 0, rows, 0.05) < 0.05 <= equivalence(0, 0, rows - 1, 0.05)


def test_fewest_rows_is_where_the_sign_test_starts_to_reject():
    for alpha in (0.001, 0.01, 0.05, 0.1, 0.5):
        assert 2 / 2 ** fewest_rows(alpha) < alpha <= 2 / 2 ** (fewest_rows(alpha) - 1)
    assert fewest_rows(0.05) == 6


@pytest.mark.parametrize("n", [6, 40, 300, 30_000])
def test_detectable_effect_has_the_power(n):
    numeric = minimum_detectable_effect(n, sd=0.5)
    assert t_power(n, numeric, 0.5) == pytest.approx(0.8, abs=1e-4)
    binary = minimum_detectable_effect(n, discordance=0.2)
    share = max(0.2, binary)
    assert mcnemar_power(n, (share + binary) / 2, (share - binary) / 2) == pytest.approx(0.8, abs=0.01)


def test_detectable_effect_where_there_is_none():
    assert minimum_detectable_effect(5, discordance=0.5) is None
    assert minimum_detectable_effect(5, sd=0.5) is None
    assert minimum_detectable_effect(50, sd=0.0) is None
    assert 0 < minimum_detectable_effect(50, discordance=0.0) < 0.3


@pytest.mark.parametrize("wrong", [{}, {"sd": 1.0, "discordance": 0.5}])
def test_one_kind_of_spread(wrong):
    with pytest.raises(BadInput, match="discordance"):
        needed_rows(10, 0.1, **wrong)
    with pytest.raises(BadInput, match="discordance"):
        minimum_detectable_effect(10, **wrong)


def test_stated_power_is_met_by_the_tests_themselves():
    rng = np.random.default_rng(0)
    rows = needed_rows(30, 0.15, discordance=0.35)
    wins, losses, _ = rng.multinomial(rows, [0.25, 0.10, 0.65], size=4000).T
    rejected = np.mean([exact_mcnemar(*each) < 0.05 for each in zip(wins.tolist(), losses.tolist(), strict=True)])
    assert rejected == pytest.approx(0.8, abs=0.025)
