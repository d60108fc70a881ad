"""What a template declares, and what may be given for it."""

import copy
import json
import math
from pathlib import Path

import numpy
import pytest

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.jobs.parameters import check, declared, from_text, inject, usage

CELL = '''"""What a greeting needs."""
from __future__ import annotations
from typing import Annotated, Literal, Optional

data: Annotated[str, "rows: question, answer | messages"]  # the rows; # is a sign
who: str = "world"  # whom to greet
epochs: float = 2
count: int = -1
loud: bool = False  # how
method: Literal["lora", "full", 3, None] = "lora"  # the way
models: Annotated[list[str], "model"] = [
    "tiny",
    "echo",  # not a help
]  # whom to ask
note: str | None = None
limits: dict[str, float] = {}
mixed: "str | list[int]" = "a"
old: Optional[int] = None
plain = 3
text = "x"
'''


def notebook(cell=CELL, **more):
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
        "cells": [
            {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Greet"},
            {"cell_type": "code", "id": "b", "metadata": {"tags": ["parameters"]}, "source": cell, "outputs": [], "execution_count": None},
            {"cell_type": "code", "id": "c", "metadata": {}, "source": "print(who)", "outputs": [], "execution_count": None},
        ],
        **more,
    }


def only(line):
    return declared(notebook("from typing import Annotated, Any, Literal\n" + line))


def test_a_cell_says_names_types_defaults_and_help():
    found = {each.name: each for each in declared(notebook())}
    said = {name: (each.type, each.default, each.help) for name, each in found.items()}
    assert said == {
        "data": ("str", None, "the rows; # is a sign"),
        "who": ("str", "world", "whom to greet"),
        "epochs": ("float", 2.0, ""),
        "count": ("int", -1, ""),
        "loud": ("bool", False, "how"),
        "method": ('"lora" | "full" | 3 | null', "lora", "the way"),
        "models": ("list[str]", ["tiny", "echo"], "whom to ask"),
        "note": ("str | None", None, ""),
        "limits": ("dict[str, float]", {}, ""),
        "mixed": ("str | list[int]", "a", ""),
        "old": ("int | None", None, ""),
        "plain": ("int", 3, ""),
        "text": ("str", "x", ""),
    }
    assert [name for name, each in found.items() if each.required] == ["data"]
    assert found["method"].choices == ("lora", "full", 3, None)
    assert (found["data"].marks, found["models"].marks) == (("rows: question, answer | messages",), ("model",))


def test_a_notebook_is_read_from_a_file_and_from_lines(tmp_path):
    made = notebook()
    made["cells"][1]["source"] = CELL.splitlines(keepends=True)
    path = tmp_path / "t.ipynb"
    path.write_text(json.dumps(made))
    assert declared(path) == declared(notebook()) == declared(str(path))


def test_a_notebook_without_the_cell_declares_nothing_and_takes_nothing():
    made = notebook()
    made["cells"][1]["metadata"] = {}
    assert declared(made) == []
    assert check([], {}) == {}
    with pytest.raises(UnknownName, match="declares none: it has no cell tagged 'parameters'"):
        check([], {"who": 1})


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("import os", "line 2: only declarations"),
        ("x: int = 1\nprint(x)", "line 3: only declarations"),
        ("x: int = 60 * 60", "the default '60 . 60' is no plain value"),
        ("x: str = open('/etc/passwd').read()", "is no plain value"),
        ("x: __import__('os').system('touch owned') = 1", "is no type that a parameter can have"),
        ("x: 'str; import os' = 1", "is no type"),
        ("x: dict[int, str] = {}", "is no type"),
        ("x: Foo = 1", "Foo is no type that a parameter can have. Known: str, int"),
        ("x: int = 'a'", "x must be int, not 'a'"),
        ("x: float = 1e999", "x must be a finite number"),
        ("x: tuple = (1,)", "is no type"),
        ("x = (1, 2)", "must be JSON .* write it as a list"),
        ("x: str = b'a'", "must be JSON"),
        ("x = y = 1", "only declarations"),
        ("x, y = 1, 2", "only declarations"),
        ("x.y: int = 1", "only declarations"),
        ("x[0] = 1", "only declarations"),
        ("x: int = 1\nx: int = 2", "x is declared twice"),
        ("kernel: str = 'a'", "it says how the job itself is run"),
        ("out: str = 'a'", "it says how the job itself is run"),
        ("_x: int = 1", "begins with an underscore"),
        ("__builtins__: dict = {}", "begins with an underscore"),
        ("api_key: str = ''", "Secrets are no parameters"),
        ("hf_token: str = ''", "Secrets are no parameters"),
        ("x: str = 'sk-proj-abcdefghijklmnopqrstuvwx'", "x holds a secret"),
        ("x: Annotated[str, 'fiel'] = ''", "'fiel' is nothing that a value can name. Did you mean file"),
        ("x: Annotated[str, 'column of dta'] = ''", "no parameter called 'dta'"),
        ("%matplotlib inline", "no plain Python"),
        ("!touch owned", "no plain Python"),
        ("x: int = ", "no plain Python"),
        ("x\x00: int = 1", "no plain Python"),
        ("if True:\n    x: int = 1", "only declarations"),
        ("x: list = " + "[" * 500 + "]" * 500, "no plain Python|no plain value"),
        ("x: int = " + "9" * 5000, "no plain Python"),
    ],
)
def test_a_cell_that_is_no_declaration_is_refused(cell, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=said):
        only(cell)
    assert list(tmp_path.iterdir()) == []


