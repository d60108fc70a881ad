"""Agreement against statsmodels, against published examples, against plain loops, and against what must not matter."""

import itertools
import math
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

import llmops_lab as lab
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.stats.agreement import agreement

NAN = math.nan
FULL = os.environ.get("LLMOPS_LAB_FULL") == "1"
# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), part C: 4 observers, 12 units, values missing.
FOUR = pd.DataFrame(
    {
        "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        "C": [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    }
)
# The example of the English Wikipedia's article: 3 raters, 15 units, 41 % missing.
THREE = pd.DataFrame(
    {
        "A": [NAN, NAN, NAN, NAN, NAN, 3, 4, 1, 2, 1, 1, 3, 3, NAN, 3],
        "B": [1, NAN, 2, 1, 3, 3, 4, 3, NAN, NAN, NAN, NAN, NAN, NAN, NAN],
        "C": [NAN, NAN, 2, 1, 3, 4, 4, NAN, 2, 1, 1, 3, 3, NAN, 4],
    }
)


def quick(table, metric="krippendorff", level=None, **options):
    return agreement(table, metric, level, resamples=200, **options)


@pytest.mark.parametrize(
    ("table", "level", "published", "items"),
    [
        (FOUR, "nominal", 0.743, 11),
        (FOUR, "ordinal", 0.815, 11),
        (FOUR, "interval", 0.849, 11),
        (THREE, "nominal", 0.691, 12),
        (THREE, "interval", 0.811, 12),
        (pd.DataFrame({"a": [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], "b": [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]}), "nominal", 0.095, 10),
    ],
)
def test_krippendorff_gives_the_published_values(table, level, published, items):
    found = lab.agreement(table, metric="krippendorff", level=level)
    assert round(found.value, 3) == published
    assert found.low <= found.value <= found.high
    assert (found.n, found.metric, found.level, found.raters) == (items, "krippendorff", level, table.shape[1])


def test_fleiss_gives_the_published_value():
    """Fleiss 1971 as in the English Wikipedia's article: 14 raters, 10 items, 5 categories, kappa 0.210."""
    counts = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1], [7, 7, 0, 0, 0], [3, 2, 6, 3, 0],
              [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]  # fmt: skip
    table = pd.DataFrame([np.repeat(np.arange(5), line) for line in counts])
    assert round(quick(table, "fleiss").value, 3) == 0.210


def ratings(raters, values=4, items=25, missing=False):
    cell = st.integers(0, values - 1)
    if missing:
        cell = st.one_of(st.none(), cell)
    return st.lists(st.lists(cell, min_size=raters, max_size=raters), min_size=2, max_size=items).map(
        lambda lines: pd.DataFrame(lines, columns=[f"r{number}" for number in range(raters)], dtype=object)
    )


