import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_lab.errors import BadInput
from llmops_lab.prompts.patterns import final_answer, majority


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("I add.\nAnswer: 42", "42"),
        ("Answer: 1\nNo, again.\nanswer: 2\n", "2"),
        ("**Answer:** billing", "billing"),
        ("**Final answer: billing**", "billing"),
        ("The final answer is: 7", "7"),
        ('Answer:\n{\n  "a": 1\n}', '{\n  "a": 1\n}'),
        (" just this ", "just this"),
        ("The answer: is inside", "is inside"),
        ("my Answer: is not at the start", "my Answer: is not at the start"),
        ("", ""),
    ],
)
def test_the_final_answer(reply, answer):
    assert final_answer(reply) == answer


@given(st.text(), st.text().filter(lambda text: "nswer" not in text.casefold()))
def test_whatever_follows_the_last_answer_line_is_the_answer(before, answer):
    assert final_answer(f"{before}\nAnswer: {answer}") == answer.lstrip(" \t*_").strip().rstrip("*_").rstrip()


def test_a_long_hostile_reply_is_read_quickly():
    assert final_answer("answer" + " " * 500_000 + "x" + "*" * 500_000) != ""


def test_the_majority_wins_whatever_its_case():
    assert majority(["Billing.", "refund", "billing"]) == ("Billing.", pytest.approx(2 / 3))


def test_the_first_wins_a_tie():
    assert majority(["b", "a", "a", "b"]) == ("b", 0.5)


def test_nothing_to_vote_on_is_an_error():
    with pytest.raises(BadInput, match="at least one answer"):
        majority([])


@given(st.lists(st.text(), min_size=1))
def test_the_winner_is_one_of_the_texts(texts):
    winner, share = majority(texts)
    assert winner in texts
    assert 0 < share <= 1
    assert share >= 1 / len(texts)
