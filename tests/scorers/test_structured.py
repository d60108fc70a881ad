"""json_schema, json_fields, sql, python_code, and the fenced blocks that they read."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_lab.errors import BadInput
from llmops_lab.records import Reply, Score
from llmops_lab.scorers._run import bind, summarise

TICKET = {"type": "object", "properties": {"queue": {"enum": ["billing", "tech"]}, "priority": {"type": "integer"}}, "required": ["queue"]}
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8)


def judge(name, text, target=None, **options):
    return bind(name, **options)(Reply(text=text, finish_reason="stop"), target, {})


@pytest.mark.parametrize(
    ("text", "right", "reason"),
    [
        ('{"queue": "tech", "priority": 1}', True, ""),
        ('```json\n{"queue": "tech"}\n```', True, ""),
        ('Here you are:\n```\n{"queue": "tech"}\n```\nAnything else?', True, ""),
        ('{"queue": "sales"}', False, "$.queue: 'sales' is not one of"),
        ('{"priority": 1}', False, "$: 'queue' is a required property"),
        ("[1]", False, "$: [1] is not of type 'object'"),
        ("", False, "not JSON"),
        ("queue: tech", False, "not JSON"),
        ('Sure! {"queue": "tech"}', False, "not JSON"),
        ('{"queue": "tech", "priority": NaN}', False, "not JSON: NaN is not JSON"),
        ('```yaml\n{"queue": "tech"}\n```', False, "not JSON: no fenced block"),
        ('```json\n{"queue": "te', False, "not JSON"),
        ("[" * 100_000, False, "not JSON: nested too deeply"),
        ('"\ud800"', False, "$: "),
    ],
)
def test_json_schema(text, right, reason):
    score = judge("json_schema", text, schema=TICKET)
    assert score.value is right
    assert score.reason.startswith(reason)
    assert not score.error


def test_json_schema_can_be_strict_about_fences():
    assert judge("json_schema", '```json\n{"queue": "tech"}\n```', schema=TICKET, fences=False).value is False


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, r"the schema is wrong at \$.type"),
        ({"properties": {"a": {"minimum": "one"}}}, r"the schema is wrong at \$.properties.a.minimum"),
        ({"$ref": "https://example.org/ticket.json"}, "'https://example.org/ticket.json' is referred to and not in the schema"),
        ({"properties": {"a": {"$ref": "#/$defs/gone"}}}, "'#/\\$defs/gone' is referred to"),
        ({"$schema": 5}, "must be the address of a draft"),
        ({"enum": [object()]}, "cannot be written as JSON"),
    ],
)
def test_a_broken_schema_is_known_before_the_first_call(schema, message):
    with pytest.raises(BadInput, match=message):
        bind("json_schema", schema=schema)


def test_references_inside_the_schema_and_a_property_called_ref_are_fine():
    schema = {"$defs": {"n": {"type": "integer"}}, "properties": {"$ref": {"$ref": "#/$defs/n"}}}
    assert judge("json_schema", '{"$ref": 1}', schema=schema).value is True
    assert judge("json_schema", '{"$ref": "x"}', schema=schema).value is False
    assert judge("json_schema", "3", schema={"$schema": "http://json-schema.org/draft-07/schema#", "type": "integer"}).value is True


@settings(deadline=None)  # the first example pays for an import
@given(values)
def test_whatever_is_json_satisfies_the_empty_schema(value):
    assert judge("json_schema", json.dumps(value), schema={}).value is True


@pytest.mark.parametrize(
    ("text", "target", "value"),
    [
        ('{"a": 1, "b": "x"}', {"a": 1, "b": "x"}, 1.0),
        ('{"a": 1, "b": "y"}', '{"a": 1, "b": "x"}', 0.5),
        ('{"a": 1.0}', {"a": 1}, 1.0),
        ('{"a": true}', {"a": 1}, 0.0),
        ('{"a": "1"}', {"a": 1}, 0.0),
        ('{"a": " x "}', {"a": "x"}, 1.0),
        ('{"a": [1, 2]}', {"a": np.array([1, 2])}, 1.0),
        ('{"a": [2, 1]}', {"a": [1, 2]}, 0.0),
        ('{"a": {"b": 1, "c": 2}}', {"a": {"b": 1, "c": 3}, "d": 4}, 1 / 3),
        ('{"a": {}}', {"a": {}}, 1.0),
        ("{}", {"a": None}, 0.0),
        ('{"a": null}', {"a": None}, 1.0),
        ('{"a": 1, "z": 2}', {"a": 1}, 1.0),
    ],
)
def test_json_fields(text, target, value):
    assert judge("json_fields", text, target).value == pytest.approx(value)


def test_json_fields_says_which_field_is_right_and_sums_them_up():
    scorer = bind("json_fields")
    scores = [
        scorer(Reply(text, "stop"), {"a": {"b": 1}, "c": 2}, {}) for text in ('{"a": {"b": 1}, "c": 3}', '{"a": {"b": 1}, "c": 2}', "no")
    ]
    assert scores[0].detail == {"fields": {"a.b": True, "c": False}}
    assert summarise(scorer.plugin, scores) == {"per_field": {"a.b": 2 / 3, "c": 1 / 3}}


def test_json_fields_options():
    assert judge("json_fields", '{"a": 1, "z": 2}', {"a": 1}, strict=True).value == 0.5
    assert judge("json_fields", '{"a": "TECH"}', {"a": "tech"}, ignore_case=True).value == 1.0


@pytest.mark.parametrize("text", ["", "sorry", "[1]", '{"a": 1'])
def test_a_reply_that_is_no_object_has_no_field_right(text):
    score = judge("json_fields", text, {"a": 1})
    assert score.value == 0.0
    assert score.reason.startswith("the reply is no JSON object")


@pytest.mark.parametrize("target", ["billing", "[1]", [1, 2], 4, {}, "{}"])
def test_an_expected_value_that_is_no_object_leaves_the_row_unscored(target):
    score = judge("json_fields", '{"a": 1}', target)
    assert score.value is None
    assert "expected value" in score.reason


@settings(deadline=None)  # the first example pays for an import
@given(st.dictionaries(st.text(), values, min_size=1, max_size=4))
def test_an_object_agrees_with_itself(value):
    score = judge("json_fields", json.dumps(value), value)
    assert score.value == 1.0


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("SELECT a FROM t WHERE b = 'x'", True),
        ("select 1; select 2;", True),
        ("with a as (select 1) select * from a", True),
        ("INSERT INTO t VALUES (1)", True),
        ("update t set a = 1", True),
        ("create table t (a int)", True),
        ("begin; drop table t; commit", True),
        ("```sql\nSELECT 1\n```", True),
        ("Try this:\n```sql\nSELECT 1\n```\nor\n```sql\nSELECT FROM WHERE\n```", False),
        ("SELECT a FROM t WHERE", False),
        ("Sure! SELECT 1", False),
        ("I don't know", False),
        ("yes", False),
        ("42", False),
        ("(1, 2)", False),
        ("Show me the data", False),
        ("-- nothing here", False),
        ("", False),
    ],
)
def test_sql(text, right):
    score = judge("sql", text)
    assert score.value is right
    assert not score.error


def test_sql_dialects():
    assert judge("sql", "SELECT `a` FROM `t`", dialect="mysql").value is True
    assert judge("sql", "SELECT `a` FROM `t`", dialect="postgres").value is False
    with pytest.raises(BadInput, match=r"no dialect 'oracel'\. Known: athena"):
        bind("sql", dialect="oracel")


def test_sql_is_quiet_about_what_it_half_understands(caplog):
    assert judge("sql", "Show me the data").value is False
    assert not caplog.records
    logging.getLogger("sqlglot").warning("of the user's own")
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("def f(x):\n    return x + 1", True),
        ("```python\nprint('hi')\n```", True),
        ("Run it:\n\n1. so\n   ```python\n   if x:\n       y = 1\n   ```\n", True),
        ("```bash\nls\n```\n```python\nimport os\n```", True),
        ("```bash\nls\n```", False),
        ("```python\nx = 1\n```\nand\n```python\nx = (\n```", False),
        ("def f(:", False),
        ("Here is the code: x = 1", False),
        ("# only a comment", False),
        ("", False),
        ("x = '\x00'", False),
        ("x = '\ud800'", False),
        ("```python\nprint('cut", False),
        ("```python\nprint('cut')", True),
        (r"x = '\d'", True),
        ("(" * 1000, False),
    ],
)
def test_python_code(text, right, recwarn):
    score = judge("python_code", text)
    assert score.value is right
    assert not score.error
    assert not recwarn.list


def test_python_code_never_runs(tmp_path):
    path = tmp_path / "ran"
    assert judge("python_code", f"open({str(path)!r}, 'w')").value is True
    assert not path.exists()


def test_code_that_the_parser_itself_cannot_hold_is_an_error_and_not_false():
    score = judge("python_code", "-" * 20_000 + "1")
    assert score.value is None
    assert score.error


@pytest.mark.parametrize("name", ["sql", "python_code"])
def test_code_beyond_the_cap_is_unscored(name):
    assert judge(name, "select 1;\n" * 20_000) == Score(None, reason="longer than 100,000 characters; not parsed")


@settings(deadline=None)  # the first example pays for an import
@given(st.lists(st.text(alphabet="ab `~\n"), max_size=6))
def test_no_arrangement_of_fences_breaks_the_reading(parts):
    text = "\n```\n".join(parts)
    for name in ("python_code", "sql"):
        assert not judge(name, text).error


@settings(deadline=None)  # the first example pays for an import
@given(st.text(alphabet=st.characters(blacklist_characters="`~\r", blacklist_categories=("Cs",))))
def test_a_fenced_value_is_read_as_it_stands(text):
    payload = json.dumps({"a": text})
    assert judge("json_fields", f"So:\n```json\n{payload}\n```", payload).value == 1.0
    assert judge("json_fields", f"~~~~\n{payload}\n~~~~", payload).value == 1.0
