import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import permutation_test
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from llmops_lab.errors import BadInput, DoesNotPair
from llmops_lab.stats import discordant, signflip
from llmops_lab.stats.paired import paired_test

ALPHAS = st.sampled_from([0.01, 0.05, 0.1, 0.2])


def binary_pair(wins, losses, both, neither=0):
    a = [0] * wins + [1] * losses + [1] * both + [0] * neither
    b = [1] * wins + [0] * losses + [1] * both + [0] * neither
    return a, b


@given(wins=st.integers(0, 400), losses=st.integers(0, 400), both=st.integers(0, 300))
def test_mcnemar_agrees_with_statsmodels(wins, losses, both):
    expected = statsmodels_mcnemar([[both, losses], [wins, 0]], exact=True).pvalue if wins + losses else 1.0
    assert discordant.mcnemar(wins, losses) == pytest.approx(expected, abs=1e-9)


@given(wins=st.integers(0, 40), losses=st.integers(0, 40), ties=st.integers(0, 200), alpha=ALPHAS)
def test_binary_p_value_and_interval_never_disagree(wins, losses, ties, alpha):
    if wins + losses + ties == 0:
        return
    found = paired_test(*binary_pair(wins, losses, ties), binary=True, alpha=alpha)
    assert (found.p_value < alpha) == (found.low > 0 or found.high < 0)
    assert -1 <= found.low <= found.delta <= found.high <= 1
    assert found.test == "exact McNemar"


@given(wins=st.integers(0, 30), losses=st.integers(0, 30), ties=st.integers(0, 60), alpha=ALPHAS)
def test_binary_interval_holds_what_the_test_keeps(wins, losses, ties, alpha):
    n = wins + losses + ties
    if n == 0:
        return
    low, high = discordant.interval(wins, losses, n, alpha)
    for delta in np.linspace(-0.99, 0.99, 23):
        p_value = 2 * min(discordant.upper_tail(wins, losses, n, delta), discordant.upper_tail(losses, wins, n, -delta))
        if abs(delta - low) > 1e-6 and abs(delta - high) > 1e-6:
            assert (p_value >= alpha) == (low < delta < high)


@given(wins=st.integers(0, 60), losses=st.integers(0, 60), ties=st.integers(1, 100), delta=st.floats(1e-12, 1e-9))
def test_the_family_of_tests_is_continuous_at_no_difference(wins, losses, ties, delta):
    n = wins + losses + ties
    at_zero = discordant.upper_tail(wins, losses, n, 0.0)
    assert discordant.upper_tail(wins, losses, n, delta) == pytest.approx(at_zero, abs=1e-5)
    assert discordant.upper_tail(wins, losses, n, -delta) == pytest.approx(at_zero, abs=1e-5)


DIFFERENCES = st.one_of(
    arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([-1.0, -0.5, 0.0, 0.0, 0.25, 0.5, 1.0])),
    arrays(np.float64, st.integers(1, 40), elements=st.floats(-10, 10, allow_subnormal=False)),
    arrays(np.float64, st.integers(1, 30), elements=st.integers(-4, 4).map(lambda each: each / 10)),
    st.tuples(st.integers(1, 40), st.sampled_from([-0.1, 0.1, 0.3])).map(lambda made: np.full(*made)),
)


@settings(max_examples=200)
@given(differences=DIFFERENCES, alpha=ALPHAS, seed=st.integers(0, 5))
def test_numeric_p_value_and_interval_never_disagree(differences, alpha, seed):
    flips = signflip.flip(differences, seed=seed, flips=499)
    low, high = flips.interval(alpha)
    p_value = flips.p_value()
    assert 0 < p_value <= 1
    assert (p_value < alpha) == (low > 0 or high < 0)
    mean = float(differences.mean())
    assert low <= mean + 1e-9 and high >= mean - 1e-9


@given(wins=st.integers(0, 13), losses=st.integers(0, 13), ties=st.integers(0, 60))
def test_sign_flips_of_binary_differences_are_mcnemar(wins, losses, ties):
    differences = np.array([1.0] * wins + [-1.0] * losses + [0.0] * ties)
    if not 1 <= len(differences) or wins + losses > 13:
        return
    flips = signflip.flip(differences, flips=499)
    assert flips.exact
    assert flips.p_value() == pytest.approx(discordant.mcnemar(wins, losses), abs=1e-9)


