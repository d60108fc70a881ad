"""Calibration: exact where it can be, by simulation where intervals must cover and the correction must not be biased."""

import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_lab.errors import BadInput
from llmops_lab.stats.calibration import calibrate
from llmops_lab.stats.corrected import (
    Rates,
    moved_mean,
    powered_difference,
    powered_mean,
    rogan_gladen,
    rogan_gladen_difference,
)
from llmops_lab.stats.intervals import t_interval, wilson

NAN = math.nan
FULL = os.environ.get("LLMOPS_LAB_FULL") == "1"
RUNS = 5000 if FULL else 1500


def judged(rng, truth, sensitivity, specificity):
    return np.where(truth == 1, rng.random(truth.shape) < sensitivity, rng.random(truth.shape) >= specificity).astype(float)


def some_told(values, count):
    told = np.full(len(values), NAN)
    told[:count] = values[:count]
    return told


# -- exact ---------------------------------------------------------------------------------------------------------------------
def test_a_calibration_says_what_the_four_counts_say():
    labels, scores = [1] * 50 + [0] * 50, [1] * 40 + [0] * 10 + [1] * 5 + [0] * 45
    found = calibrate(labels, scores)
    assert found.rates == Rates(hits=40, positives=50, passes=45, negatives=50)
    assert (found.sensitivity, found.specificity) == (wilson(40, 50), wilson(45, 50))
    assert found.agreement.value == pytest.approx((0.85 - 0.5) / 0.5) and found.agreement.metric == "cohen"
    assert found.error.value == pytest.approx(-0.05)
    assert found.corrected.raw == pytest.approx(0.45)


def test_where_all_is_labelled_the_corrected_mean_is_that_of_the_labels():
    rng = np.random.default_rng(1)
    truth = (rng.random(80) < 0.4).astype(float)
    found = calibrate(truth, judged(rng, truth, 0.8, 0.7)).corrected
    expected = wilson(truth.sum(), 80)
    assert (found.value, found.low, found.high) == pytest.approx((truth.mean(), expected.low, expected.high))
    marks = rng.normal(3, 1, 80)
    numeric, plain = powered_mean(marks, marks + rng.normal(1, 1, 80)), t_interval(marks)
    assert (numeric.value, numeric.low, numeric.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_a_judge_that_knows_nothing_gets_no_weight_and_a_perfect_one_all():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=2000)
    useless = powered_mean(some_told(truth, 200), rng.normal(5, 1, 2000))
    alone = t_interval(truth[:200])
    assert useless.value == pytest.approx(alone.value, abs=0.02) and (useless.low, useless.high) == pytest.approx(
        (alone.low, alone.high), abs=0.03
    )
    perfect = powered_mean(some_told(truth, 200), truth + 2)
    assert perfect.value == pytest.approx(truth.mean(), abs=2e-3) and perfect.raw == pytest.approx(truth.mean() + 2)
    assert perfect.high - perfect.low < (alone.high - alone.low) / 2
    assert "error was the same" in perfect.reason


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 40), st.integers(0, 40))
def test_rogan_gladen_gives_the_share_of_true_items_back_where_the_rates_are_exactly_so(hits, misses, passes, alarms):
    rates = Rates(hits, hits + misses, passes, passes + alarms)
    if rates.youden <= 0.05:
        return
    share = 0.3  # 1,000 items of which 300 are true, judged exactly at these rates
    positive = share * hits / rates.positives + (1 - share) * alarms / rates.negatives
    scores = np.zeros(1_000_000)
    scores[: round(positive * len(scores))] = 1
    found = rogan_gladen(rates, scores)
    assert found.value == pytest.approx(share, abs=2e-5)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_rogan_gladens_interval_is_that_of_drawn_rates():
    """Against an answer got in another way: rates and share drawn from their Beta posteriors."""
    rng = np.random.default_rng(3)
    rates, scores = Rates(170, 200, 270, 300), np.r_[np.ones(400), np.zeros(600)]
    found = rogan_gladen(rates, scores)
    right, passed, share = rng.beta(171, 31, 200_000), rng.beta(271, 31, 200_000), rng.beta(401, 601, 200_000)
    low, high = np.quantile((share + passed - 1) / (right + passed - 1), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)


