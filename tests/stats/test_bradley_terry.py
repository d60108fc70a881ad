"""Strengths against a published fit, against logistic regression, against the likelihood maximised by scipy, and by simulation."""

import math
import os

import numpy as np
import pytest
import statsmodels.api
from scipy.optimize import minimize

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.stats.bradley_terry import bradley_terry

FULL = os.environ.get("LLMOPS_LAB_FULL") == "1"
# Agresti, Categorical Data Analysis (2002), table 10.10: baseball, American League 1987; line i beat column j so often.
TEAMS = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
WON = [[0, 7, 9, 7, 7, 9, 11], [6, 0, 7, 5, 11, 9, 9], [4, 6, 0, 7, 7, 8, 12], [6, 8, 6, 0, 6, 7, 10], [6, 2, 6, 7, 0, 7, 12],
       [4, 4, 5, 6, 6, 0, 6], [2, 4, 1, 3, 1, 7, 0]]  # fmt: skip


def season():
    games = [(TEAMS[i], TEAMS[j]) for i in range(7) for j in range(7) for _ in range(WON[i][j])]
    return [first for first, _ in games], [second for _, second in games], [1] * len(games)


def values(found):
    return {each.name: each.value for each in found.strengths}


def test_the_published_strengths_come_out():
    found = bradley_terry(*season(), resamples=100)
    against_last = {name: round(value - values(found)["Baltimore"], 2) for name, value in values(found).items()}
    assert against_last == {
        "Milwaukee": 1.58, "Detroit": 1.44, "Toronto": 1.29, "New York": 1.25, "Boston": 1.11, "Cleveland": 0.68, "Baltimore": 0.0,
    }  # fmt: skip
    assert [each.name for each in found.strengths] == TEAMS
    assert sum(values(found).values()) == pytest.approx(0)
    best = found.strengths[0]
    assert (best.wins, best.losses, best.ties) == (50, 28, 0) and best.low < best.value < best.high
    assert found.tie == 0 and found.n == found.items == 273


def played(rng, strengths, tie, count):
    names = list(strengths)
    a = rng.integers(0, len(names), count)
    b = (a + rng.integers(1, len(names), count)) % len(names)
    p, q = (np.exp([strengths[names[each]] for each in side]) for side in (a, b))
    drawn, level = rng.random(count) * (p + q + tie * np.sqrt(p * q)), tie * np.sqrt(p * q)
    outcome = np.where(drawn < level, 0, np.where(drawn < level + p, 1, -1))
    return [names[each] for each in a], [names[each] for each in b], outcome.tolist()


def test_without_ties_it_is_a_logistic_regression():
    rng = np.random.default_rng(1)
    names = ["w", "x", "y", "z"]
    first, second, outcome = played(rng, {"w": 0.8, "x": 0.3, "y": -0.2, "z": -0.9}, 0, 300)
    design = np.array([[(name == a) - (name == b) for name in names[:-1]] for a, b in zip(first, second, strict=True)], dtype=float)
    fitted = statsmodels.api.GLM([each == 1 for each in outcome], design, family=statsmodels.api.families.Binomial()).fit(tol=1e-12)
    found = values(bradley_terry(first, second, outcome, resamples=10))
    assert [found[name] - found["z"] for name in names[:-1]] == pytest.approx(fitted.params.tolist(), abs=1e-6)


def test_with_ties_it_is_the_most_likely_fit():
    rng = np.random.default_rng(2)
    names = ["x", "y", "z"]
    games = list(zip(*played(rng, {"x": 0.5, "y": 0.0, "z": -0.5}, 0.8, 300), strict=True))

    def unlikely(parameters):
        strength, tie = {"x": parameters[0], "y": parameters[1], "z": 0.0}, math.exp(parameters[2])
        total = 0.0
        for a, b, outcome in games:
            p, q = math.exp(strength[a]), math.exp(strength[b])
            level = tie * math.sqrt(p * q)
            total -= math.log({1: p, -1: q, 0: level}[outcome] / (p + q + level))
        return total

    best = minimize(unlikely, np.zeros(3), tol=1e-12).x
    found = bradley_terry(*zip(*games, strict=True), resamples=10)
    assert [values(found)[name] - values(found)["z"] for name in names[:2]] == pytest.approx(best[:2].tolist(), abs=1e-4)
    assert found.tie == pytest.approx(math.exp(best[2]), abs=1e-4)