def test_two_cells_of_the_tag_or_another_language_or_no_notebook_are_refused(tmp_path):
    twice = notebook()
    twice["cells"].append(copy.deepcopy(twice["cells"][1]))
    with pytest.raises(BadInput, match="2 cells tagged 'parameters'"):
        declared(twice)
    with pytest.raises(BadInput, match="notebook in R: templates are in Python"):
        declared(notebook(metadata={"kernelspec": {"name": "ir", "language": "R"}}))
    for content in ("", "{}", "[]", '{"cells": [], "nbformat": 3}', "\xff"):
        path = tmp_path / "t.ipynb"
        path.write_bytes(content.encode("latin-1"))
        with pytest.raises(BadInput, match=r"t\.ipynb is no notebook"):
            declared(path)


def test_values_are_given_or_default_in_the_order_of_the_declaration():
    found = check(declared(notebook()), {"plain": 4, "data": "d.csv", "epochs": 3, "mixed": [1], "note": "n"})
    assert list(found) == [each.name for each in declared(notebook())]
    given = {"plain": 4, "data": "d.csv", "epochs": 3.0, "mixed": [1], "note": "n"}
    assert given.items() <= found.items() and isinstance(found["epochs"], float)
    found["models"].append("changed")
    assert check(declared(notebook()), {"data": "d"})["models"] == ["tiny", "echo"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, r"missing: data \(str\): the rows"),
        ({"data": "d", "whoo": "x"}, "no parameter called 'whoo'. Did you mean who"),
        ({"data": 3}, "data must be str, not 3"),
        ({"data": None}, "data must be str, not None"),
        ({"data": "d", "count": True}, "count must be int, not True"),
        ({"data": "d", "count": 2.0}, "count must be int, not 2.0; write 2"),
        ({"data": "d", "loud": 1}, "loud must be bool, not 1"),
        ({"data": "d", "epochs": "2"}, "epochs must be float, not '2'"),
        ({"data": "d", "epochs": 2**53 + 1}, "can hold exactly"),
        ({"data": "d", "epochs": 10**400}, "can hold exactly"),
        ({"data": "d", "method": "qlora"}, 'method must be one of "lora" | "full"'),
        ({"data": "d", "method": True}, "method must be one of"),
        ({"data": "d", "models": "tiny"}, r"write it as a list, in \[ \]"),
        ({"data": "d", "models": ["a", 3]}, "models item 2 must be str, not 3"),
        ({"data": "d", "limits": {"a": "b"}}, "limits entry 'a' must be float"),
        ({"data": "d", "mixed": [1, "x"]}, r"mixed must be str \| list\[int\]"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(given, said):
    with pytest.raises(BadInput, match=said):
        check(declared(notebook()), given)


@pytest.mark.parametrize(
    ("pairs", "given"),
    [
        (["data=d=1, x.csv"], {"data": "d=1, x.csv"}),
        (["who=007", "note=null", "plain=+7"], {"who": "007", "note": None, "plain": 7}),
        (["who=", "old= "], {"who": "", "old": None}),
        (["who=null"], {"who": "null"}),
        (["epochs=1e-3", "count=-5", "loud=TRUE"], {"epochs": 0.001, "count": -5, "loud": True}),
        (["models=a", "models=b,c"], {"models": ["a", "b,c"]}),
        (['models=["a", "b"]', "models=c"], {"models": ["a", "b", "c"]}),
        (['limits={"a": 1}', "mixed=[1]", "method=3"], {"limits": {"a": 1}, "mixed": [1], "method": 3}),
        (["mixed=a", "method=null", "old=12"], {"mixed": "a", "method": None, "old": 12}),
    ],
)
def test_the_command_line_reads_a_text_as_it_is_declared(pairs, given):
    assert from_text(declared(notebook()), pairs) == given


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["who"], "wants name=value"),
        (["whoo=x"], "Did you mean who"),
        (["epochs=nan"], "epochs must be a number"),
        (["epochs=1e999"], "must be a number that is finite"),
        (["count=1_000"], "count must be a whole number"),
        (["count=٣"], "count must be a whole number"),
        (["count=" + "9" * 5000], "count must be a whole number"),
        (["loud=yes"], "loud must be true or false"),
        (["limits=a"], "limits must be .* as JSON"),
        (['limits={"a": NaN}'], "as JSON"),
        (["method=qlora"], "must be one of"),
        (["who=a", "who=b"], "who is given twice"),
    ],
)
def test_a_text_that_does_not_fit_is_refused(pairs, said):
    with pytest.raises(BadInput, match=said):
        from_text(declared(notebook()), pairs)


