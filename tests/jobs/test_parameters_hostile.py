"""Names and values made to run code or to leave the output folder: a real kernel gets each value exactly, and runs none of them."""

import base64
import json
import os
import shutil
import sys

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbclient import NotebookClient

from llmops_lab.errors import BadInput
from llmops_lab.flows.check_job import check as check_job
from llmops_lab.jobs.parameters import check, declared, from_text, inject
from llmops_lab.settings import Settings

# How the kernel says what it got: as Python sees it, type by type, so that 1, 1.0 and True differ.
TELL = """import base64 as _b, json as _j
def _told(value):
    if isinstance(value, dict):
        return ["dict", [[_told(key), _told(each)] for key, each in value.items()]]
    return [type(value).__name__, [_told(each) for each in value] if isinstance(value, list) else ascii(value)]
print(_b.b64encode(_j.dumps(_told(x)).encode()).decode())"""
HOSTILE_NAMES = [
    "x=1; import os; os.system('touch owned'); y",
    "x\nopen('owned', 'w')\ny",
    "!touch owned; x",
    "%system touch owned",
    "%%bash\ntouch owned\n",
    "x: __import__('os').system('touch owned')",
    "x = __import__('os').system('touch owned') #",
    "__builtins__",
    "__import__",
    "__class__",
    "print",
    "import",
    "None",
    "True",
    "lambda",
    "match",
    "x.y",
    "x[0]",
    "x y",
    "",
    " x",
    "x ",
    "x\x00",
    "ｘ",  # a fullwidth letter: Python takes it for x
    "х",  # of the Cyrillic alphabet
    "x\u200b",
    "x\u202e",
    "\ud800",
    "1x",
    "../x",
    "x" * 100_000,
    "get_ipython",
    "{x.__class__.__mro__}",
    3,
    None,
    ("x",),
    b"x",
]
HOSTILE_VALUES = [
    "'; open('owned', 'w'); '",
    '"; open("owned", "w"); "',
    "'''\nopen('owned', 'w')\n'''",
    '"""\nopen("owned", "w")\n"""',
    "\\'; open('owned', 'w') #",
    "a\nopen('owned', 'w')",
    "a\r\nopen('owned', 'w')",
    "a\u2028open('owned', 'w')\u2029\x0b\x0c\x1c\x1d\x1e\x85",
    "!touch owned",
    "\n!touch owned\n",
    "%%bash\ntouch owned",
    "\n%system touch owned\n",
    "what?",
    "x??",
    "?x",
    "{open('owned', 'w')}",
    "{x.__class__.__mro__}",
    "${HOME} $(touch owned) `touch owned`",
    "../../../../tmp/owned",
    "/etc/passwd",
    "\x00\x01\x1b[2J\x7f",
    "\\N{BULLET} \\x41 \\u0041 \\",
    "\\",
    "#",
    "é\u0301 ﬁ ﷽ 👩‍👩‍👧 \u202e\u2066abc",
    "\uffff\U0010ffff",
    "=HYPERLINK(1)",
    "<script>alert(1)</script>",
    "__import__('os').system('touch owned')",
    "lambda: 0",
    "nan",
    "",
    " ",
    "\t",
    "x" * 200_000,
    {"'; open('owned', 'w'); '": "'"},
    {"__class__": {"__init__": ["%ls", "!ls"]}},
    {"": {"": [{}]}},
    [[[[[[[[[[["deep"]]]]]]]]]]],
    [None, True, False, 1, 1.0, -0.0, 1e308, 5e-324, 0.1, -1e-7, 10**40, -(10**3000), [], {}, ""],
    1e22,
    2**64,
    True,
    None,
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def notebook(cell="from typing import Any\nx: Any = None\n"):
    cells = [nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(TELL)]
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "P"}})


def told(value):
    """What TELL says of a value, made here."""
    if isinstance(value, dict):
        return ["dict", [[told(key), told(each)] for key, each in value.items()]]
    return [type(value).__name__, [told(each) for each in value] if isinstance(value, list) else ascii(value)]


class Kernel:
    """A real kernel that runs notebooks as a job does, in an empty folder, and says what each value of x was."""

    def __init__(self, folder):
        self.folder = folder
        self._client = NotebookClient(nbformat.v4.new_notebook(), kernel_name="python3", resources={"metadata": {"path": str(folder)}})
        self._client.create_kernel_manager()
        self._client.start_new_kernel(cwd=str(folder))
        self._client.start_new_kernel_client()

    def gets(self, value):
        """The injected cell, read back from a file as papermill would, and TELL, run; what TELL said."""
        made = inject(notebook(), check(declared(notebook()), {"x": value}))
        made = nbformat.reads(nbformat.writes(made).encode().decode(), as_version=4)
        nbformat.validate(made)
        assert [cell.metadata.get("tags") for cell in made.cells] == [["parameters"], ["injected-parameters"], None]
        self._client.nb = made
        for number, cell in enumerate(made.cells):
            self._client.execute_cell(cell, number)
        assert [output.output_type for output in made.cells[1].outputs] == []
        return json.loads(base64.b64decode(made.cells[2].outputs[0].text))

    def close(self):
        self._client._cleanup_kernel()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    made = Kernel(tmp_path_factory.mktemp("kernel"))
    yield made
    assert os.listdir(made.folder) == []  # nothing that any value said was done
    made.close()


def test_there_are_forty_at_least():
    assert len(HOSTILE_NAMES) + len(HOSTILE_VALUES) >= 80


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: ascii(name)[:30])
def test_a_hostile_name_is_refused_before_anything_starts(name):
    for cell in ("x: int = 1", "from typing import Any\nx: Any = None"):
        with pytest.raises(BadInput) as caught:
            check(declared(notebook(cell)), {name: 1})
        assert len(str(caught.value)) < 300 and str(caught.value).isprintable()
    if isinstance(name, str) and "\x00" not in name and name.partition("=")[0].strip() != "x":
        with pytest.raises(BadInput):
            from_text(declared(notebook()), [f"{name}=1"])