def same(found, expected):
    if math.isnan(expected) or math.isnan(found):
        return math.isnan(expected) and math.isnan(found)
    return found == pytest.approx(expected, abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(ratings(2))
def test_kappas_of_two_raters_are_those_of_statsmodels(table):
    counts = np.zeros((4, 4))
    np.add.at(counts, (table["r0"].astype(int), table["r1"].astype(int)), 1)
    for metric, level, weights in [("cohen", None, None), ("weighted", "ordinal", "linear"), ("weighted", "interval", "quadratic")]:
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = cohens_kappa(counts, wt=weights, return_results=False)
        order = None if level == "interval" else [0, 1, 2, 3]
        assert same(quick(table, metric, level, order=order).value, expected)


@settings(max_examples=80, deadline=None)
@given(ratings(5))
def test_fleiss_is_that_of_statsmodels(table):
    found = quick(table, "fleiss")
    if table.to_numpy().min() == table.to_numpy().max():
        assert math.isnan(found.value)
    else:
        assert same(found.value, fleiss_kappa(aggregate_raters(table.to_numpy(dtype=int))[0]))


def by_loops(table, level):
    """Krippendorff's alpha as its definition: pairs within units against all pairs."""
    units = [[value for value in line if not pd.isna(value)] for line in table.to_numpy()]
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    count = {value: values.count(value) for value in values}

    def apart(a, b):
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return float(a - b) ** 2
        a, b = min(a, b), max(a, b)
        return (sum(count.get(value, 0) for value in range(a, b + 1)) - (count[a] + count[b]) / 2) ** 2

    observed = sum(apart(a, b) / (len(unit) - 1) for unit in units for a, b in itertools.permutations(unit, 2))
    expected = sum(apart(a, b) for a, b in itertools.permutations(values, 2))
    return 1 - (len(values) - 1) * observed / expected if expected else NAN


@settings(max_examples=80, deadline=None)
@given(ratings(3, values=5, items=9, missing=True), st.sampled_from(["nominal", "ordinal", "interval"]))
def test_krippendorff_is_its_definition(table, level):
    assert same(quick(table, level=level).value, by_loops(table, level))


@settings(max_examples=40, deadline=None)
@given(ratings(3, missing=True), st.permutations([0, 1, 2]), st.randoms(use_true_random=False))
def test_neither_the_order_of_raters_nor_that_of_items_matters(table, order, shuffle):
    lines = list(range(len(table)))
    shuffle.shuffle(lines)
    other = table.iloc[lines, order]
    for level in ("nominal", "ordinal", "interval"):
        assert same(quick(other, level=level).value, quick(table, level=level).value)


@settings(max_examples=40, deadline=None)
@given(ratings(2))
def test_new_names_for_the_values_change_nothing_that_their_level_does_not_know(table):
    words = table.map({0: "pear", 1: "apple", 2: "fig", 3: "date"}.get)
    stretched = table.map({0: -7, 1: 1, 2: 30, 3: 31}.get)
    moved = table.map(lambda value: 1e6 + 3.0 * value)
    ranks = ["pear", "apple", "fig", "date"]
    for metric in ("cohen", "fleiss", "krippendorff"):
        assert same(quick(words, metric).value, quick(table, metric).value)
    for metric in ("weighted", "krippendorff"):
        assert same(quick(stretched, metric, "ordinal").value, quick(table, metric, "ordinal").value)
        assert same(quick(words, metric, "ordinal", order=ranks).value, quick(table, metric, "ordinal", order=[0, 1, 2, 3]).value)
        assert same(quick(moved, metric, "interval").value, quick(table, metric, "interval").value)


@settings(max_examples=30, deadline=None)
@given(ratings(2))
def test_every_item_twice_leaves_the_kappas_as_they_are(table):
    twice = pd.concat([table, table])
    for metric in ("cohen", "weighted", "fleiss"):
        assert same(quick(twice, metric).value, quick(table, metric).value)


def noisy(items, raters=2, right=0.85, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, items)
    return pd.DataFrame({f"r{each}": np.where(rng.random(items) < right, truth, 1 - truth) for each in range(raters)})


def test_the_same_seed_gives_the_same_interval_and_more_items_a_narrower_one():
    first, again, other = (agreement(noisy(80), "cohen", seed=seed) for seed in (1, 1, 2))
    assert first == again and (first.low, first.high) != (other.low, other.high)
    wide, narrow = agreement(noisy(80), "cohen"), agreement(pd.concat([noisy(80)] * 4), "cohen")
    assert (narrow.high - narrow.low) == pytest.approx((wide.high - wide.low) / 2, rel=0.15)


def test_a_stricter_level_of_error_widens_the_interval():
    usual, strict = agreement(noisy(80), "cohen"), agreement(noisy(80), "cohen", alpha=0.01)
    assert strict.low < usual.low and strict.high > usual.high and strict.alpha == 0.01


def test_the_interval_is_near_that_of_large_samples():
    table = noisy(600)
    normal = cohens_kappa(pd.crosstab(table["r0"], table["r1"]).to_numpy())
    found = agreement(table, "cohen")
    assert found.low == pytest.approx(normal.kappa_low, abs=0.015) and found.high == pytest.approx(normal.kappa_upp, abs=0.015)


@pytest.mark.parametrize("metric", ["cohen", "weighted", "fleiss", "krippendorff"])
def test_agreement_about_one_single_value_is_undefined_and_says_why(metric):
    found = quick(pd.DataFrame({"ann": [1, 1, 1], "bob": [1, 1, 1]}), metric)
    assert math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)
    assert "every rating is 1" in found.reason and "undefined" in repr(found)


def test_no_item_with_two_ratings_is_undefined_and_says_why():
    found = quick(pd.DataFrame({"ann": [1, NAN], "bob": [NAN, 2]}))
    assert math.isnan(found.value) and found.n == 0 and "two raters" in found.reason