@pytest.mark.parametrize("n", [3, 8, 11])
def test_all_flips_agree_with_scipy(n):
    differences = np.random.default_rng(n).normal(0.4, 1, size=n)
    expected = permutation_test(
        (differences, np.zeros(n)),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert signflip.flip(differences).p_value() == pytest.approx(expected.pvalue, abs=1e-9)


def test_interval_is_the_set_of_means_that_brute_force_keeps():
    differences = np.array([0.3, -0.1, 0.5, 0.2, 0.9, 0.0, 0.4, -0.3, 0.6, 0.25])
    low, high = signflip.flip(differences).interval(0.05)
    signs = np.array(list(itertools.product([1, -1], repeat=len(differences))))

    def brute(mean):
        return float(np.mean(np.abs(signs @ (differences - mean)) >= abs((differences - mean).sum()) - 1e-12))

    assert brute(low + 1e-6) >= 0.05 > brute(low - 1e-6)
    assert brute(high - 1e-6) >= 0.05 > brute(high + 1e-6)


def test_sampled_flips_come_close_to_all_of_them():
    differences = np.random.default_rng(2).normal(0.25, 1, size=16)
    every = signflip.flip(differences)
    more = np.concatenate([differences, np.full(20, 1e-9)])  # 20 rows that hardly matter force a sample
    sample = signflip.flip(more)
    assert every.exact and not sample.exact
    assert sample.p_value() == pytest.approx(every.p_value(), abs=0.01)


@given(differences=DIFFERENCES)
@settings(max_examples=50)
def test_swapping_the_sides_mirrors_everything(differences):
    if len(differences) > signflip.ALL_ROWS:
        return
    there = paired_test(np.zeros(len(differences)), differences, binary=False, margin=0.5)
    back = paired_test(differences, np.zeros(len(differences)), binary=False, margin=0.5)
    assert back.p_value == there.p_value
    assert back.equivalence_p == pytest.approx(there.equivalence_p)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert (back.up, back.down, back.level) == (there.down, there.up, there.level)


def test_same_seed_same_numbers_and_no_global_state():
    a, b = np.random.default_rng(1).normal(size=(2, 80))
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    assert paired_test(a, b, binary=False, seed=7) == paired_test(a, b, binary=False, seed=7)
    assert (np.random.get_state()[1] == before).all()


def test_missing_rows_are_counted_and_left_out():
    nan = math.nan
    found = paired_test([1, 0, nan, 1, 0], [1, nan, 0, 0, 1], binary=True)
    assert (found.n, found.n_missing) == (3, 2)
    assert (found.up, found.down, found.level) == (1, 1, 1)
    assert found.mean_a == pytest.approx(2 / 3) and found.mean_b == pytest.approx(2 / 3)


def test_averaged_binary_scores_take_sign_flips():
    found = paired_test([0, 0.5, 1, 0], [1, 0.5, 1, 0.5], binary=True)
    assert found.test == "exact sign-flip permutation"
    assert found.discordance is None


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 17, 40])
@pytest.mark.parametrize("step", [0, 1])
def test_constant_differences_at_every_size(binary, n, step):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = paired_test(np.zeros(n), np.full(n, float(step)), binary=binary, margin=0.2)
    assert found.delta == step
    assert not math.isnan(found.low) and not math.isnan(found.high)
    if step == 0:
        assert found.p_value == 1 and found.low <= 0 <= found.high
    elif n <= 16:
        assert found.p_value == pytest.approx(2 / 2**n)
    assert (found.p_value < 0.05) == (step == 1 and n >= 6)


def test_too_few_numeric_rows_leave_the_difference_unbounded():
    found = paired_test([0.1, 0.2, 0.3, 0.1, 0.5], [0.5, 0.9, 0.8, 0.4, 0.6], binary=False)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_whole_interval_inside_the_margin_is_equivalent():
    for wins, losses, ties in [(3, 2, 300), (10, 12, 500), (0, 0, 90), (1, 0, 200)]:
        found = paired_test(*binary_pair(wins, losses, ties), binary=True, margin=0.06)
        assert -0.06 < found.low and found.high < 0.06
        assert found.equivalence_p < 0.05


@pytest.mark.parametrize(
    ("a", "b", "kind", "named"),
    [
        ([1, 0], [1, 0, 1], DoesNotPair, "shapes"),
        ([], [], DoesNotPair, "none of 0 rows"),
        ([math.nan, 1], [1, math.nan], DoesNotPair, "none of 2 rows"),
        ([1, math.inf], [1, 1], BadInput, "infinite"),
    ],
)
def test_what_does_not_pair_is_refused(a, b, kind, named):
    with pytest.raises(kind, match=named):
        paired_test(a, b, binary=False)


@pytest.mark.parametrize("margin", [0, -0.1, math.nan, math.inf])
def test_margin_must_mean_something(margin):
    with pytest.raises(BadInput, match="margin"):
        paired_test([1, 0], [0, 1], binary=True, margin=margin)


@pytest.mark.parametrize("seed", range(4))
def test_equivalence_of_numeric_scores_is_two_one_sided_permutation_tests_of_scipy(seed):
    a, margin = np.random.default_rng(seed).normal(0.5, 0.2, 9), 0.15
    b = a + np.random.default_rng(seed + 100).normal(0.02, 0.1, 9)

    def one_sided(shift, alternative):
        moved = (b - a + shift,)
        return permutation_test(moved, np.mean, permutation_type="samples", alternative=alternative, n_resamples=np.inf).pvalue

    wanted = max(one_sided(margin, "greater"), one_sided(-margin, "less"))
    assert paired_test(a, b, binary=False, margin=margin).equivalence_p == pytest.approx(wanted, abs=1e-9)