def test_few_labels_that_all_agree_are_no_certainty():
    scores = np.r_[np.ones(300), np.zeros(300)]
    shuffled = np.random.default_rng(4).permutation(scores)
    few, many = powered_mean(some_told(shuffled, 20), shuffled), powered_mean(some_told(shuffled, 300), shuffled)
    assert few.high - few.low > 0.15 > many.high - many.low
    elsewhere = rogan_gladen(Rates(10, 10, 10, 10), scores)
    assert elsewhere.value == 0.5 and elsewhere.high - elsewhere.low > 0.2


def test_labels_that_are_all_the_same_are_no_certainty():
    scores = np.random.default_rng(4).permutation(np.r_[np.ones(60), np.zeros(40)])
    ones, zeros = some_told(np.ones(100), 10), some_told(np.zeros(100), 10)
    for found in (powered_mean(ones, scores), powered_mean(ones, np.ones(100))):
        assert (found.value, found.low, found.high) == (1, pytest.approx(wilson(10, 10).low), 1)
        assert found.needed(0.05) > 10 and found.needed(0.5) == 0
    repeated = powered_mean(np.ones(20), np.ones(20), clusters=np.repeat(range(5), 4).tolist())
    assert repeated.low == pytest.approx(wilson(5, 5).low)
    apart = wilson(10, 10).low
    same, turned = powered_difference(ones, ones, scores, scores), powered_difference(zeros, ones, scores, scores)
    assert (same.low, same.high) == pytest.approx((apart - 1, 1 - apart))
    assert turned.value == turned.high == 1 and turned.low == pytest.approx(1 - math.sqrt(2) * (1 - apart))
    mixed = some_told(np.r_[np.zeros(5), np.ones(95)], 10)
    assert powered_difference(mixed, ones, scores, scores).high - powered_difference(mixed, ones, scores, scores).low > 0.6
    for found in (powered_mean(3 * ones, scores), powered_difference(3 * ones, 4 * ones, scores, scores)):
        assert "all labels of a side are the same" in found.reason


def test_scores_that_differ_alike_in_all_rows_are_no_certainty():
    rates, scores = Rates(40, 50, 45, 50), np.r_[np.ones(10), np.zeros(10)]
    same, turned = rogan_gladen_difference(rates, scores, scores), rogan_gladen_difference(rates, np.zeros(20), np.ones(20))
    assert same.value == 0 and same.low < -0.1 and same.high > 0.1
    assert turned.value == turned.high == 1 and turned.low < 0.95
    few = rogan_gladen_difference(rates, scores, scores, clusters=[0, 1] * 10)
    assert few.high > same.high


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        (Rates(0, 0, 9, 10), "no labelled item true"),
        (Rates(9, 10, 0, 0), "every labelled item true"),
        (Rates(2, 10, 2, 10), "no better than a guess"),
    ],
)
def test_a_judge_whose_errors_cannot_be_taken_out_gives_no_mean_and_says_why(rates, said):
    for found in (rogan_gladen(rates, [0, 1, 1]), rogan_gladen_difference(rates, [0, 1, 1], [1, 1, 0])):
        assert math.isnan(found.value) and said in found.reason and found.raw == pytest.approx(found.raw)
        assert found.needed(0.05) is None


def test_a_judge_not_shown_to_be_better_than_a_guess_gets_the_widest_bounds():
    for rates in (Rates(3, 5, 3, 5), Rates(1, 1, 1, 4)):  # of the second the smoothed rates are those of a guess
        mean, difference = rogan_gladen(rates, [0, 1, 1, 0]), rogan_gladen_difference(rates, [0, 1, 1, 0], [1, 1, 1, 0])
        assert (mean.low, mean.high) == (0, 1) and (difference.low, difference.high) == (-1, 1)
        assert "so few labels" in mean.reason and "so few labels" in difference.reason


def test_scores_that_are_missing_are_counted_and_left_out():
    found = calibrate([1, 0, 1, 0, NAN], [1, 0, NAN, 0, 1])
    assert found.unscored == 1 and found.agreement.n == 3 and found.corrected.scored == 4
    with pytest.raises(BadInput, match="2 are labelled, 1 scored"):
        calibrate([1, 0, NAN], [NAN, NAN, 1])


