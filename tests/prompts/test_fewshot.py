import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_lab import plugins
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.prompts.fewshot import Examples
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import Example
from llmops_lab.settings import Settings

LIBRARY = [{"text": f"case {letter}", "output": letter} for letter in "abcdefgh"]


def outputs(examples, **values):
    return [example.output for example in examples.pick(values)]


def letters(texts):
    """One axis a letter of the alphabet; a text is the letter that it ends in, and a little of the next one."""
    rows = numpy.zeros((len(texts), 27), dtype=numpy.float32)
    for row, text in zip(rows, texts, strict=True):
        index = ord(text[-1]) - ord("a")
        row[index], row[index + 1] = 0.9, 0.43
    return rows


def test_fixed_examples_are_the_first_ones():
    assert outputs(Examples.of(LIBRARY), text="x") == list("abcdefgh")
    assert outputs(Examples.of(LIBRARY, count=2), text="x") == ["a", "b"]
    assert outputs(Examples.of(LIBRARY, count=99), text="x") == list("abcdefgh")


def test_random_examples_depend_on_seed_and_row_alone():
    examples = Examples.of(LIBRARY, choose="random", seed=1)
    assert outputs(examples, text="x") == outputs(Examples.of(LIBRARY, choose="random", seed=1), text="x", id=7)
    assert len(outputs(examples, text="x")) == 3
    drawn = {tuple(outputs(examples, text=f"row {number}")) for number in range(20)}
    assert len(drawn) > 10
    assert any(outputs(examples, text=f"{n}") != outputs(Examples.of(LIBRARY, choose="random", seed=2), text=f"{n}") for n in range(5))


def test_random_draws_are_the_same_on_every_machine():
    assert outputs(Examples.of(LIBRARY, choose="random", seed=7), text="pinned") == ["h", "b", "g"]


@given(st.integers(), st.sampled_from("abcdefgh"))
def test_the_row_itself_is_never_an_example(seed, letter):
    for choose in ("random", "nearest"):
        examples = Examples.of(LIBRARY, choose=choose, seed=seed, count=8, embed=letters)
        assert letter not in outputs(examples, text=f"case {letter}")
        assert len(outputs(examples, text=f"case {letter}")) == 7


def test_nearest_examples_come_with_the_nearest_last():
    examples = Examples.of(LIBRARY, choose="nearest", count=2, embed=letters)
    assert outputs(examples, text="another c") == ["b", "c"] or outputs(examples, text="another c") == ["d", "c"]
    assert outputs(examples, text="case c")[-1] in "bd"


def test_rows_are_embedded_in_batches_ahead():
    calls = []

    def embed(texts):
        calls.append(len(texts))
        return letters(texts)

    prompt = Prompt("{{ text }}", examples=Examples.of(LIBRARY, choose="nearest", embed=embed))
    rows = [{"text": f"row {number} {'abc'[number % 3]}"} for number in range(600)]
    prompt.prepare(rows)
    for row in rows:
        prompt.render(row)
    assert sorted(calls) == [8, 88, 256, 256]


def test_many_twins_do_not_starve_the_nearest():
    library = [{"text": "case a", "output": str(number)} for number in range(20)] + [{"text": "case b", "output": "b"}]
    examples = Examples.of(library, choose="nearest", count=1, embed=letters)
    assert outputs(examples, text="case a") == ["b"]


def test_comparing_by_one_field():
    library = [{"text": "case a", "note": "z", "output": "1"}, {"text": "case z", "note": "a", "output": "2"}]
    assert outputs(Examples.of(library, choose="nearest", by="note", count=1, embed=letters), note="a") == ["2"]
    with pytest.raises(BadInput, match="'note' is not there"):
        outputs(Examples.of(library, choose="nearest", by="note", count=1, embed=letters), text="a")


def test_several_inputs_have_a_line_each():
    examples = Examples.of([{"question": "why?", "context": "so", "output": "because"}])
    assert examples.text(examples.items) == "question: why?\ncontext: so\nOutput: because"


def test_content_and_from_content_are_inverses():
    examples = Examples.of(LIBRARY, choose="random", count=2, seed=5, by="text", embedder="hashing")
    assert Examples.from_content(examples.content) == examples


@pytest.mark.parametrize(
    ("items", "rule", "says"),
    [
        ([], {}, "empty"),
        (["x"], {}, "example 1 must be"),
        ([{"output": "x"}], {}, "at least one input"),
        ([{"a": "x"}], {}, "needs an `output`"),
        (LIBRARY, {"count": 0}, "above 0"),
        (LIBRARY, {"count": True}, "above 0"),
        (LIBRARY, {"by": "txt"}, "'txt', which example 1 lacks. Known: text"),
        ("text", {}, "list of tables"),
        (7, {}, "list of tables"),
    ],
)
def test_what_is_no_example_library_is_refused(items, rule, says):
    with pytest.raises(BadInput, match=says):
        Examples.of(items, **rule)


def test_an_unknown_way_to_choose_is_refused():
    with pytest.raises(UnknownName, match="Did you mean nearest"):
        Examples.of(LIBRARY, choose="neares")


def test_records_are_examples_as_they_are():
    assert Examples.of([Example({"t": 1}, "x")]).items == (Example({"t": 1}, "x"),)
    assert Examples.of(None) is None


@pytest.mark.parametrize("choose", ["random", "nearest"])
def test_an_example_that_differs_from_the_row_in_white_space_or_case_is_its_own_answer_and_left_out(choose):
    library = [{"question": "How  warm is it ", "output": "given away"}, {"question": "Who won?", "output": "sport"}]
    embed = plugins.find("embedders", "hashing").connect("", settings=Settings())
    examples = Examples.of(library, choose=choose, count=1, embed=embed)
    assert [each.output for each in examples.pick({"question": "how warm is it"})] == ["sport"]
