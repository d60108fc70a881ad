"""bleu, chrf, rouge and similarity, against the packages that define them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_lab.records import Reply, Score, from_json, to_json
from llmops_lab.scorers._run import bind, summarise

words = st.lists(st.sampled_from("the a cat dog sat on mat, Mat. (big) 3.5 U.S. don't naïve 猫".split()), min_size=1, max_size=12).map(
    " ".join
)
pairs = st.lists(st.tuples(words, words), min_size=1, max_size=6)


def judge(name, text, target, **options):
    return bind(name, **options)(Reply(text=text, finish_reason="stop"), target, {})


def stored(score: Score) -> Score:
    """The score as it comes back out of the ledger."""
    return from_json(Score, to_json(score))


@settings(deadline=None)  # the first example pays for an import
@given(words, words, st.sampled_from(["13a", "intl", "char", "zh", "none"]))
def test_bleu_is_sacrebleus(answer, reference, tokenize):
    import sacrebleu

    wanted = sacrebleu.sentence_bleu(answer, [reference], tokenize=tokenize, use_effective_order=True).score
    assert judge("bleu", answer, reference, tokenize=tokenize).value == pytest.approx(wanted, abs=1e-9)


@settings(deadline=None)  # the first example pays for an import
@given(pairs)
def test_corpus_bleu_and_chrf_are_sacrebleus_even_out_of_the_ledger(rows):
    import sacrebleu

    answers, references = zip(*rows, strict=True)
    for name, oracle in (("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)):
        scorer = bind(name)
        summary = summarise(scorer.plugin, [stored(scorer(Reply(answer, "stop"), reference, {})) for answer, reference in rows])
        assert summary["corpus"] == pytest.approx(oracle(list(answers), [list(references)]).score, abs=1e-9)


@settings(deadline=None)  # the first example pays for an import
@given(st.text(max_size=40), st.text(max_size=40).filter(str.strip))
def test_chrf_is_sacrebleus(answer, reference):
    import sacrebleu

    assert judge("chrf", answer, reference).value == pytest.approx(sacrebleu.sentence_chrf(answer, [reference]).score, abs=1e-9)


def test_several_references():
    import sacrebleu

    references = ["the cat sat", "a dog sat on it"]
    assert judge("bleu", "the dog sat", references).value == pytest.approx(sacrebleu.sentence_bleu("the dog sat", references).score)
    assert judge("chrf", "the dog sat", references).value == pytest.approx(sacrebleu.sentence_chrf("the dog sat", references).score)
    assert judge("rouge", "a dog", references).value == pytest.approx(2 * 2 / (2 + 5))


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_case_counts_unless_told_otherwise(name):
    assert judge(name, "THE CAT SAT DOWN", "the cat sat down").value < 1.0
    assert judge(name, "THE CAT SAT DOWN", "the cat sat down", ignore_case=True).value == pytest.approx(100.0)


@settings(deadline=None)  # the first example pays for an import
@given(words, words)
def test_rouge_is_rouge_scores(answer, reference):
    from rouge_score.rouge_scorer import RougeScorer

    wanted = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, answer)
    score = judge("rouge", answer, reference)
    if score.value is None:
        assert "no words" in score.reason
        return
    assert dict(score.detail) == pytest.approx({key: each.fmeasure for key, each in wanted.items()}, abs=1e-12)
    for variant in ("1", "2", "L"):
        assert judge("rouge", answer, reference, variant=variant).value == score.detail[f"rouge{variant}"]


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge"])
def test_an_empty_reply_is_worth_nothing_and_an_empty_reference_is_unscored(name):
    assert judge(name, "", "the cat").value == 0.0
    score = judge(name, "the cat", " ")
    assert score.value is None
    assert "expected value" in score.reason


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge"])
def test_a_very_long_reply_is_cut_and_the_reason_says_so(name):
    score = judge(name, "the cat sat on the mat " * 10_000, "the cat sat")
    assert score.value > 0.0
    assert score.reason == "only the first 100,000 characters were scored"


def test_bleu_keeps_no_texts_in_memory():
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    for number in range(20):
        judge("bleu", f"reply {number}", "the cat")
    assert Tokenizer13a.__call__.cache_info().currsize == 0
    assert TokenizerRegexp.__call__.cache_info().currsize == 0


def letters(texts: list[str]) -> np.ndarray:
    """An embedder that counts letters."""
    counts = np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], dtype=np.float32)
    return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-12)


def test_similarity_is_the_cosine_and_takes_the_closest():
    scorer = bind("similarity", resources={"embed": letters})
    assert scorer(Reply("ab", "stop"), "ba", {}).value == pytest.approx(1.0)
    assert scorer(Reply("ab", "stop"), "ac", {}).value == pytest.approx(0.5)
    assert scorer(Reply("ab", "stop"), ["cd", "ac"], {}).value == pytest.approx(0.5)
    assert scorer(Reply("ab", "stop"), ["cd", "ac"], {}).value <= 1.0
    assert scorer.expensive is True
    assert scorer.bounds == (-1.0, 1.0)


def test_similarity_of_nothing():
    scorer = bind("similarity", resources={"embed": letters})
    assert scorer(Reply(" ", "stop"), "ab", {}) == Score(0.0, reason="the reply is empty")
    assert scorer(Reply("ab", "stop"), "", {}) == Score(None, reason="the expected value is empty")


def test_the_embedder_gets_text_that_can_be_encoded_and_is_built_only_when_needed():
    seen = []

    def embed(texts):
        seen.extend(texts)
        return letters(texts)

    class Lazy(dict):
        def __contains__(self, key):
            return key == "embed"

        def __missing__(self, key):
            seen.append("built")
            return embed

    bind("exact", resources=Lazy())
    assert seen == []
    assert bind("similarity", resources=Lazy())(Reply("a\ud800", "stop"), "a", {}).value == pytest.approx(1.0)
    assert seen == ["built", "a?", "a"]


def test_a_broken_embedder_is_an_error_in_the_cell():
    scorer = bind("similarity", resources={"embed": lambda texts: np.full((len(texts), 2), np.nan)})
    assert scorer(Reply("a", "stop"), "a", {}).error == "ValueError: the score is nan"
