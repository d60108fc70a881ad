"""Rows become examples, or the row that is wrong is named."""

import json
import random
from collections import Counter

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
    found = leaks.Trained(trained).met(asked, "test")
    assert [(each.held_out, each.trained) for each in found.exact] == [("r1", "r1")]
    assert {(each.held_out, each.trained) for each in found.near} == {("r2", "r3"), ("r3", "r4")}
    assert all(leaks.NEAR <= each.likeness < 1 for each in found.near)
    assert "of 4 rows 1 (r1 = r1) are in training too, and 2 (r2 ~ r3, 99% alike; r3 ~ r4, 8" in str(found)
    assert len(leaks.without(trained, found)) == 3


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Where is my PARCEL?", "where is my parcel", True),
        ("caf\u00e9 au lait", "cafe\u0301  au\tlait", True),
        ("\uff26\uff55\uff4c\uff4c\u3000width", "full width", True),
        ("Stra\u00dfe", "STRASSE", True),
        ("co\u00adoper\u200bate", "cooperate", True),
        ("7 * 5", "7 \u00d7 5 ?", True),
        ("What is 7 + 5?", "What is 7 - 5?", False),
        ("What is -5?", "What is 5?", False),
        ("\u0915\u0940", "\u0915\u093e", False),  # Hindi: two syllables that differ in their vowel sign
        ("I feel \U0001f600", "I feel \U0001f622", False),
        ("?", "!", False),
    ],
)
def test_what_makes_two_questions_the_same(one, other, alike):
    found = leaks.Trained(examples((one, "a"))).met(examples((other, "b")), "test")
    assert len(found.exact) == alike
    assert len(data.split(examples((one, "a"), (other, "b"), ("something else", "c")), 0.3, seed=1)[0]) in ((1, 2) if alike else (2,))


def test_the_nearest_is_the_one_that_comparing_with_every_row_finds():
    chance = random.Random(5)
    words = ["".join(chance.choices("abcdefghij", k=chance.randint(2, 8))) for _ in range(60)]
    trained = [" ".join(chance.choices(words, k=chance.randint(1, 40))) for _ in range(300)]
    asked = []
    for text in chance.sample(trained, 250):
        changed = text.split()
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(changed))] = chance.choice(words)
        asked.append(" ".join(changed))
    rows = {text: {text[at : at + 5] for at in range(max(1, len(text) - 4))} for text in [*trained, *asked]}
    often = Counter(piece for text in dict.fromkeys(trained) for piece in rows[text])
    own = {text: {piece for piece in pieces if often[piece] <= 0.1 * len(set(trained))} for text, pieces in rows.items()}
    found = leaks.Trained(examples(*[(text, "a") for text in trained])).met(examples(*[(text, "b") for text in asked]), "test")
    told = {each.question: each.likeness for each in found.near}
    best = {
        text: max((len(own[text] & own[other]) / len(own[text] | own[other]) for other in trained if own[text] | own[other]), default=0)
        for text in asked
        if text not in trained
    }
    expected = {text: likeness for text, likeness in best.items() if likeness >= leaks.NEAR and len(rows[text]) <= 250}
    assert len(expected) > 30
    assert {text: told.get(text) for text in expected} == pytest.approx(expected)
    assert all(best[text] >= leaks.NEAR for text in told if len(rows[text]) <= 250)


def test_rows_that_differ_in_case_only_do_not_fall_on_both_sides_of_a_split(tmp_path):
    rows = [f"Where is order {number}?" for number in range(20)] + [f"where is ORDER {number}" for number in range(20)]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"prompt": row, "completion": "x"}) + "\n" for row in rows))
    assert not any(each.exact for each in read_sets(path).leaks)


def test_a_leak_is_told_with_rows_files_and_what_to_do(tmp_path):
    write = {"train.jsonl": [{"prompt": f"Where is order {number}?", "completion": "x"} for number in range(40)]}
    write["test.jsonl"] = [{"id": "t-9", "prompt": "What is the weather like?", "completion": "x"}]
    write["test.jsonl"].append({"id": "t-10", "prompt": "WHERE IS ORDER 7", "completion": "x"})
    for name, rows in write.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadInput) as caught:
        read_sets(tmp_path / "train.jsonl", test=tmp_path / "test.jsonl")
    assert "of 2 rows 1 (row 2 (t-10) of test.jsonl = row 8 of train.jsonl) are in training too" in str(caught.value)
    assert "leaks='drop'" in str(caught.value) and "leaks='keep'" in str(caught.value)


def test_an_instruction_that_all_rows_share_makes_them_not_alike():
    head = "Route this ticket. Answer as JSON with the keys queue and priority, and nothing else at all.\nTicket: "
    trained = examples(
        *[(f"{head}item {word} is late", "x") for word in "kettle lamp chair jacket phone camera radio tent bike clock".split()]
    )
    asked = examples((f"{head}please send my money back", "y"))
    assert leaks.Trained(trained).met(asked, "test").near == ()


def test_sets_hold_out_what_no_file_is_named_for_and_leaks_stop_drop_or_stay(tmp_path):
    rows = [{"prompt": f"question number {number} about {number * 7919 % 1000}", "completion": "x"} for number in range(100)]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = read_sets(path)
    assert (len(sets.train), len(sets.validation), len(sets.test)) == (81, 9, 10) and not sets.general
    assert "forgetting will not be checked" in str(sets)
    test = tmp_path / "test.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in rows[:4]))
    with pytest.raises(BadInput, match=r"test: of 4 rows \d \(row 1 of test.jsonl = row 1 of train.jsonl"):
        read_sets(path, test=test)
    assert len(read_sets(path, test=test, validation=test, leaked="drop").train) == 96
    assert len(read_sets(path, test=test, validation=test, leaked="keep").train) == 100
    with pytest.raises(BadInput, match="nothing is left to learn from"):
        read_sets(test, test=test, validation=path, leaked="drop")
    with pytest.raises(UnknownName):
        read_sets(path, leaked="stpo")
