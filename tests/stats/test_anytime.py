import ast
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_lab.errors import BadInput
from llmops_lab.stats import anytime
from llmops_lab.stats.anytime import FRACTIONS, PairedSequence

FULL = os.environ.get("LLMOPS_LAB_FULL") == "1"


def watched(differences, **options):
    sequence = PairedSequence(**options)
    for difference in differences:
        sequence.add(difference)
    return sequence


@settings(max_examples=40)
@given(
    differences=st.lists(st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1)), max_size=60),
    alpha=st.sampled_from([0.01, 0.05, 0.2]),
)
def test_decision_p_value_and_interval_never_disagree(differences, alpha):
    sequence = PairedSequence(alpha=alpha)
    lowest = 1.0
    for difference in differences:
        sequence.add(difference)
        low, high = sequence.interval
        assert sequence.decided == (low > 0 or high < 0) == (sequence.p_value < alpha)
        assert -1 <= low <= high <= 1
        assert sequence.p_value <= lowest
        lowest = sequence.p_value


@settings(max_examples=30)
@given(differences=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=40), mean=st.floats(-0.95, 0.95))
def test_the_interval_is_what_the_bets_do_not_ruin(differences, mean):
    sequence = watched(differences)
    data = np.array(differences)
    above = np.mean([np.prod(1 + each * (data - mean) / (mean + 1)) for each in FRACTIONS])
    below = np.mean([np.prod(1 - each * (data - mean) / (1 - mean)) for each in FRACTIONS])
    kept = max(above, below) <= 2 / 0.05
    if not sequence.decided and min(abs(mean - sequence.low), abs(mean - sequence.high)) > 1e-6:
        assert kept == (sequence.low < mean < sequence.high)


def test_bounds_scale_with_the_unit():
    data = np.random.default_rng(0).uniform(-1, 1, size=80)
    small, large = watched(data), watched(data * 50, low=-50, high=50)
    assert large.low == pytest.approx(50 * small.low) and large.high == pytest.approx(50 * small.high)
    assert large.p_value == pytest.approx(small.p_value)


def test_swapping_the_sides_mirrors_the_interval():
    data = np.random.default_rng(1).choice([-1, 0, 1], p=[0.1, 0.6, 0.3], size=70)
    one, other = watched(data), watched(-data)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_value == pytest.approx(other.p_value)


def test_once_decided_it_stays_decided():
    sequence = PairedSequence()
    while not sequence.decided:
        sequence.add(1)
    low = sequence.low
    for _ in range(40):
        sequence.add(-1)
    assert sequence.decided and sequence.low == low > 0
    assert sequence.low <= sequence.high


def test_before_and_after_the_first_row():
    sequence = PairedSequence()
    assert (sequence.n, sequence.low, sequence.high, sequence.decided, sequence.p_value) == (0, -1, 1, False, 1.0)
    assert math.isnan(sequence.estimate) and sequence.spread() == 0 and sequence.counts() == (0, 0, 0)
    sequence.add(True)
    assert (sequence.n, sequence.estimate, sequence.counts()) == (1, 1.0, (1, 0, 0))
    assert sequence.low < 0 < sequence.high


def test_counts_and_spread():
    data = [0.5, -0.25, 0, 0, 1, -1, 0.5]
    sequence = watched(data)
    assert sequence.counts() == (3, 2, 2)
    assert sequence.spread() == pytest.approx(np.std(data, ddof=1))
    assert sequence.estimate == pytest.approx(np.mean(data))


def test_many_rows_do_not_overflow():
    sequence = watched([1, 1, 1, 0] * 3000)
    assert sequence.p_value == 0.0
    assert 0.7 < sequence.low < 0.75 < sequence.high < 0.8


@pytest.mark.parametrize("wrong", [1.5, -1.01, math.nan, math.inf])
def test_a_difference_outside_the_bounds_is_refused(wrong):
    sequence = PairedSequence()
    with pytest.raises(BadInput, match="outside"):
        sequence.add(wrong)
    assert sequence.n == 0


@pytest.mark.parametrize("wrong", [{"alpha": 0}, {"alpha": 2}, {"low": 0}, {"high": math.inf}, {"low": 1, "high": -1}])
def test_wrong_bounds_are_refused(wrong):
    with pytest.raises(BadInput):
        PairedSequence(**wrong)


