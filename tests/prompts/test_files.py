import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_lab.errors import BadInput
from llmops_lab.prompts.files import load_prompt, load_prompts, read_examples, read_file
from llmops_lab.prompts.template import Prompt

WHOLE = """
[plain]
template = 'Answer as JSON {"a": {"b": 1}}: {{ question }}'

[steps]
system = "Careful."
template = "{{ question }}"
pattern = "step_by_step"
params = { temperature = 0.7 }
schema = { type = "object" }

[chat]
[[chat.messages]]
role = "system"
content = "s"
[[chat.messages]]
role = "user"
content = "{{ question }}"

[few]
template = "{{ text }}"
examples = [ { text = "a", output = "1" } ]

[drawn]
template = "{{ text }}"
examples = { file = "solved.csv", choose = "random", count = 1, seed = 3 }
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "prompts.toml").write_text(WHOLE)
    (tmp_path / "solved.csv").write_text('text,output\n"two\nlines",x\nb,y\n')
    return tmp_path


def test_a_prompt_file_is_read_in_its_order(folder):
    prompts = load_prompts(str(folder / "prompts.toml"))
    assert list(prompts) == ["plain", "steps", "chat", "few", "drawn"]
    assert prompts["plain"].render({"question": "?"})[0].content == 'Answer as JSON {"a": {"b": 1}}: ?'
    assert prompts["steps"] == Prompt(
        "{{ question }}", name="steps", system="Careful.", pattern="step_by_step", params={"temperature": 0.7}, schema={"type": "object"}
    )
    assert [message.role for message in prompts["chat"].messages] == ["system", "user"]
    assert prompts["drawn"].examples.items[0].inputs == {"text": "two\nlines"}


def test_an_address_in_a_file_is_fetched(tmp_path):
    (tmp_path / "p.toml").write_text('[live]\nuri = "prompts:/qa@production"')
    assert read_file(tmp_path / "p.toml", fetch=lambda address: Prompt(address, name="qa"))["live"].template == "prompts:/qa@production"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a]\ntemplate = 'x'\n[b\n", "line 3"),
        ("", "holds no prompt"),
        ("template = 'x'", "template is no table"),
        ("[a]\ntemplat = 'x'", r"\[a\] has 'templat', which is not known. Did you mean template"),
        ("[a]\nsystem = 'x'", "one of template, messages and uri"),
        ("[a]\ntemplate = 'x'\nuri = 'prompts:/a'", "one of template, messages and uri"),
        ("[a]\nuri = 'prompts:/a'\nsystem = 's'", "Known: uri"),
        ("[a]\ntemplate = 3", "template must be a text"),
        ("[a]\ntemplate = 'x'\nparams = 1", "params must be a table"),
        ("[a]\ntemplate = '{{ x'", r"\[a\]: prompt 'a': template error at line 1"),
        ("[a]\ntemplate = ''", "empty template"),
        ("[a]\nmessages = 'x'", "message"),
        ("[a]\ntemplate = 'x'\nexamples = 1", "examples must be"),
        ("[a]\ntemplate = 'x'\nexamples = { choose = 'fixed' }", "either items or file"),
        ("[a]\ntemplate = 'x'\nexamples = { file = 3 }", "file must be a text"),
        ("[a]\ntemplate = 'x'\nexamples = { items = [], chose = 'x' }", "Did you mean choose"),
        ("[a]\ntemplate = 'x'\nexamples = { items = [{ t = 'a', output = 'b' }], choose = 'x' }", "way to choose examples"),
        ("[a]\ntemplate = 'x'\nexamples = { file = 'none.csv' }", "none.csv cannot be read"),
    ],
)
def test_a_malformed_file_is_refused_with_the_place(tmp_path, text, says):
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=says) as raised:
        load_prompts(path)
    assert str(tmp_path) in str(raised.value)


def test_a_file_that_is_not_utf_8_names_the_line(tmp_path):
    (tmp_path / "p.toml").write_bytes(b"[a]\ntemplate = 'caf\xe9'\n")
    with pytest.raises(BadInput, match="not UTF-8: byte 0xe9 at line 2"):
        load_prompts(tmp_path / "p.toml")


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "p.toml").write_bytes(b"\xef\xbb\xbf[a]\ntemplate = 'x'\n")
    assert load_prompts(tmp_path / "p.toml")["a"].template == "x"


def test_a_missing_file_names_the_ones_that_are_there(folder):
    with pytest.raises(BadInput, match=r"Did you mean prompts.toml\?"):
        load_prompts(str(folder / "prompt.toml"))


@given(st.binary())
def test_any_bytes_give_prompts_or_a_clear_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_bytes(data)
    try:
        assert load_prompts(path)
    except BadInput as error:
        assert "fuzz.toml" in str(error)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("e.csv", "text,output\na\n", "line 2"),
        ("e.csv", "text,output\na,b,c\n", "line 2"),
        ("e.csv", 'text,output\n"a"b,c\n', "line 2"),
        ("e.jsonl", '{"a": 1, "output": 2}\n{"a"\n', "line 2"),
        ("e.jsonl", "[1]\n", "line 1"),
        ("e.txt", "a", "csv or .jsonl"),
    ],
)
def test_a_malformed_example_file_names_the_line(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=says):
        read_examples(tmp_path / name)


def test_jsonl_examples(tmp_path):
    (tmp_path / "e.jsonl").write_text('{"a": "x\u2028y", "output": 2}\n\n', encoding="utf-8")
    assert read_examples(tmp_path / "e.jsonl") == [{"a": "x\u2028y", "output": 2}]


def test_every_form_of_prompts():
    chat = [{"role": "user", "content": "{{ q }}"}]
    assert load_prompts({"a": "x", "b": chat, "c": Prompt("y", name="own")})["c"].name == "own"
    assert load_prompts({"a": "x"})["a"].name == "a"
    assert list(load_prompts("Just {{ text }}.toml text")) == ["prompt"]
    assert list(load_prompts(chat)) == ["prompt"]
    assert list(load_prompts(["x", chat, Prompt("y", name="own")])) == ["prompt", "prompt_2", "own"]
    assert list(load_prompts([Prompt("a", name="qa", version=1), Prompt("b", name="qa", version=2)])) == ["qa", "qa/2"]
    assert load_prompts("prompts:/qa@live", fetch=lambda address: Prompt("t", name="qa", version=2))["qa"].version == 2


@pytest.mark.parametrize("value", [{}, [], 7, None, {"a": 3}])
def test_what_is_no_prompt_is_refused(value):
    with pytest.raises(BadInput):
        load_prompts(value)


def test_an_address_needs_the_library():
    with pytest.raises(BadInput, match="library"):
        load_prompt("prompts:/qa")
