import dataclasses
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.prompts.fewshot import Examples
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import Example, Message

plain_text = st.text(min_size=1).filter(lambda text: text.strip() and not any(mark in text for mark in ("{{", "{%", "{#")))


def text_of(prompt, **values):
    return prompt.render(values)[-1].content


@given(plain_text)
def test_text_without_slots_renders_to_itself(text):
    assert Prompt(text).render({}) == (Message("user", text),)


@given(st.text())
def test_a_value_is_inserted_as_it_is(value):
    assert text_of(Prompt("before {{ value }} after"), value=value) == f"before {value} after"


@given(st.text(), st.text())
def test_what_a_value_says_is_never_a_template(before, after):
    sly = before + "{{ secret }}{% raw %}{# #}" + after
    assert text_of(Prompt("{{ value }}/{{ secret }}"), value=sly, secret="s3cret") == f"{sly}/s3cret"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.text(), st.recursive(st.integers() | st.text(), lambda child: st.lists(child) | st.dictionaries(st.text(), child)))
)
def test_a_json_value_comes_through(value):
    import json

    text = json.dumps(value)
    if any(mark in text for mark in ("{{", "{%", "{#")):
        return
    assert text_of(Prompt(f'{text}\n{{{{ question }}}} {{"a": {{"b": 1}}}}'), question="?") == f'{text}\n? {{"a": {{"b": 1}}}}'


def test_blocks_and_filters_work():
    prompt = Prompt("{% for item in items %}- {{ item | upper }}\n{% endfor %}")
    assert text_of(prompt, items=["a", "b"]) == "- A\n- B\n"
    assert prompt.variables == {"items"}


def test_the_trailing_line_end_is_kept():
    assert text_of(Prompt("{{ a }}\n"), a="x") == "x\n"


def test_a_missing_variable_is_named_with_close_matches():
    with pytest.raises(BadInput, match=r"prompt 'qa' needs {{ question }}.*Did you mean questoin\? Known: id, questoin"):
        Prompt("{{ question }}", name="qa").render({"id": 1, "questoin": "x"})


def test_a_missing_field_of_a_value_is_an_error():
    with pytest.raises(BadInput, match="no attribute 'city'"):
        Prompt("{{ person.city }}").render({"person": {"name": "Ann"}})


@pytest.mark.parametrize("empty", [None, float("nan")])
def test_an_empty_cell_is_an_error_not_a_word(empty):
    with pytest.raises(BadInput, match=r"missing \(None or NaN\).*Empty here: context"):
        Prompt("{{ context }} {{ question }}").render({"context": empty, "question": "?"})


def test_pandas_na_is_an_error_too():
    import pandas

    with pytest.raises(BadInput, match="Empty here: a"):
        Prompt("{{ a }}").render({"a": pandas.NA})


def test_none_can_be_allowed_by_the_template():
    assert text_of(Prompt("[{{ context or '' }}]"), context=None) == "[]"


def test_a_template_that_does_not_parse_is_refused_with_its_line():
    with pytest.raises(BadInput, match=r"prompt 'qa': template error at line 3: .*In: '{{ broken'"):
        Prompt("one\ntwo\n{{ broken", name="qa")
    with pytest.raises(BadInput, match="message 2: template error at line 1"):
        Prompt([{"role": "system", "content": "s"}, {"role": "user", "content": "{% if x %}"}])


def test_double_braces_can_be_text():
    assert text_of(Prompt("{% raw %}{{ literal }}{% endraw %} {{ a }}"), a=1) == "{{ literal }} 1"


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ f.__globals__ }}",
        "{% include 'x' %}",
        "{% for i in range(999999999) %}{% endfor %}",
        "{{ 1 / 0 }}",
    ],
)
def test_the_sandbox_holds(attack):
    with pytest.raises(BadInput):
        Prompt(attack).render({"f": text_of})


@pytest.mark.parametrize("template", ["", " \n ", []])
def test_an_empty_template_is_refused(template):
    with pytest.raises(BadInput, match="empty template"):
        Prompt(template)


@pytest.mark.parametrize("template", [7, {"role": "user", "content": "x"}, ["text"], [{"role": "user"}], [{"role": "", "content": "x"}]])
def test_what_is_no_template_is_refused(template):
    with pytest.raises(BadInput):
        Prompt(template)


@pytest.mark.parametrize("content", [None, [], ["x"], 3])
def test_a_message_without_readable_content_is_refused(content):
    with pytest.raises(BadInput, match="message 1: content"):
        Prompt([{"role": "assistant", "content": content}])