def test_a_kernel_gets_every_hostile_value_exactly_and_runs_none(kernel):
    for value in HOSTILE_VALUES:
        assert kernel.gets(value) == told(value), ascii(value)[:80]
    whole = {"all": HOSTILE_VALUES}
    assert kernel.gets(whole) == told(whole)
    assert os.listdir(kernel.folder) == []


@settings(max_examples=int(os.environ.get("LLMOPS_LAB_FULL", "0")) * 1000 or 60, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=st.lists(JSON, min_size=1, max_size=20))
def test_any_json_value_comes_through_exactly(kernel, values):
    try:
        assert kernel.gets(values) == told(values)
    except BadInput as error:  # a text that looks like a key of a provider
        assert "secret" in str(error)


@settings(max_examples=300, deadline=None)
@given(name=st.text() | st.sampled_from([each for each in HOSTILE_NAMES if isinstance(each, str)]), value=JSON)
def test_no_name_but_a_declared_one_is_taken(name, value):
    if name == "x":
        assert list(check(declared(notebook()), {name: value})) == ["x"]
        return
    with pytest.raises(BadInput):
        check(declared(notebook()), {name: value})


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_of_the_command_line_stays_that_text(text):
    found = declared(notebook("x: str = ''\n"))
    assert from_text(found, [f"x={text}"]) == {"x": text}


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40) | st.sampled_from(["x: int = 1", "x: str = '''\n'''"]))
def test_any_cell_is_read_or_refused_and_never_run(source):
    try:
        names = [each.name for each in declared(notebook(source))]
    except BadInput:
        return
    assert all(name.isidentifier() for name in names)


@pytest.mark.parametrize("path", ["../../outside.csv", "/etc/passwd", "{x}.csv", "~root/x.csv", "$HOME/x.csv", "a\x00.csv", "x" * 5000])
def test_a_file_that_a_value_names_is_looked_at_and_never_written(path, tmp_path, monkeypatch):
    home = tmp_path / "project"
    home.mkdir()
    monkeypatch.chdir(home)
    nbformat.write(notebook("from typing import Annotated\nx: Annotated[str, 'rows']"), home / "t.ipynb")
    with pytest.raises(BadInput):
        check_job("t.ipynb", {"x": path}, settings=Settings(home=str(tmp_path / "home")))
    assert sorted(os.listdir(tmp_path)) == ["project"] and os.listdir(home) == ["t.ipynb"]


def test_the_declaration_is_not_run_when_a_notebook_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for cell in ("x: print(open('owned', 'w')) = 1", "x: int = open('owned', 'w')", "class x:\n    open('owned', 'w')", "x: 'open(1)' = 1"):
        with pytest.raises(BadInput):
            declared(notebook(cell))
    assert os.listdir(tmp_path) == [] and "owned" not in sys.modules


@pytest.mark.parametrize("blank", ["", "\n"])  # IPython takes empty lines away before it looks
def test_a_parameter_called_like_a_magic_does_not_run_it(blank, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "victim").write_text("")
    source = f'{blank}rm: str = "victim"  # what to keep'
    made = nbformat.from_dict(inject(notebook(source), check(declared(notebook(source)), {})))
    made.cells[-1].source = "print(rm)"
    done = NotebookClient(made, kernel_name="python3").execute()
    assert (tmp_path / "victim").exists() and done.cells[0].outputs == []
    assert done.cells[-1].outputs[0].text == "victim\n" and declared(made)[0].help == "what to keep"


@pytest.mark.parametrize(
    "given",
    [
        {"x=1; open('owned', 'w'); y": 1},
        {"x\nopen('owned', 'w')\ny": 1},
        {"!touch owned ;x": 1},
        {"x": b"'; open('owned', 'w') #"},
        {"z": 1},
        {"y": "no number"},
        {"api_key": "a"},
    ],
    ids=lambda given: ascii(given)[:40],
)
def test_papermill_with_our_engine_runs_nothing_that_plain_papermill_would(given, tmp_path, monkeypatch):
    import papermill

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
    nbformat.write(notebook("from typing import Any\nx: Any = None\ny: int = 1\n"), "t.ipynb")
    with pytest.raises(BadInput):
        papermill.execute_notebook("t.ipynb", "out.ipynb", parameters=given, engine_name="llmops", progress_bar=False)
    assert not {"owned", "out.ipynb", "run.json"} & set(os.listdir(tmp_path))


def test_papermill_with_our_engine_gives_the_kernel_what_was_checked(tmp_path, monkeypatch, empty_mlflow):
    import papermill

    monkeypatch.chdir(tmp_path)
    shutil.copytree(empty_mlflow, tmp_path / "home")
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
    nbformat.write(notebook(), "t.ipynb")
    value = {"a": ["'; open('owned', 'w') #", {"b": None}], "c": 1.0}
    given = {"x": {**value, "a": tuple(value["a"])}}  # papermill makes a list of a tuple once it has injected it as code
    made = papermill.execute_notebook("t.ipynb", "out.ipynb", parameters=given, engine_name="llmops", progress_bar=False)
    assert json.loads(base64.b64decode(made.cells[2].outputs[0].text)) == told(value)
    assert [cell.metadata.get("tags") for cell in made.cells] == [["parameters"], ["injected-parameters"], []]
    assert json.loads((tmp_path / "run.json").read_text())["parameters"] == {"x": value} and "owned" not in os.listdir(tmp_path)
