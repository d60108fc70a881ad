"""What is measured on the reply alone: latency, cost, length, perplexity, readability, refusal."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_lab.records import Reply, Score, Usage
from llmops_lab.scorers._run import bind, summarise


def judge(name, text="", **options):
    return bind(name, **options)(Reply(text=text, finish_reason="stop"), None, {})


def test_latency():
    reply = Reply("x", "stop", latency_s=1.5, ttft_s=0.2)
    assert bind("latency")(reply, None, {}) == Score(1.5)
    assert bind("latency", until="first_token")(reply, None, {}) == Score(0.2)
    score = bind("latency", until="first_token")(Reply("x", "stop", latency_s=1.5), None, {})
    assert score == Score(None, reason="the reply was not streamed (stream=True)")


def test_an_unknown_cost_is_missing_and_a_cost_of_nothing_is_zero():
    assert bind("cost")(Reply("x", "stop", cost_usd=0.002), None, {}) == Score(0.002)
    assert bind("cost")(Reply("x", "stop", cost_usd=0.0), None, {}) == Score(0.0)
    unknown = bind("cost")(Reply("x", "stop"), None, {})
    assert unknown.value is None
    assert "prices" in unknown.reason


def test_length():
    reply = Reply("one two  three\n", "stop", usage=Usage(output_tokens=7))
    assert bind("length")(reply, None, {}).value == 3
    assert bind("length", unit="characters")(reply, None, {}).value == 15
    assert bind("length", unit="tokens")(reply, None, {}).value == 7
    assert bind("length", unit="tokens")(Reply("x", "stop"), None, {}).reason == "the provider reported no token count"
    assert bind("length").higher_is_better is None


@settings(deadline=None)  # the first example pays for an import
@given(st.lists(st.floats(min_value=-30, max_value=0), min_size=1, max_size=30))
def test_perplexity_is_the_geometric_mean_of_the_inverse_probabilities(logprobs):
    score = bind("perplexity")(Reply("x", "stop", logprobs=tuple(logprobs)), None, {})
    wanted = math.prod(math.exp(-each) ** (1 / len(logprobs)) for each in logprobs)
    assert score.value == pytest.approx(wanted, rel=1e-9)
    assert score.value >= 1.0 - 1e-12
    assert bind("perplexity").higher_is_better is False


def test_perplexity_without_log_probabilities_is_unscored():
    for logprobs in (None, ()):
        score = bind("perplexity")(Reply("x", "stop", logprobs=logprobs), None, {})
        assert score.value is None
        assert "logprobs" in score.reason
    impossible = bind("perplexity")(Reply("x", "stop", logprobs=(-math.inf,)), None, {})
    assert impossible.value is None
    assert impossible.error


def test_readability_by_hand():
    score = judge("readability", "The cat sat on the mat.")
    assert score.value == pytest.approx(206.835 - 1.015 * 6 - 84.6 * 1)
    assert score.detail == {"grade": pytest.approx(0.39 * 6 + 11.8 - 15.59), "words": 6, "sentences": 1, "syllables": 6}
    hard = judge("readability", "Considerable heterogeneity characterises interdisciplinary methodological investigations.")
    assert hard.value < 0 < hard.detail["grade"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", 3),
        ("It is 3.5 metres... Really", 2),
        ('"Go." He went.', 2),
        ("A heading\n\nThen text.", 2),
        ("no end", 1),
        ("Wow!!! Yes.", 2),
    ],
)
def test_sentences(text, sentences):
    assert judge("readability", text).detail["sentences"] == sentences


@pytest.mark.parametrize(
    ("word", "syllables"),
    [
        *[(word, 1) for word in "the cat strength make moved loves queue safe times".split()],
        *[(word, 2) for word in "table water people wanted boxes easy seven reply letter houses".split()],
        *[(word, 3) for word in "banana beautiful important computer syllable".split()],
        *[(word, 4) for word in "information community".split()],
    ],
)
def test_syllables(word, syllables):
    assert judge("readability", word).detail["syllables"] == syllables


@pytest.mark.parametrize("text", ["", "123 456", "これは日本語です。"])
def test_readability_needs_words_that_it_can_read(text):
    assert judge("readability", text) == Score(None, reason="no words in Latin letters")


def test_readability_summary_has_the_mean_grade():
    scorer = bind("readability")
    scores = [judge("readability", text) for text in ("The cat sat.", "Information is everywhere.", "")]
    assert summarise(scorer.plugin, scores) == {"grade": pytest.approx((scores[0].detail["grade"] + scores[1].detail["grade"]) / 2)}


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I can’t assist with that request.",
        "I cannot provide instructions for that.",
        "I am unable to create this content.",
        "I'm not able to share personal data about people.",
        "I must decline this request.",
        "I respectfully decline.",
        "As an AI language model, I cannot take sides.",
        "Thank you for asking. Unfortunately, I am not allowed to discuss this.",
        "That goes against my guidelines.",
        "I won't write that.",
        "Sorry.",
        "I can't answer that.",
        "I apologize, but I cannot fulfill this request.",
    ],
)
def test_refusals(text):
    score = judge("refusal", text)
    assert score.value is True
    assert score.reason.startswith("says ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Paris.",
        "Sure, here is the list.",
        "I cannot recommend this book enough.",
        "I can't help but notice the tone.",
        "Sorry for the delay! Here is the answer: 4.",
        "The order cannot be cancelled after 14 days.",
        "I don't know.",
        "He said sorry and left.",
        "x" * 400 + " I'm sorry, but I can't help with that.",
        "The AI could not create the file.",
        "I'm sorry, I cannot find the order number in the text, but the date is 4 May.",
    ],
)
def test_answers(text):
    assert judge("refusal", text) == Score(False)
    assert bind("refusal").higher_is_better is False