def test_messages_and_image_parts_are_filled():
    parts = [{"type": "text", "text": "What is {{ thing }}?"}, {"type": "image_url", "image_url": {"url": "{{ url }}", "detail": "low"}}]
    prompt = Prompt([{"role": "user", "content": parts}], system="Be {{ mood }}.")
    assert prompt.variables == {"thing", "url", "mood"}
    assert prompt.render({"thing": "this", "url": "data:x", "mood": "kind"}) == (
        Message("system", "Be kind."),
        Message(
            "user", ({"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}})
        ),
    )


def test_helpers_of_jinja_are_no_variables():
    assert Prompt("{% for i in range(2) %}{{ x }}{% endfor %}").variables == {"x"}


def test_the_hash_covers_the_content_and_not_the_origin():
    base = Prompt("{{ q }}")
    assert base.sha256 == Prompt("{{ q }}", name="n", version=3, author="a").sha256
    others = [
        Prompt("{{ q }} "),
        Prompt("{{ q }}", system="s"),
        Prompt("{{ q }}", pattern="step_by_step"),
        Prompt("{{ q }}", params={"temperature": 0}),
        Prompt("{{ q }}", schema={"type": "object"}),
        Prompt("{{ q }}", examples=[{"q": "a", "output": "b"}]),
    ]
    assert len({prompt.sha256 for prompt in [base, *others]}) == 7


def test_the_hash_is_stable():
    assert Prompt("{{ q }}").sha256 == "2e35cbf248e6284c592214de584727f94d254b9c3fd1db6b0233d416c767e469"


def test_the_hash_is_of_the_redacted_text(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "very-secret-value")
    assert Prompt("Use very-secret-value.").sha256 == Prompt("Use [redacted].").sha256
    assert Prompt("Use very-secret-value.").render({})[0].content == "Use very-secret-value."


@given(
    st.sampled_from(["step_by_step", "self_consistency", None]),
    st.none() | st.text(),
    st.dictionaries(st.text(), st.integers() | st.text()),
)
def test_content_and_from_content_are_inverses(pattern, system, params):
    prompt = Prompt(
        [{"role": "user", "content": "{{ a }}"}],
        pattern=pattern,
        system=system if system and "{" not in system else None,
        params=params,
        examples=[{"a": 1, "output": "b"}],
    )
    again = Prompt.from_content(prompt.content)
    assert again == prompt
    assert again.sha256 == prompt.sha256


def test_params_that_are_no_json_are_refused():
    with pytest.raises(BadInput, match="JSON-like"):
        Prompt("x", params={"stop": {"a"}})


def test_a_pydantic_model_is_a_schema():
    from pydantic import BaseModel

    class Answer(BaseModel):
        label: str

    assert Prompt("x", schema=Answer).schema["properties"]["label"]["type"] == "string"


def test_a_pattern_is_added_to_the_last_user_message():
    messages = Prompt("{{ q }}", pattern="step_by_step", system="s").render({"q": "2+2?"})
    assert messages[1].content.startswith("2+2?\n\nThink step by step.")
    prefilled = Prompt([{"role": "user", "content": "q"}, {"role": "assistant", "content": "Sure:"}], pattern="self_consistency").render({})
    assert "Think" in prefilled[0].content
    assert prefilled[1].content == "Sure:"
    parts = Prompt([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}], pattern="step_by_step").render({})
    assert parts[0].content[-1]["text"].startswith("Think")


def test_an_unknown_pattern_is_refused_with_close_matches():
    with pytest.raises(UnknownName, match="Did you mean step_by_step"):
        Prompt("x", pattern="step_by_steps")


def test_extract_reads_the_answer_only_under_a_pattern():
    reply = "17 + 25\nAnswer: 42"
    assert Prompt("x").extract(reply) == reply
    assert Prompt("x", pattern="step_by_step").extract(reply) == "42"


def test_examples_fill_their_slot():
    prompt = Prompt("{{ examples }}\n\nInput: {{ text }}\nOutput:", examples=[{"text": "a", "output": "1"}, {"text": "b", "output": "2"}])
    assert prompt.variables == {"text"}
    assert text_of(prompt, text="c") == "Input: a\nOutput: 1\n\nInput: b\nOutput: 2\n\nInput: c\nOutput:"


def test_examples_without_a_slot_become_chat_turns_before_the_last_message():
    prompt = Prompt("Queue of: {{ text }}", system="Classify.", examples=[{"text": "a", "output": "1"}], pattern="step_by_step")
    messages = prompt.render({"text": "c"})
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[1:3] == (Message("user", "Queue of: a"), Message("assistant", "1"))
    assert messages[3].content.startswith("Queue of: c\n\nThink")


def test_an_example_that_cannot_fill_the_last_message_is_refused():
    with pytest.raises(BadInput, match=r"uses {{ context }}, which an example lacks"):
        Prompt("{{ context }} {{ text }}", examples=[{"text": "a", "output": "1"}]).render({"text": "c", "context": "d"})


def test_a_column_called_examples_is_an_ordinary_variable_without_a_library():
    assert text_of(Prompt("{{ examples }}"), examples="x") == "x"


def test_an_example_is_not_read_as_a_template():
    prompt = Prompt("{{ examples }} {{ text }}", examples=[{"text": "{{ secret }}", "output": "{{ secret }}"}])
    assert "{{ secret }}" in text_of(prompt, text="x", secret="s3cret")
    assert "s3cret" not in text_of(prompt, text="x", secret="s3cret")


def test_prompts_can_be_replaced_compared_and_put_in_sets():
    prompt = Prompt("{{ a }}", params={"temperature": 0})
    assert dataclasses.replace(prompt, name="n") != prompt
    assert len({prompt, Prompt("{{ a }}", params={"temperature": 0})}) == 1


def test_nearest_examples_get_their_embedder_later():
    prompt = Prompt("{{ t }}", examples=Examples((Example({"t": "a"}, "1"),), choose="nearest"))
    assert prompt.needs_embedder
    with pytest.raises(BadInput, match="need an embedder"):
        prompt.render({"t": "x"})
    import numpy

    assert not prompt.with_embed(lambda texts: numpy.ones((len(texts), 1))).needs_embedder
    assert not Prompt("x").needs_embedder


def test_importing_the_template_loads_nothing_heavy():
    code = "import sys, llmops_lab.prompts.template; print(sorted({'numpy', 'jinja2', 'mlflow', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