def test_perfect_agreement_on_few_items_is_not_certain():
    few, many = (quick(pd.DataFrame({"ann": [0, 1] * n, "bob": [0, 1] * n}), "cohen") for n in (4, 100))
    assert few.value == many.value == 1.0 == few.high
    assert few.low < 0.4 < 0.9 < many.low < 1
    assert "all items agree" in few.reason


def test_one_item_has_no_interval_and_rare_values_are_named():
    one = quick(pd.DataFrame({"ann": [1], "bob": [2]}))
    assert one.n == 1 and math.isnan(one.low)
    rare = quick(pd.DataFrame({"ann": [1] * 20, "bob": [1] * 19 + [2]}))
    assert "resamples" in rare.reason


def test_a_rater_who_gives_one_value_only_leaves_no_interval():
    for other in ([0] * 10, [1, 0] * 5):
        found = agreement(pd.DataFrame({"always": [1] * 10, "other": other}), "cohen")
        assert found.value == pytest.approx(0) and math.isnan(found.low) and "one value only" in found.reason


def test_items_that_one_rater_left_out_do_not_count_for_two():
    table = pd.DataFrame({"ann": [1, 2, 1, 2, None], "bob": [1, 2, 2, 2, 1]}, dtype=object)
    found = quick(table, "cohen")
    assert found.n == 4 and same(found.value, quick(table.iloc[:4], "cohen").value)


def test_fleiss_takes_the_same_number_of_ratings_from_changing_raters():
    table = pd.DataFrame({"a": ["x", "y", None, "x"], "b": ["x", None, "y", "y"], "c": [None, "y", "x", None]})
    packed = pd.DataFrame({"one": ["x", "y", "y", "x"], "two": ["x", "y", "x", "y"]})
    assert same(quick(table, "fleiss").value, quick(packed, "fleiss").value)


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        (FOUR, {"metric": "cohen"}, "two raters, and the table has 4 (A, B, C, D)"),
        (FOUR, {"metric": "fleiss"}, "equally many ratings"),
        (FOUR[["A"]], {}, "two raters or more"),
        ([[1, 2]], {}, "DataFrame"),
        (FOUR[["A", "B"]], {"metric": "weighted", "level": "nominal"}, "level='ordinal'"),
        (FOUR[["A", "B"]], {"metric": "cohen", "level": "ordinal"}, "metric='weighted'"),
        (FOUR, {"metric": "fleiss", "level": "interval"}, "metric='krippendorff'"),
        (pd.DataFrame({"a": ["low"], "b": ["high"]}), {"level": "ordinal"}, "order="),
        (pd.DataFrame({"a": ["low"], "b": ["high"]}), {"level": "interval"}, "no numbers"),
        (pd.DataFrame({"a": ["low"], "b": ["high"]}), {"level": "ordinal", "order": ["low", "mid"]}, "'high'"),
        (FOUR, {"level": "ordinal", "order": [1, 2, 2, 3, 4, 5]}, "twice"),
        (pd.DataFrame({"a": [math.inf], "b": [1]}), {}, "infinite"),
        (pd.DataFrame({"a": [[1]], "b": [1]}), {}, "number or a text"),
        (FOUR, {"alpha": 5}, "alpha"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_type(table, options, said):
    with pytest.raises(BadInput) as caught:
        quick(table, **options)
    assert said in str(caught.value)


def test_unknown_metrics_and_levels_name_the_known_ones():
    with pytest.raises(UnknownName, match="krippendorff"):
        quick(FOUR, "kripendorf")
    with pytest.raises(UnknownName, match="ordinal"):
        quick(FOUR, level="ordinary")


@pytest.mark.simulation
@pytest.mark.parametrize(("items", "share", "right", "metric", "raters"), [(50, 0.5, 0.85, "cohen", 2), (60, 0.3, 0.9, "krippendorff", 3)])
def test_intervals_cover(items, share, right, metric, raters):
    rng = np.random.default_rng(41)

    def drawn(count):
        truth = rng.random(count) < share
        return pd.DataFrame({str(each): np.where(rng.random(count) < right, truth, ~truth) for each in range(raters)})

    true = quick(drawn(1_000_000), metric).value
    runs = 2000 if FULL else 600
    covered = 0
    for run in range(runs):
        found = agreement(drawn(items), metric, seed=run, resamples=999)
        covered += found.low <= true <= found.high
    assert 0.93 <= covered / runs <= 0.97
