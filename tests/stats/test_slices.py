import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact
from statsmodels.stats.multitest import multipletests

from llmops_lab.errors import BadInput
from llmops_lab.stats.discordant import mcnemar
from llmops_lab.stats.flips import fisher, flip_kind
from llmops_lab.stats.multiple import benjamini_hochberg
from llmops_lab.stats.paired import paired_test
from llmops_lab.stats.slices import Group, find_slices

P_VALUES = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.025, 0.05, 1.0])), min_size=1, max_size=30)


@given(p_values=P_VALUES)
def test_q_values_agree_with_statsmodels(p_values):
    assert benjamini_hochberg(p_values) == pytest.approx(list(multipletests(p_values, method="fdr_bh")[1]), abs=1e-9)


def groups_of(rng, rows, count):
    """Overlapping groups, as metadata and words make them: some large, some small, some inside another."""
    made = [Group("word", str(number), rng.random(rows) < rng.uniform(0.05, 0.6)) for number in range(count)]
    inside = [Group("word", f"in {each.name}", each.rows & (rng.random(rows) < 0.7)) for each in made[::3]]
    return [*made, *inside]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("planted", [0, 3])
def test_the_false_discovery_rate_holds(binary, planted):
    """Of what is reported at q = 0.2 at most a fifth is chance, on average over many grids; and what was planted is found."""
    level, false_share, found_planted, trials = 0.2, [], 0, 300 if binary else 120
    rng = np.random.default_rng(7)
    for trial in range(trials):
        rows = 150
        groups = groups_of(rng, rows, 24)
        effect = np.zeros(rows, dtype=bool)
        for _ in range(planted):
            mask = np.zeros(rows, dtype=bool)
            mask[rng.choice(rows, 30, replace=False)] = True
            groups.append(Group("planted", str(len(groups)), mask))
            effect |= mask
        # A group is truly without an effect only where none of its rows has one.
        if binary:
            a, b = (rng.random(rows) < 0.5).astype(float), (rng.random(rows) < 0.5).astype(float)
            b[effect & (rng.random(rows) < 0.85)] = 1.0
        else:
            a, b = rng.exponential(1.0, rows), rng.exponential(1.0, rows) + 1.2 * effect
        (slices,) = find_slices([(a, b, groups)], binary=binary, fdr=level, seed=trial)
        reported = [each for each in slices if each.found]
        null = sum(not (each.group.rows & effect).any() for each in reported)
        false_share.append(null / len(reported) if reported else 0.0)
        found_planted += sum(each.group.kind == "planted" for each in reported)
    error = np.std(false_share) / np.sqrt(trials)
    assert np.mean(false_share) <= level + 2.6 * error
    if planted:
        assert found_planted > 0.8 * planted * trials
    else:
        assert np.mean(false_share) > 0  # it does report something now and then: the bound is not held by silence


def test_a_slice_is_tested_as_the_whole_would_be():
    rng = np.random.default_rng(1)
    a, b = (rng.random(80) < 0.6).astype(float), (rng.random(80) < 0.4).astype(float)
    mask = np.arange(80) < 50
    ((one,),) = find_slices([(a, b, [Group("half", "first", mask)])], binary=True)
    whole = paired_test(a[mask], b[mask], binary=True)
    assert (one.p_value, *one.interval(), one.delta) == pytest.approx((whole.p_value, whole.low, whole.high, whole.delta))
    assert (one.up, one.down, one.level, one.n) == (whole.up, whole.down, whole.level, 50)
    assert one.q_value == pytest.approx(mcnemar(one.up, one.down)) and one.rest == pytest.approx((b - a)[~mask].mean())


def test_sign_flips_agree_with_the_test_of_the_whole():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=60), rng.normal(0.35, 1, size=60)
    mask = np.arange(60) < 40
    ((one,),) = find_slices([(a, b, [Group("half", "first", mask)])], binary=False)
    whole = paired_test(a[mask], b[mask], binary=False)
    assert one.p_value == pytest.approx(whole.p_value, abs=0.02)
    assert one.interval() == pytest.approx((whole.low, whole.high), abs=0.1)


def test_numbers_that_all_differ_alike_have_no_interval():
    a, b = np.arange(40.0), np.arange(40.0) + 0.5
    ((one,),) = find_slices([(a, b, [Group("half", "first", np.arange(40) < 20)])], binary=False)
    assert one.delta == 0.5 and one.found and np.isnan(one.interval()).all()


def test_groups_of_the_same_rows_are_one_test_and_what_cannot_be_found_is_none():
    rows = 100
    mask = np.arange(rows) < 40
    a, b = np.zeros(rows), np.zeros(rows)
    b[:30] = 1.0
    few = np.arange(rows) >= 60
    everything, tiny = np.ones(rows, dtype=bool), np.arange(rows) < 4
    groups = [Group("queue", "refund", mask), Group("word", "money", mask.copy()), Group("queue", "quiet", few)]
    groups += [Group("word", "all", everything), Group("word", "tiny", tiny)]
    (found,) = find_slices([(a, b, groups)], binary=True)
    assert [(each.group.name, each.found) for each in found] == [("refund", True), ("quiet", False)]
    assert [each.name for each in found[0].also] == ["money"] and found[0].q_value == found[0].p_value
    assert found[1].p_value is None and found[1].q_value is None and found[1].n == 40


