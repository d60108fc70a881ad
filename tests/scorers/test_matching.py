"""exact, fuzzy, contains, regex, label."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_lab.errors import BadInput
from llmops_lab.records import Reply, Score
from llmops_lab.scorers._run import bind, summarise


def judge(name, text, target=None, finish="stop", **options):
    return bind(name, **options)(Reply(text=text, finish_reason=finish), target, {})


@pytest.mark.parametrize(
    ("text", "target", "right"),
    [
        ("Paris", "Paris", True),
        (" Paris\n", "Paris", True),
        ("paris", "Paris", False),
        ("Paris.", "Paris", False),
        ("", "", True),
        ("x", "", False),
        ("4", 4, True),
        ("4", 4.0, True),  # a column of integers with gaps arrives as floats
        ("4.0", 4, True),
        ("4e0", 4, True),
        ("+4", 4, True),
        ("4.5", np.float32(4.5), True),
        ("4", np.int64(4), True),
        ("4.0", "4", False),  # text is compared as text
        ("4", "4", True),
        ("four", 4, False),
        ("1_000", 1000, False),
        ("inf", 4, False),
        ("9007199254740993", 9007199254740992, False),  # one apart, and equal as floats
        ("9007199254740993", 9007199254740993, True),
        ("True", True, True),
        ("true", True, True),
        ("1", True, False),
        ("false", False, True),
        ("Paris", ["Lutetia", "Paris"], True),
        ("Rome", ["Lutetia", "Paris"], False),
        ("Paris", np.array(["Lutetia", "Paris"], dtype=object), True),
        ("a\x00b", "a\x00b", True),
        ("\ud800", "\ud800", True),
    ],
)
def test_exact(text, target, right):
    assert judge("exact", text, target) == Score(right)


def test_exact_options():
    assert judge("exact", "STRASSE", "straße", ignore_case=True).value is True
    assert judge("exact", "Yes, sir!", "Yes sir", ignore_punctuation=True).value is True
    assert judge("exact", "Paris ", "Paris", strip=False).value is False


def test_a_reply_cut_by_the_token_limit_is_scored():
    assert judge("exact", "Paris", "Paris", finish="length").value is True


def test_exact_does_not_compare_objects():
    score = judge("exact", "{}", {"a": 1})
    assert score.value is None
    assert "json_fields" in score.error


@settings(deadline=None)  # the first example pays for an import
@given(st.text(), st.sampled_from(["", " ", "\n\t "]))
def test_exact_sees_through_outer_whitespace_alone(text, space):
    assert judge("exact", space + text + space, text).value is True
    assert judge("exact", text + "!", text).value is False


@settings(deadline=None)  # the first example pays for an import
@given(st.text(max_size=30), st.text(max_size=30))
def test_fuzzy_is_the_normalised_indel_similarity(left, right):
    value = judge("fuzzy", left, right).value
    a, b = left.strip(), right.strip()
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    total = len(a) + len(b)
    assert value == pytest.approx(2 * table[-1][-1] / total if total else 1.0, abs=1e-9)


def test_fuzzy_takes_the_best_of_several_and_ignores_case_on_demand():
    assert judge("fuzzy", "Paris", ["Rome", "paris"]).value == pytest.approx(0.8)
    assert judge("fuzzy", "Paris", ["Rome", "paris"], ignore_case=True).value == 1.0
    assert judge("fuzzy", "", "Paris").value == 0.0


def test_fuzzy_says_when_it_compared_the_beginnings_only():
    score = judge("fuzzy", "ab " * 70_000, "ab " * 70_000)
    assert (score.value, score.reason) == (1.0, "only the first 100,000 characters were scored")


@pytest.mark.parametrize(
    ("text", "target", "options", "right"),
    [
        ("It is Paris.", "Paris", {}, True),
        ("It is paris.", "Paris", {}, False),
        ("It is paris.", "Paris", {"ignore_case": True}, True),
        ("14", "4", {}, True),
        ("14", 4, {"words": True}, False),
        ("14, 4", 4.0, {"words": True}, True),
        ("a_4", 4, {"words": True}, False),
        ("Paris and Rome", ["Paris", "Rome"], {}, True),
        ("Paris", ["Paris", "Rome"], {}, False),
        ("Paris", ["Paris", "Rome"], {"mode": "any"}, True),
        ("", "Paris", {}, False),
    ],
)
def test_contains(text, target, options, right):
    assert judge("contains", text, target, **options).value is right


def test_contains_names_what_is_absent_and_leaves_an_empty_value_unscored():
    assert judge("contains", "Paris", ["Paris", "Rome"]).reason == "not found: Rome"
    assert judge("contains", "Paris", " ") == Score(None, reason="the expected value is empty")


@settings(deadline=None)  # the first example pays for an import
@given(st.text(), st.text(min_size=1).filter(str.strip), st.text())
def test_what_is_in_is_found(before, wanted, after):
    assert judge("contains", before + wanted + after, wanted).value is True
    assert judge("contains", f"{before} {wanted} {after}", wanted, words=True).value is True


def test_regex():
    assert judge("regex", "order 4711 sent", pattern=r"\d{4}") == Score(True, reason="matched '4711'")
    assert judge("regex", "none", pattern=r"\d{4}") == Score(False)
    assert judge("regex", "order 4711", pattern=r"\d{4}", full=True).value is False
    assert judge("regex", " 4711\n", pattern=r"\d{4}", full=True).value is True
    assert judge("regex", "YES", pattern="yes").value is False
    assert judge("regex", "YES", pattern="yes", ignore_case=True).value is True
    assert judge("regex", "a\nb", pattern=r"(?m)^b$").value is True


def test_a_broken_pattern_is_known_before_the_first_call():
    with pytest.raises(BadInput, match=r"the pattern '\(a' is wrong: missing \)"):
        bind("regex", pattern="(a")


def test_a_pattern_that_backtracks_without_end_is_an_error():
    scorer = bind("regex", pattern=r"(?:a|a)*(?:a|aa)+$")
    began = time.monotonic()
    score = scorer(Reply("a" * 50_000 + "b", "stop"), None, {})
    assert score.value is None
    assert "took longer than 2 s" in score.error
    assert time.monotonic() - began < 30


def test_label_ignores_case_quotes_and_final_punctuation():
    score = judge("label", ' "Positive". ', "positive")
    assert score.value is True
    assert score.detail == {"predicted": "positive", "true": "positive"}
    assert judge("label", "1", 1.0).value is True
    assert judge("label", "TRUE", True).value is True
    assert judge("label", "It is positive", "positive").value is False


@pytest.mark.parametrize(
    ("text", "predicted"),
    [
        ("I think it is positive.", "positive"),
        ("positive or negative", ""),
        ("nonpositive", ""),
        ("very positive", "very positive"),  # the longer label covers the shorter one in it
        ("no idea", ""),
        ("", ""),
    ],
)
def test_label_finds_one_of_the_labels_in_a_longer_reply(text, predicted):
    score = judge("label", text, "positive", labels=["positive", "negative", "very positive"])
    assert score.detail["predicted"] == predicted
    assert score.value is (predicted == "positive")


@pytest.mark.parametrize("labels", [[], [""], ["a", "A"], [1, 2]])
def test_label_refuses_labels_that_are_none(labels):
    with pytest.raises(BadInput, match="label"):
        bind("label", labels=labels)


def test_a_list_is_no_label():
    assert "one label" in judge("label", "a", ["a", "b"]).error


@settings(deadline=None)  # the first example pays for an import
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["a", "b", "c", "junk"])), min_size=1, max_size=40))
def test_label_summary_agrees_with_scikit_learn(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    scorer = bind("label")
    summary = summarise(scorer.plugin, [scorer(Reply(predicted, "stop"), true, {}) for true, predicted in pairs])
    true, predicted = zip(*pairs, strict=True)
    names = sorted(set(true))
    means = metrics.precision_recall_fscore_support(true, predicted, labels=names, average="macro", zero_division=0)
    assert [summary["precision"], summary["recall"], summary["f1"]] == pytest.approx(means[:3], abs=1e-12)
    each = metrics.precision_recall_fscore_support(true, predicted, labels=names, zero_division=0)
    for position, name in enumerate(names):
        found = [summary["per_label"][name][measure] for measure in ("precision", "recall", "f1", "n")]
        assert found == pytest.approx([column[position] for column in each], abs=1e-12)
    counts = Counter((a, b if b in names else "(other)") for a, b in pairs)
    assert {(a, b): n for a, row in summary["confusion"].items() for b, n in row.items()} == dict(counts)


def test_label_summary_leaves_unscored_rows_out():
    scorer = bind("label")
    summary = summarise(scorer.plugin, [scorer(Reply("a", "stop"), "a", {}), scorer(Reply("a", "stop"), None, {})])
    assert summary == {
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
        "per_label": {"a": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "n": 1}},
        "confusion": {"a": {"a": 1}},
    }
