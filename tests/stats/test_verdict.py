import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_lab.errors import DoesNotPair
from llmops_lab.records import Verdict, from_json, to_json
from llmops_lab.stats.anytime import PairedSequence
from llmops_lab.stats.verdict import Pair, compare, compare_many, from_sequence, sentence


def flags(wins, losses, ties):
    return np.array([0] * wins + [1] * losses + [1] * ties), np.array([1] * wins + [0] * losses + [1] * ties)


def judge(wins, losses, ties, **options):
    return compare(*flags(wins, losses, ties), binary=True, **options)


def test_better_and_worse_follow_the_direction_and_delta_does_not():
    up, down = judge(30, 6, 164), judge(6, 30, 164)
    assert (up.outcome, down.outcome) == ("better", "worse")
    assert up.delta == -down.delta == pytest.approx(0.12)
    cheap = judge(6, 30, 164, higher_is_better=False)
    assert cheap.outcome == "better" and cheap.delta == pytest.approx(-0.12)
    assert (cheap.wins, cheap.losses) == (30, 6) == (up.wins, up.losses)
    assert (cheap.ci_low, cheap.ci_high) == (down.ci_low, down.ci_high)


def test_equivalent_needs_a_margin():
    assert judge(4, 4, 392).outcome == "inconclusive"
    found = judge(4, 4, 392, margin=0.03)
    assert found.outcome == "equivalent" and found.needed_rows is None and found.margin == 0.03
    assert judge(4, 4, 392, margin=0.005).outcome == "inconclusive"


def test_a_shown_difference_goes_before_the_margin():
    found = judge(12, 1, 987, margin=0.05)
    assert found.outcome == "better"
    assert "within the margin of 0.05" in sentence(found)


@settings(max_examples=60)
@given(
    wins=st.integers(0, 12), losses=st.integers(0, 12), ties=st.integers(0, 60), margin=st.sampled_from([None, 0.1]), higher=st.booleans()
)
def test_outcome_interval_and_needed_rows_agree(wins, losses, ties, margin, higher):
    if wins + losses + ties == 0:
        return
    found = judge(wins, losses, ties, margin=margin, higher_is_better=higher)
    excluded = found.ci_low > 0 or found.ci_high < 0
    assert excluded == (found.p_value < found.alpha) == (found.outcome in ("better", "worse"))
    assert (found.needed_rows is None) == (found.outcome != "inconclusive")
    assert found.needed_rows is None or found.needed_rows > found.n_pairs
    assert found.wins + found.losses + found.ties == found.n_pairs == wins + losses + ties
    assert from_json(Verdict, to_json(found)) == found
    assert sentence(found).startswith(found.outcome + ": ") and "\n" not in sentence(found)


def test_numeric_verdict():
    rng = np.random.default_rng(4)
    a = rng.normal(size=120)
    b = a + rng.normal(0.3, 0.5, size=120)
    b[:3] = math.nan
    found = compare(a, b, binary=False, a_name="short", b_name="long", scorer="chrf")
    assert (found.outcome, found.n_pairs, found.n_missing) == ("better", 117, 3)
    assert found.mean_b - found.mean_a == pytest.approx(found.delta)
    assert 0 < found.mde < 0.3
    assert "117 rows, 3 missing" in sentence(found)


def test_sentences_read_as_meant():
    assert sentence(judge(30, 6, 164, a_name="plain", b_name="steps", scorer="exact")) == (
        "better: steps beats plain on exact by +0.120 [0.064, 0.180], exact McNemar p<0.0001, 200 rows"
    )
    slow = compare([1.0, 2, 3, 4, 5, 6], [1.5, 2.5, 3.5, 4.5, 5.5, 6.5], binary=False, higher_is_better=False, scorer="latency")
    assert sentence(slow) == (
        "worse: b loses to a on latency by +0.50 [0.50, 0.50] (lower is better), exact sign-flip permutation p=0.031, 6 rows"
    )
    undecided = sentence(judge(12, 8, 80, a_name="plain", b_name="steps", scorer="exact"))
    assert undecided.startswith(
        "inconclusive: steps against plain on exact +0.040 [-0.050, 0.131], exact McNemar p=0.5, 100 rows; about 1,100"
    )
    assert undecided.endswith(" rows would settle it at this effect (80 % power)")
    assert "no difference was seen" in sentence(judge(5, 5, 90))
    assert "equivalent: b and a differ by less than 0.1: 0.000 [" in sentence(judge(2, 2, 196, margin=0.1))
    assert "[unbounded, unbounded]" in sentence(compare([0.1], [0.4], binary=False)) and "1 row;" in sentence(
        compare([0.1], [0.4], binary=False)
    )


