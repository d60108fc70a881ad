"""Texts that no scorer may choke on: lone surrogates, NUL, escapes, deep nesting, five megabytes."""

from __future__ import annotations

import functools

import pytest

from llmops_lab.records import Reply, to_json
from llmops_lab.scorers._run import bind

SCORERS = [
    ("exact", {"ignore_case": True, "ignore_punctuation": True}),
    ("fuzzy", {}),
    ("contains", {"words": True}),
    ("regex", {"pattern": r"(\w+\s?)+$", "full": True}),
    ("label", {"labels": ["yes", "no"]}),
    ("json_schema", {"schema": {"type": "object"}}),
    ("json_fields", {}),
    ("sql", {}),
    ("python_code", {}),
    ("bleu", {"tokenize": "intl"}),
    ("chrf", {}),
    ("rouge", {}),
    ("readability", {}),
    ("refusal", {}),
    ("length", {}),
]
TEXTS = {
    "surrogate": "\ud800 lone \udfff",
    "nul": "a\x00b",
    "escapes": "\x1b[31m<script>alert(1)</script>",
    "blank": " \n\t",
    "open fence": "```json\n{",
    "five megabytes": "lorem ipsum, dolor. " * 250_000,
    "one word": "x" * 5_000_000,
    "dots": "." * 2_000_000 + "x",
    "lines": "\n" * 2_000_000 + "x",
    "brackets": "[" * 1_000_000,
    "fences": "```\n" * 500_000,
    "digits": "9" * 2_000_000,
}


@functools.cache
def scorer(name: str, position: int):
    return bind(name, **SCORERS[position][1])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("position", range(len(SCORERS)), ids=[name for name, _ in SCORERS])
def test_no_text_breaks_a_scorer(position, kind):
    text = TEXTS[kind]
    for target in ("hello world", '{"a": 1}', text):
        score = scorer(SCORERS[position][0], position)(Reply(text, "length"), target, {})
        assert not score.error or "took longer" in score.error
        assert len(to_json(score)) < 2000
