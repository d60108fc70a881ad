"""What records hold of tables: numbers that are none, and values that are missing."""

import json

import numpy as np
import pandas as pd
import pytest

from llmops_lab.records import Message, Relayed, Request, Score, Turn, Usage, digest, from_json, is_missing, nan_as_null, to_json


def test_what_is_not_a_number_is_null_wherever_it_stands_and_the_rest_stays():
    told = {"means": (1.5, float("nan"), [float("inf"), -float("inf")]), 2: Score(float("nan"), detail={"n": np.int64(3)}), "none": None}
    plain = nan_as_null(told)
    score = {"value": None, "reason": "", "error": "", "detail": {"n": 3}}
    assert plain == {"means": [1.5, None, [None, None]], "2": score, "none": None}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert nan_as_null(np.float32("nan")) is None and nan_as_null(np.bool_(True)) is True


@pytest.mark.parametrize("value", [None, float("nan"), np.float64("nan"), pd.NA, pd.NaT])
def test_a_gap_of_a_table_is_missing(value):
    assert is_missing(value)


@pytest.mark.parametrize("value", ["", 0, 0.0, False, float("inf"), [], "NaN"])
def test_a_value_is_not_missing(value):
    assert not is_missing(value)


def test_turns_and_relayed_replies_come_back_from_json_and_plain_messages_keep_their_digest():
    call = {"id": "1", "type": "function", "function": {"name": "a", "arguments": "{}"}}
    request = Request((Message("user", "hi"), Turn("assistant", "", {"content": None, "tool_calls": [call]})))
    assert from_json(Request, to_json(request)) == request
    relayed = Relayed("hi", "stop", Usage(1, 2), choices=({"index": 0, "message": {"content": "hi"}},), more={"usage": {"a": 1}})
    assert from_json(Relayed, to_json(relayed)) == relayed
    plain = {"messages": [{"role": "user", "content": "hi"}], "params": {}, "schema": None, "tools": []}
    assert digest(Request((Message("user", "hi"),))) == digest(plain)