@pytest.mark.parametrize(
    ("p_value", "shown"), [(0.0499999, "=0.0499999"), (0.04996, "=0.04996"), (0.0500001, "=0.05"), (0.2345, "=0.23"), (1e-7, "<0.0001")]
)
def test_a_p_value_is_not_rounded_across_alpha(p_value, shown):
    assert f" p{shown}, 200 rows" in sentence(dataclasses.replace(judge(30, 6, 164), p_value=p_value))


def test_a_bound_is_not_rounded_onto_zero():
    assert "[0.0004, " in sentence(dataclasses.replace(judge(30, 6, 164), ci_low=0.0004))


def test_all_ties_and_no_pairs():
    same = compare([0.3] * 30, [0.3] * 30, binary=False)
    assert (same.outcome, same.p_value, same.delta, same.mde) == ("inconclusive", 1.0, 0.0, None)
    assert same.needed_rows > 30
    with pytest.raises(DoesNotPair, match="none of 3 rows"):
        compare([math.nan] * 3, [1, 0, 1], binary=True)


def test_holm_over_many():
    rng = np.random.default_rng(8)
    base = rng.random(200) < 0.5
    pairs = [Pair(base, base, "base", "same")]
    for name, share in (("little", 0.03), ("some", 0.08), ("much", 0.3)):
        pairs.append(Pair(base, base | (rng.random(200) < share), "base", name))
    found = compare_many(pairs, binary=True, scorer="exact")
    alone = [compare(pair.a, pair.b, binary=True).p_value for pair in pairs]
    assert [each.b for each in found] == ["same", "little", "some", "much"]
    assert found[3].p_value == pytest.approx(4 * alone[3]) and found[3].outcome == "better"
    assert found[0].outcome == "inconclusive" and found[0].p_value == 1
    for each in found:
        assert (each.p_value < 0.05) == (each.ci_low > 0 or each.ci_high < 0) == (each.outcome == "better")
        assert each.alpha == 0.05 and each.test.endswith("Holm of 4")
    assert compare_many(pairs[:1], binary=True) == [compare(base, base, binary=True, a_name="base", b_name="same")]
    assert compare_many([], binary=True) == []


def test_a_watched_sequence_gives_its_own_verdict():
    sequence = PairedSequence()
    assert from_sequence(sequence).outcome == "inconclusive" and from_sequence(sequence).n_pairs == 0
    for difference in [1, 0, 1, 1, 0, -1, 1] * 6:
        sequence.add(difference)
    found = from_sequence(sequence, a_name="plain", b_name="steps", scorer="exact", n_missing=2)
    assert (found.outcome, found.n_pairs, found.n_missing, found.needed_rows) == ("better", 42, 2, None)
    assert (found.wins, found.losses, found.ties) == (24, 6, 12)
    assert found.ci_low > 0 and found.p_value < 0.05
    assert from_sequence(sequence, higher_is_better=False).outcome == "worse"
    assert "anytime-valid betting" in sentence(found)


def test_a_sequence_can_end_equivalent():
    sequence = PairedSequence()
    for difference in [1, 0, 0, 0, 0, -1, 0, 0, 0, 0] * 40:
        sequence.add(difference)
    assert from_sequence(sequence).outcome == "inconclusive"
    assert from_sequence(sequence).needed_rows > 400
    assert from_sequence(sequence, margin=0.2).outcome == "equivalent"