def test_swapped_sides_and_other_names_change_nothing_but_the_names():
    first, second, outcome = played(np.random.default_rng(3), {"x": 0.5, "y": 0.0, "z": -0.5}, 0.5, 120)
    found = values(bradley_terry(first, second, outcome, resamples=10))
    assert values(bradley_terry(second, first, [-each for each in outcome], resamples=10)) == pytest.approx(found)
    renamed = values(bradley_terry([f"{each}!" for each in first], [f"{each}!" for each in second], outcome, resamples=10))
    assert {name.rstrip("!"): value for name, value in renamed.items()} == pytest.approx(found)


def test_raters_of_one_item_are_not_taken_for_independent():
    first, second, outcome = played(np.random.default_rng(4), {"x": 0.3, "y": -0.3}, 0.3, 60)
    items = list(range(60))
    once = bradley_terry(first, second, outcome, items=items).difference("y", "x")
    doubled = {"first": first * 5, "second": second * 5, "outcome": outcome * 5}
    five, alone = bradley_terry(**doubled, items=items * 5).difference("y", "x"), bradley_terry(**doubled).difference("y", "x")
    assert five.value == pytest.approx(once.value) and (five.low, five.high) == pytest.approx((once.low, once.high), abs=1e-6)
    assert alone.high - alone.low < 0.6 * (five.high - five.low)


def test_the_same_seed_gives_the_same_intervals():
    games = played(np.random.default_rng(5), {"x": 0.3, "y": -0.3, "z": 0.0}, 0.3, 60)
    assert bradley_terry(*games, seed=1) == bradley_terry(*games, seed=1)
    assert bradley_terry(*games, seed=1).strengths != bradley_terry(*games, seed=2).strengths


def test_who_never_lost_is_not_infinitely_strong_and_it_is_said():
    found = bradley_terry(["x"] * 8 + ["y"] * 8, ["y"] * 4 + ["z"] * 4 + ["z"] * 8, [1] * 8 + [1, -1] * 4)
    best = found.strengths[0]
    assert best.name == "x" and 0.5 < best.value < 5 and math.isnan(best.low) and math.isnan(best.high)
    assert found.reason.startswith("x never lost, so half a win each way was added")
    assert math.isnan(found.difference("y", "x").low)
    assert 0.5 < found.chance("y", "x") < 1


def test_a_group_that_never_lost_to_the_others_is_named_as_such():
    found = bradley_terry(["a", "b", "c", "d", "a"], ["b", "a", "d", "c", "c"], [1, 1, 1, 1, 1])
    assert "a group never lost to the others" in found.reason and all(math.isnan(each.low) for each in found.strengths)


def test_ties_alone_say_nothing():
    found = bradley_terry(["x", "y"], ["y", "z"], [0, 0])
    assert found.reason == "every comparison was a tie" and set(values(found).values()) == {0.0}


def test_groups_that_nobody_compared_have_no_common_scale():
    with pytest.raises(BadInput, match="nobody compared a, b with c, d"):
        bradley_terry(["a", "b", "c"], ["b", "a", "d"], [1, 1, 1])


@pytest.mark.parametrize(
    ("first", "second", "outcome", "items"),
    [([], [], [], None), (["a"], ["b"], [2], None), (["a"], ["a"], [1], None), (["a"], ["b"], [1, 1], None), (["a"], ["b"], [1], [1, 2])],
)
def test_what_is_no_comparison_is_refused(first, second, outcome, items):
    with pytest.raises(BadInput):
        bradley_terry(first, second, outcome, items=items)


def test_an_unknown_variant_is_named():
    with pytest.raises(UnknownName, match="Boston"):
        bradley_terry(*season(), resamples=10).difference("Bosten", "Toronto")


def test_the_frame_has_a_line_a_variant():
    frame = bradley_terry(*season(), resamples=10).frame()
    assert list(frame.columns) == ["name", "value", "low", "high", "wins", "losses", "ties"] and len(frame) == 7


@pytest.mark.simulation
def test_intervals_cover():
    rng = np.random.default_rng(16)
    true = {"x": 0.6, "y": 0.1, "z": -0.7}
    runs = 2000 if FULL else 300
    covered = np.zeros(3)
    for run in range(runs):
        found = bradley_terry(*played(rng, true, 0.6, 150), seed=run, resamples=300)
        covered += [next(each.low <= true[name] <= each.high for each in found.strengths if each.name == name) for name in true]
    slack = 2 * math.sqrt(0.05 * 0.95 / runs)  # the sampling error of the runs
    assert np.all(covered / runs >= 0.93 - slack) and np.all(covered / runs <= 0.97 + slack)
