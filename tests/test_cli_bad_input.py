"""Wrong use ends in a message that names the thing, what is known and the next step; exit 2; nothing sent, nothing half-written."""

import pytest

from tests.commands import Place
from tests.servers import ModelServer

GOOD = "id,question,answer\n1,a,b\n2,c,d\n"


@pytest.fixture(scope="module")
def server():
    with ModelServer() as made:
        yield made


@pytest.fixture
def place(tmp_path, server):
    server.clear()
    made = Place(tmp_path)
    made.write("p.toml", '[plain]\ntemplate = "{{ question }}"\n')
    made.write("r.csv", GOOD)
    return made


def refused(place, server, *changes, files=()):
    """Run a grid with these further words; returns what it says."""
    for name, content in dict(files).items():
        place.write(name, content)
    words = ["grid", "--prompts", "p.toml", "--rows", "r.csv", "--scorer", "exact", "--expected", "answer", "--json", "out.json"]
    if "--model" not in changes:
        words += ["--model", f"openai:m@{server.url}"]
    done = place.run(*words, *changes)
    assert done.code == 2, (done.code, done.out, done.err)
    assert done.out == "" and "Traceback" not in done.err and done.err.count("\n") == 1
    assert server.requests == []
    assert [place.count(table) for table in ("grids", "cells", "claims", "replies", "outbox")] == [0] * 5
    assert sorted(path.name for path in place.folder.iterdir() if path.name != "home") == sorted({"p.toml", "r.csv", *dict(files)})
    assert not (place.home / "mlflow.db").exists()
    return done.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--model", "tinny"), ("no model provider called 'tinny'", "Did you mean tiny", "Known: ", "openai")),
        (("--model", "openai:m@ftp://x"), ("must be a base URL", "openai:NAME@http://127.0.0.1:8000/v1")),
        (("--scorer", "exakt"), ("no scorer called 'exakt'", "Did you mean exact", "regex")),
        (("--scorer", "regex patern=x"), ("regex", "patern", "pattern")),
        (("--expected", "anser"), ("no column called 'anser'", "Did you mean answer?", "r.csv")),
        (("--rows", "rr.csv"), ("rr.csv does not exist", "In that folder: r.csv")),
        (("--rows", "r.xlsx"), ("r.xlsx is of no known kind", ".csv, .tsv, .jsonl, .json, .parquet")),
        (("--prompts", "q.toml"), ("q.toml cannot be read", "Did you mean p.toml?")),
        (("--prompts", "{{ question }}"), ("name a .toml file",)),
        (("--budget", "0"), ("--budget must be a number above 0, not '0'",)),
        (("--budget", "-1"), ("--budget must be a number above 0, not '-1'",)),
        (("--budget", "nan"), ("--budget must be a number above 0, not 'nan'",)),
        (("--budget", "1"), ("a budget needs a price", "openai:m@", "[tool.llmops_lab.prices")),
        (("--repeats", "two"), ("--repeats must be a whole number, 1 or more, not 'two'",)),
        (("--repeats", "0"), ("--repeats must be a whole number, 1 or more, not '0'",)),
        (("--concurrency", "1.5"), ("--concurrency must be a whole number",)),
        (("--timeout", "soon"), ("--timeout must be a number above 0, not 'soon'",)),
        (("--retries", "-1"), ("--retries must be a whole number, 0 or more",)),
        (("--param", "temperature"), ("--param wants name=value, as in temperature=0.7, not 'temperature'",)),
        (("--param", "temperature=hot"), ("temperature", "hot", "number")),
        (("--stop", "soon"), ("--stop cannot be 'soon'", "decided")),
        (("--modle", "x"), ("there is no option --modle", "Did you mean --model", "--help")),
        (("surplus",), ("too many words: surplus", "quotation marks")),
        (("--json", "no/such/out.json"), ("no/such", "does not exist")),
    ],
)
def test_a_wrong_word(place, server, words, expected):
    said = refused(place, server, *words)
    assert [part for part in expected if part not in said] == [], said


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("r.csv", "id,question,answer\n", ("r.csv has no rows",)),
        ("r.csv", "", ("r.csv has no rows",)),
        ("r.csv", "id,question,answer\n7,a,b\n8,c,d\n7,e,f\n", ("id '7' occurs 2 times in r.csv (rows 1, 3)", "drop the column")),
        ("r.csv", "id,question,answer\n7,a,b\n,c,d\n", ("'id' that is empty in row 2",)),
        ("r.csv", b"id,question,answer\n1,a,b\n2,\xe9,d\n", ("r.csv is not UTF-8: line 3 holds the byte 0xe9", "Save it as UTF-8")),
        ("r.csv", "id,question,answer\n1,a,b\n2,c,d,e\n", ("r.csv, line 3: 4 fields, the header has 3", "Quote text that holds commas")),
        ("r.csv", 'id,question,answer\n1,a,b\n2,"c"x,d\n', ("r.csv, line 3",)),
        ("r.csv", "id,question,question\n1,a,b\n", ("r.csv, line 1", "column names must be there and differ")),
        ("r.csv", "id,query,answer\n1,a,b\n2,c,d\n", ("prompt 'plain'", "question", "2 rows: 1, 2", "query")),
        ("p.toml", '[plain]\ntemplate = "{{ question }"\n', ("p.toml, [plain]",)),
        ("p.toml", "[plain]\ntemplate = {{ question }}\n", ("p.toml is malformed", "line 2")),
        ("p.toml", b'[plain]\ntemplate = "\xe9"\n', ("p.toml is not UTF-8", "line 2")),
        ("p.toml", "[plain]\ntext = 'x'\n", ("p.toml, [plain] has 'text', which is not known", "template")),
        ("p.toml", "", ("p.toml holds no prompt",)),
        ("pyproject.toml", "[tool.llmops_lab]\ntimout = 3\n", ("pyproject.toml sets 'timout', which is no setting", "timeout")),
        ("pyproject.toml", "[tool.llmops_lab\n", ("pyproject.toml cannot be read", "line 1")),
    ],
)
def test_a_wrong_file(place, server, name, content, expected):
    said = refused(place, server, files={name: content})
    assert [part for part in expected if part not in said] == [], said


def test_a_malformed_line_of_other_kinds_of_rows_is_named(place, server):
    said = refused(place, server, "--rows", "r.jsonl", files={"r.jsonl": '{"question": "a", "answer": "b"}\n{"question": }\n'})
    assert "r.jsonl, line 2 is not JSON" in said
    said = refused(place, server, "--rows", "r.json", files={"r.json": '[\n{"a": 1},\n{]\n', "r.jsonl": "{}"})
    assert "r.json, line 3 is not JSON" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("gird",), ("cannot be 'gird'", "Did you mean grid?")),
        ((), ("missing: COMMAND",)),
        (("grid",), ("missing: --prompts, --rows",)),
        (("prompts", "shwo"), ("cannot be 'shwo'", "Did you mean show")),
        (("compare", "a"), ("missing: B",)),
    ],
)
def test_a_wrong_command(place, words, expected):
    done = place.run(*words)
    assert done.code == 2 and done.out == ""
    assert [part for part in expected if part not in done.err] == [], done.err
