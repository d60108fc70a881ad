from hypothesis import given
from hypothesis import strategies as st

from llmops_lab.prompts.diff import as_text, diff, word_diff
from llmops_lab.prompts.template import Prompt

lines = st.lists(st.sampled_from(["a b", "a c", "", "x", "<b>", "é ü\t"]), max_size=6).map("\n".join)


@given(st.text() | lines, st.text() | lines)
def test_the_parts_give_both_texts_back(a, b):
    parts = word_diff(a, b)
    assert "".join(text for op, text in parts if op in ("equal", "delete")) == a
    assert "".join(text for op, text in parts if op in ("equal", "insert")) == b
    assert all(text for _, text in parts)


def test_words_are_compared_not_letters():
    assert word_diff("Answer the question.", "Answer this question.") == (
        ("equal", "Answer "),
        ("delete", "the"),
        ("insert", "this"),
        ("equal", " question."),
    )


def test_text_and_html_show_the_change():
    found = diff(
        Prompt("Say <b>hi</b> to {{ name }}", name="hello", version=1), Prompt("Say <i>hi</i> to {{ name }}", name="hello", version=2)
    )
    assert found.text == "Say <[-b-]{+i+}>hi</[-b-]{+i+}> to {{ name }}"
    assert str(found).startswith("hello/1 → hello/2\n")
    assert "<b>" not in found.html
    assert "&lt;" in found._repr_html_()
    assert "<del" in found.html
    assert found.changed


def test_no_difference_is_said():
    same = diff(Prompt("a"), Prompt("a"))
    assert not same.changed
    assert "no difference" in str(same)
    assert "no difference" in same.html


def test_terminal_escapes_are_shown_not_obeyed():
    found = diff(Prompt("a\x1b[31m"), Prompt("b\x1b[31m"))
    assert "\x1b" not in found.text + found.html
    assert "\\x1b[31m" in found.text


def test_everything_that_is_sent_is_compared():
    rich = Prompt(
        "{{ t }}",
        system="s",
        pattern="step_by_step",
        params={"temperature": 1},
        schema={"type": "object"},
        examples=[{"t": "in", "output": "out"}],
    )
    text = as_text(rich)
    for piece in ("[system]\ns", "[user]\n{{ t }}", "Input: in\nOutput: out", "step_by_step", '"temperature": 1', '"type": "object"'):
        assert piece in text
    image = Prompt([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}])
    assert "image_url" in as_text(image)


def test_a_large_prompt_is_compared_quickly():
    old = "word " * 20_000
    assert diff(Prompt(old), Prompt(old.replace("word", "term", 3))).changed