def test_numbers_are_held_against_numbers():
    found = calibrate([1, 2, 3, 4, 5], [1.5, 2.5, 3.0, 4.5, 5.5])
    assert found.sensitivity is None and found.rates is None
    assert found.agreement.metric == "weighted" and found.agreement.level == "interval"
    assert found.error.value == pytest.approx(0.4)
    elsewhere = calibrate([1, 2, 3, 4, 5], [1.5, 2.5, 3.0, 4.5, 5.5], elsewhere=[4.4, 2.4, NAN])
    assert elsewhere.corrected.value == pytest.approx(3.0) and elsewhere.corrected.scored == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda: powered_mean([1, 0], [1]),
        lambda: powered_mean([1, 0], [1, NAN]),
        lambda: powered_mean([1, 0, 1], [1, 0, 0], clusters=["a"]),
        lambda: powered_difference([1, 0], [1, 0, 1], [1, 0], [1, 0, 1]),
        lambda: rogan_gladen(Rates(1, 2, 1, 2), [0.5, 1]),
        lambda: rogan_gladen_difference(Rates(1, 2, 1, 2), [0, 1], [1]),
        lambda: calibrate([1, 0], [1]),
    ],
)
def test_what_does_not_fit_together_is_refused(call):
    with pytest.raises(BadInput):
        call()


def test_one_labelled_item_gives_no_interval():
    assert "two labelled items" in powered_mean([1, NAN], [1, 0]).reason
    assert "on each side" in powered_difference([1, 0], [1, NAN], [1, 0], [1, 0]).reason


def test_a_paired_difference_with_every_label_is_the_labels_own():
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, 1, 60), rng.normal(0.5, 1, 60)
    found, plain = powered_difference(a, b, rng.normal(size=60), rng.normal(size=60)), t_interval(b - a)
    assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_labels_needed_are_none_when_the_interval_is_there_and_none_can_do_when_the_scores_themselves_are_too_few():
    narrow = calibrate([0, 1] * 2000, [0, 1] * 2000).corrected
    assert narrow.needed(0.05) == 0
    assert rogan_gladen(Rates(900, 1000, 900, 1000), [0, 1] * 10).needed(0.05) is None


def test_repeats_that_say_the_same_are_worth_one():
    """Each row three times, the same each time: as sure as each row once."""
    rng = np.random.default_rng(6)
    truth = (rng.random(200) < 0.4).astype(float)
    scores, other = judged(rng, truth, 0.9, 0.8), judged(rng, truth, 0.8, 0.9)
    told = some_told(truth, 50)
    rows, rates = np.tile(np.arange(200), 3).tolist(), Rates(45, 50, 40, 50)
    once = [
        powered_mean(told, scores),
        powered_difference(told, told, scores, other),
        rogan_gladen(rates, scores),
        rogan_gladen_difference(rates, scores, other),
        moved_mean(scores[:50] - truth[:50] + 0.1, scores),
    ]
    told, scores, other = (np.tile(each, 3) for each in (told, scores, other))
    thrice = [
        powered_mean(told, scores, clusters=rows),
        powered_difference(told, told, scores, other, clusters=rows),
        rogan_gladen(rates, scores, clusters=rows),
        rogan_gladen_difference(rates, scores, other, clusters=rows),
        moved_mean(scores[:50] - truth[:50] + 0.1, scores, clusters=rows),
    ]
    for single, repeated in zip(once, thrice, strict=True):
        assert repeated.value == pytest.approx(single.value)
        assert repeated.high - repeated.low == pytest.approx(single.high - single.low, rel=0.06)


# -- simulated -----------------------------------------------------------------------------------------------------------------
def held(truth, estimates):
    return np.mean([each.low <= truth <= each.high for each in estimates]), np.mean([each.value for each in estimates])