def test_a_slice_that_is_as_the_rest_is_told_from_one_that_is_not():
    rng = np.random.default_rng(6)
    a, b = np.zeros(300), (rng.random(300) < 0.4).astype(float)  # better everywhere
    half, bad = np.arange(300) % 2 == 0, np.arange(300) < 40
    a[bad], b[bad] = 1.0, 0.0
    (found,) = find_slices([(a, b, [Group("g", "half", half), Group("g", "bad", bad)])], binary=True)
    assert [(each.group.name, each.found, each.unlike) for each in found] == [("bad", True, True), ("half", True, False)]
    assert found[0].delta == -1.0 and found[0].rest == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("binary", [True, False])
def test_groups_that_are_as_the_rest_are_seldom_called_unlike(binary):
    rng, level, trials = np.random.default_rng(8), 0.2, 150
    wrong = 0
    for trial in range(trials):
        a = (rng.random(120) < 0.3).astype(float) if binary else rng.exponential(1.0, 120)
        b = (rng.random(120) < 0.7).astype(float) if binary else rng.exponential(2.0, 120)
        (slices,) = find_slices([(a, b, groups_of(rng, 120, 12))], binary=binary, fdr=level, seed=trial)
        wrong += any(each.unlike for each in slices)  # none is: with no true find, this share is the false discovery rate
    assert wrong / trials <= level + 2.6 * np.sqrt(level * (1 - level) / trials)


def test_missing_scores_are_in_no_slice_and_no_rows_are_no_error():
    a, b = np.array([np.nan] * 20 + [0.0] * 40), np.array([1.0] * 60)
    ((one,),) = find_slices([(a, b, [Group("half", "first", np.arange(60) < 40)])], binary=True)
    assert (one.n, one.up) == (20, 20)
    assert find_slices([(a, b, [])], binary=True) == [[]]
    assert find_slices([([np.nan], [1.0], [Group("g", "x", np.array([True]))])], binary=True) == [[]]


def test_several_pairs_share_the_level():
    rng = np.random.default_rng(3)
    a, b, mask = np.zeros(60), (rng.random(60) < 0.3).astype(float), np.arange(60) < 30
    alone = find_slices([(a, b, [Group("g", "x", mask)])], binary=True)[0][0]
    first, second = find_slices([(a, b, [Group("g", "x", mask)]), (a, a, [Group("g", "x", mask)])], binary=True)
    assert first[0].q_value == pytest.approx(alone.p_value) and second[0].p_value is None  # what is not tested costs nothing


@pytest.mark.parametrize("wrong", [0, 0.6, True, "x"])
def test_a_wrong_level_is_refused(wrong):
    with pytest.raises(BadInput, match="fdr"):
        find_slices([], binary=True, fdr=wrong)


@pytest.mark.parametrize("binary", [True, False])
def test_many_rows_and_groups_are_no_trouble(binary):
    rng = np.random.default_rng(4)
    a, b = rng.random(10_000), rng.random(10_000)
    a, b = (a.round(), b.round()) if binary else (a, b)
    (found,) = find_slices([(a, b, groups_of(rng, 10_000, 150))], binary=binary)
    assert len(found) == 200 and all(0 < each.p_value <= 1 for each in found)


@given(n=st.integers(1, 8), m=st.integers(1, 8), data=st.data())
def test_fisher_agrees_with_scipy(n, m, data):
    k, j = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    assert fisher(k, n, j, m) == pytest.approx(fisher_exact([[k, n - k], [j, m - j]])[1])


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        ([True], [False], "unknown: one replicate"),
        ([True], [True], None),
        ([True, True, True], [False], "unknown: one replicate"),
        ([True, True], [False, False], "change"),
        ([True, True, True], [False, True, False], "noise"),
        ([True, False], [False, True], None),
        ([True] * 10, [False] * 9 + [True], "change"),
        ([True] * 5, [True] * 3 + [False] * 2, "noise"),
        ([], [True], None),
    ],
)
def test_whether_a_flip_repeats(a, b, kind):
    assert flip_kind(a, b) == kind


def test_rows_that_are_a_coin_toss_on_both_sides_seldom_count_as_changed():
    rng = np.random.default_rng(5)
    for replicates, most in ((2, 0.125), (3, 0.03125), (5, 0.03), (10, 0.05)):
        drawn = [flip_kind(list(rng.random(replicates) < 0.5), list(rng.random(replicates) < 0.5)) for _ in range(4000)]
        assert drawn.count("change") / 4000 < most + 0.015