def test_help_shows_the_declaration():
    told = usage(declared(notebook()))
    assert "  data: str  required\n      the rows; # is a sign\n" in told
    assert '  models: list[str]  (["tiny", "echo"])\n      whom to ask' in told
    assert "\x1b" not in usage(only("x: str = '\\x1b[2J'"))
    assert usage([]) == "  none"


def test_values_come_in_behind_the_declaration_and_replace_an_earlier_injection():
    made = inject(notebook(), {"who": "a", "x": [1]})
    assert [cell["metadata"].get("tags") for cell in made["cells"]] == [None, ["parameters"], ["injected-parameters"], None]
    assert made["cells"][2]["source"] == "# Parameters of this job\nwho = 'a'\nx = [1]"
    again = inject(made, {"who": "b"})
    assert [cell["source"] for cell in again["cells"][2:]] == ["# Parameters of this job\nwho = 'b'", "print(who)"]
    assert len(notebook()["cells"]) == 3
    bare = notebook()
    bare["cells"] = bare["cells"][2:]
    assert inject(bare, {})["cells"][0]["metadata"]["tags"] == ["injected-parameters"]
    for name in ("a b", "a=1;b", "", "x\n"):
        with pytest.raises(BadInput, match="no name for a parameter"):
            inject(notebook(), {name: 1})
    with pytest.raises(BadInput, match="must be JSON"):
        inject(notebook(), {"x": (1,)})


class Odd(str):
    pass


@pytest.mark.parametrize(
    "value",
    [
        ('"+str(open("owned","w"))+"',),
        b'"; open("owned","w") #',
        {1, 2},
        frozenset("a"),
        Path("x"),
        numpy.float64(1.0),
        numpy.int64(1),
        numpy.str_("a"),
        numpy.array([1]),
        Odd("x"),
        1 + 2j,
        range(3),
        object(),
        print,
        math.nan,
        math.inf,
        -math.inf,
        [math.nan],
        {"a": {1: 2}},
        {Path("x"): 1},
        "\ud800",
        {"\udfff": 1},
        "x" * 10_000_000,
        ["x" * 600_000, "y" * 600_000],
        10**5000,
        "Bearer abcdefghijklmnopqrstuvwxyz",
        {"api_key": "short"},
        ["postgresql://me:secret-word@host/db"],
    ],
    ids=lambda value: f"{type(value).__name__} {ascii(value)[:20]}" if not isinstance(value, int) else "large",
)
def test_what_is_not_json_or_too_large_or_secret_is_refused(value):
    with pytest.raises(BadInput) as caught:
        check(only("x: Any = None"), {"x": value})
    told = str(caught.value)
    assert len(told) < 400 and "secret-word" not in told and "abcdefghijkl" not in told


def test_nesting_without_end_is_refused_at_once():
    deep, wide, loop = [], [], []
    for _ in range(60):
        deep, wide = [deep], [wide, wide]
    loop.append(loop)
    for value in (deep, wide, loop):
        with pytest.raises(BadInput, match="nested more than 50 deep"):
            check(only("x: list = []"), {"x": value})