def means(kind, rng):
    if kind == "true/false":
        truth = (rng.random(500) < 0.3).astype(float)
        return powered_mean(some_told(truth, 60), judged(rng, truth, 0.9, 0.8)), 0.3
    if kind == "rare":
        truth = (rng.random(1000) < 0.2).astype(float)
        return powered_mean(some_told(truth, 120), judged(rng, truth, 0.9, 0.9)), 0.2
    if kind == "numbers":
        truth = rng.normal(3, 1, 600)
        return powered_mean(some_told(truth, 60), 0.8 * truth + 1 + rng.normal(0, 0.5, 600)), 3.0
    if kind == "repeats":  # five of a row
        rows = np.repeat(np.arange(120), 5)
        truth = 3 + rng.normal(0, 1, 120)[rows] + rng.normal(0, 0.5, 600)
        scores = 0.8 * truth + 1 + rng.normal(0, 0.5, 120)[rows]
        return powered_mean(some_told(truth, 100), scores, clusters=rows.tolist()), 3.0
    truth = (rng.random(800) < 0.3).astype(float)  # labels from a set with twice as many true items
    rates = Rates(int(rng.binomial(60, 0.9)), 60, int(rng.binomial(40, 0.8)), 40)
    return rogan_gladen(rates, judged(rng, truth, 0.9, 0.8)), 0.3


@pytest.mark.simulation
@pytest.mark.parametrize("kind", ["true/false", "rare", "numbers", "repeats", "elsewhere"])
def test_corrected_means_cover_and_are_unbiased_where_the_judges_are_not(kind):
    rng = np.random.default_rng(51)
    drawn = [means(kind, rng) for _ in range(RUNS)]
    estimates, truth = [each for each, _ in drawn], drawn[0][1]
    covered, centre = held(truth, estimates)
    assert 0.93 <= covered <= 0.97
    error = np.std([each.value for each in estimates]) / math.sqrt(RUNS)
    assert abs(centre - truth) < (0.012 if kind == "elsewhere" else 4 * error)  # a ratio of estimates has a bias of order 1/n
    assert abs(np.mean([each.raw for each in estimates]) - truth) > 0.05


def difference(kind, rng):
    ease = rng.random(500) * 0.8
    a, b = (rng.random(500) < ease).astype(float), (rng.random(500) < np.minimum(ease + 0.15, 1)).astype(float)
    scored_a, scored_b = judged(rng, a, 0.9, 0.85), judged(rng, b, 0.95, 0.70)  # it favours b
    if kind == "same rows":
        return powered_difference(some_told(a, 60), some_told(b, 60), scored_a, scored_b)
    if kind == "other rows":
        told = np.full(500, NAN)
        told[60:120] = b[60:120]
        return powered_difference(some_told(a, 60), told, scored_a, scored_b)
    rates = Rates(int(rng.binomial(60, 0.9)), 60, int(rng.binomial(60, 0.85)), 60)
    return rogan_gladen_difference(rates, scored_a, judged(rng, b, 0.9, 0.85))


@pytest.mark.simulation
@pytest.mark.parametrize("kind", ["same rows", "other rows", "elsewhere"])
def test_corrected_paired_differences_cover_and_are_unbiased_where_the_judges_are_not(kind):
    rng = np.random.default_rng(52)
    estimates = [difference(kind, rng) for _ in range(RUNS)]
    covered, centre = held(0.15, estimates)
    assert 0.93 <= covered <= 0.97
    assert abs(centre - 0.15) < 0.008
    assert abs(np.mean([each.raw for each in estimates]) - 0.15) > 0.03


@pytest.mark.simulation
def test_numbers_moved_by_the_mean_error_cover():
    rng = np.random.default_rng(53)
    estimates = [moved_mean(rng.normal(0.4, 0.6, 50), rng.normal(3.4, 1, 400)) for _ in range(RUNS)]
    covered, centre = held(3.0, estimates)
    assert 0.93 <= covered <= 0.97 and abs(centre - 3) < 0.01


@pytest.mark.simulation
def test_as_many_labels_more_as_were_said_give_the_interval_that_was_asked_for():
    rng = np.random.default_rng(54)
    reached = []
    for _ in range(100):
        truth = (rng.random(6000) < 0.3).astype(float)
        scores = judged(rng, truth, 0.9, 0.85)
        more = powered_mean(some_told(truth, 80), scores).needed(0.04)
        found = powered_mean(some_told(truth, 80 + more), scores)
        reached.append((found.high - found.low) / 2)
    assert np.median(reached) == pytest.approx(0.04, rel=0.05)
