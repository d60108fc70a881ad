"""Rows become examples, or the row that is wrong is named."""

import json

import pytest

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows.tune_data import examine, read_sets
from llmops_lab.training import data, leaks
from llmops_lab.training.data import Example, Examples


def examples(*pairs):
    return Examples(tuple(Example((("user", question),), answer, f"r{number}") for number, (question, answer) in enumerate(pairs, 1)), "x")


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"prompt": "2 + 2?", "completion": "4"}, (("user", "2 + 2?"),)),
        ({"input": "2 + 2?", "output": "4"}, (("user", "2 + 2?"),)),
        ({"system": "Be short.", "prompt": "2 + 2?", "completion": "4"}, (("system", "Be short."), ("user", "2 + 2?"))),
        ({"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}, (("user", "2 + 2?"),)),
        (
            {"prompt": [{"role": "user", "content": "2 + 2?"}], "completion": [{"role": "assistant", "content": "4"}]},
            (("user", "2 + 2?"),),
        ),
    ],
)
def test_each_form_of_a_row_is_read_from_jsonl_and_csv(tmp_path, row, turns):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert examine(tmp_path / "rows.jsonl").items[0] == Example(turns, "4")
    cells = {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()}
    if not isinstance(row.get("prompt"), list):
        import csv

        with (tmp_path / "rows.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(cells))
            writer.writeheader()
            writer.writerow(cells)
        assert examine(tmp_path / "rows.csv").items[0] == Example(turns, "4")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "has no rows"),
        ([{"prompt": "x", "answer": "y"}], "It has 'prompt' but no 'completion'. Found: prompt, answer"),
        ([{"text": "x"}], "needs the columns 'messages', or 'prompt' and 'completion', or 'input' and 'output'. Found: text"),
        ([{"prompt": "a", "completion": "b"}, {"prompt": "", "completion": "b"}], "row 2 of rows.jsonl, column 'prompt'"),
        ([{"prompt": "a", "completion": None}], "column 'completion' must be a text that is not empty; it is missing"),
        ([{"messages": [{"role": "user", "content": "a"}]}], "the last message must be the assistant's"),
        ([{"messages": [{"role": "assistant", "content": "a"}]}], "an answer and no question"),
        ([{"messages": [{"role": "robot", "content": "a"}]}], "message 1 needs a role, one of system, developer, user, assistant"),
        ([{"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "a"}]}], "message 1 needs a text"),
        ([{"messages": "not json"}], "column 'messages' is not JSON"),
        ([{"messages": 7}], "must be a list"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_row(tmp_path, monkeypatch, rows, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadInput) as caught:
        examine("rows.jsonl")
    assert said in str(caught.value)


def test_a_missing_file_a_broken_line_and_no_name_at_all(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        examine(tmp_path / "none.jsonl")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt"\n')
    with pytest.raises(BadInput, match="line 2 is not JSON"):
        examine(tmp_path / "rows.jsonl")
    with pytest.raises(BadInput, match="no file of training rows"):
        examine("")


def test_a_split_keeps_equal_questions_on_one_side_and_is_the_same_each_time():
    given = examples(*[(f"question {number % 20}", f"answer {number}") for number in range(60)])
    kept, out = data.split(given, 0.25, seed=3)
    assert len(kept) + len(out) == 60 and 15 <= len(out) <= 18
    assert not {each.question for each in kept.items} & {each.question for each in out.items}
    assert data.split(given, 0.25, seed=3)[1].digest == out.digest != data.split(given, 0.25, seed=4)[1].digest
    with pytest.raises(BadInput, match="too few different rows"):
        data.split(examples(("same", "a"), ("same", "b")), 0.5, seed=1)


def test_leaks_are_found_word_for_word_and_nearly_and_named():
    long = " ".join(f"word{number}" for number in range(400))
    trained = examples(
        ("My lamp has not arrived yet, please hurry up with it.", "a"),
        ("Where is the invoice of order 312?", "b"),
        (f"{long} one", "c"),
        ("I cannot sign in since Monday morning at nine.", "d"),
    )
    asked = examples(
        ("my lamp has NOT arrived yet - please hurry up with it", "a"),  # 1: the same but for case and marks
        (f"{long} two", "c"),  # 2: nearly the same, long
        ("I cannot sign in since Monday morning at ten.", "d"),  # 3: nearly the same, short
        ("The drill that I bought is broken.", "e"),  # 4: new
    )
    found = leaks.find(trained, asked, "test")
    assert [(each.held_out, each.trained) for each in found.exact] == [("r1", "r1")]
    assert {(each.held_out, each.trained) for each in found.near} == {("r2", "r3"), ("r3", "r4")}
    assert all(leaks.NEAR <= each.likeness < 1 for each in found.near)
    assert "of 4 rows 1 are in training too and 2 nearly so: r1 ~ r1 (1.00)" in str(found)
    assert len(leaks.without(trained, found)) == 3


def test_an_instruction_that_all_rows_share_makes_them_not_alike():
    head = "Route this ticket. Answer as JSON with the keys queue and priority, and nothing else at all.\nTicket: "
    trained = examples(
        *[(f"{head}item {word} is late", "x") for word in "kettle lamp chair jacket phone camera radio tent bike clock".split()]
    )
    asked = examples((f"{head}please send my money back", "y"))
    assert leaks.find(trained, asked, "test").near == ()


def test_sets_hold_out_what_no_file_is_named_for_and_leaks_stop_drop_or_stay(tmp_path):
    rows = [{"prompt": f"question number {number} about {number * 7919 % 1000}", "completion": "x"} for number in range(100)]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = read_sets(path)
    assert (len(sets.train), len(sets.validation), len(sets.test)) == (81, 9, 10) and not sets.general
    assert "forgetting will not be checked" in str(sets)
    test = tmp_path / "test.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in rows[:4]))
    with pytest.raises(BadInput, match=r"test: of 4 rows \d are in training too"):
        read_sets(path, test=test)
    assert len(read_sets(path, test=test, validation=test, leaked="drop").train) == 96
    assert len(read_sets(path, test=test, validation=test, leaked="keep").train) == 100
    with pytest.raises(BadInput, match="nothing is left to learn from"):
        read_sets(test, test=test, validation=path, leaked="drop")
    with pytest.raises(UnknownName):
        read_sets(path, leaked="stpo")