def test_only_the_standard_library_is_needed():
    tree = ast.parse(Path(anytime.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name for name in modules if name.split(".")[0] not in sys.stdlib_module_names} == {"llmops_lab.errors"}


def stops(outcomes, mean=0.0):
    """First row at which ``mean`` leaves the interval, for an array (runs, rows) of differences; rows + 1 where it never does."""
    above, below = np.zeros(outcomes.shape), np.zeros(outcomes.shape)
    gain, other = (outcomes - mean) / (mean + 1), (mean - outcomes) / (1 - mean)
    with np.errstate(divide="ignore"):
        for fraction in FRACTIONS:
            above += np.exp(np.cumsum(np.log1p(fraction * np.maximum(gain, -1)), axis=1)) / len(FRACTIONS)
            below += np.exp(np.cumsum(np.log1p(fraction * np.maximum(other, -1)), axis=1)) / len(FRACTIONS)
    ruined = np.maximum(above, below) > 2 / 0.05
    return np.where(ruined.any(axis=1), ruined.argmax(axis=1) + 1, outcomes.shape[1] + 1)


def draw(rng, kind, runs, rows):
    if kind == "uniform":
        return rng.uniform(-1, 1, size=(runs, rows))
    if kind == "skewed":  # mean 0: nine small losses to one great win
        return np.where(rng.random((runs, rows)) < 0.1, 0.9, -0.1)
    share = {"few disagree": 0.05, "some disagree": 0.3, "all disagree": 1.0}[kind]
    return rng.choice([-1.0, 0.0, 1.0], p=[share / 2, 1 - share, share / 2], size=(runs, rows))


def test_the_vectorised_twin_stops_where_the_class_does():
    outcomes = np.random.default_rng(3).choice([-1.0, 0.0, 0.5, 1.0], p=[0.1, 0.4, 0.2, 0.3], size=(20, 120))
    for row, stop in zip(outcomes, stops(outcomes), strict=True):
        sequence, seen = PairedSequence(), 0
        while not sequence.decided and seen < len(row):
            sequence.add(row[seen])
            seen += 1
        assert (seen if sequence.decided else seen + 1) == stop


@pytest.mark.simulation
@pytest.mark.parametrize("kind", ["few disagree", "some disagree", "all disagree", "uniform", "skewed"])
def test_watching_every_row_decides_falsely_at_most_five_times_in_a_hundred(kind):
    runs = 10_000 if FULL else 1_000
    rng = np.random.default_rng(11)
    false = np.mean([stop <= 1_000 for _ in range(runs // 500) for stop in stops(draw(rng, kind, 500, 1_000))])
    assert false <= 0.05


@pytest.mark.simulation
@pytest.mark.parametrize(("win", "loss", "plain"), [(0.25, 0.05, 56), (0.30, 0.10, 76), (0.35, 0.15, 96), (0.20, 0.0, 37)])
def test_it_decides_about_as_early_as_a_test_planned_for_the_true_effect(win, loss, plain):
    """``plain``: rows that a single look needs for 80 % power, known only to who knows the effect (Connor 1987)."""
    rng = np.random.default_rng(12)
    runs = 5_000 if FULL else 500
    stopped = stops(rng.choice([-1.0, 0.0, 1.0], p=[loss, 1 - win - loss, win], size=(runs, 800)))
    assert (stopped <= 800).mean() > 0.99
    assert stopped.mean() < 1.25 * plain


@pytest.mark.simulation
def test_intervals_hold_the_true_mean_at_every_look():
    rng = np.random.default_rng(13)
    runs = 10_000 if FULL else 1_000
    drawn = [rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=(500, 600)) for _ in range(runs // 500)]
    assert np.mean([stop <= 600 for each in drawn for stop in stops(each, mean=0.2)]) <= 0.05


def test_the_vectorised_twin_leaves_a_mean_where_the_class_does():
    outcomes = np.random.default_rng(14).choice([-1.0, 0.0, 1.0], p=[0.1, 0.4, 0.5], size=(5, 60))
    for row, stop in zip(outcomes, stops(outcomes, mean=-0.1), strict=True):
        sequence, left = PairedSequence(), len(row) + 1
        for seen, difference in enumerate(row, start=1):
            sequence.add(difference)
            if sequence.low > -0.1:
                left = seen
                break
        assert left == stop
