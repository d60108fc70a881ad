"""How a scorer is found, checked and applied."""

from __future__ import annotations

import functools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_lab.errors import BadInput, ExitCode, UnknownName
from llmops_lab.records import Reply, Score, from_json, to_json
from llmops_lab.scorers._run import Scorer, bind, describe, has_summary, summarise

NAMES = (
    "bleu chrf contains cost deepeval exact fuzzy json_fields json_schema jury label latency length mlflow pairwise perplexity python_code"
    " readability refusal regex rouge rubric similarity sql"
).split()


def ask(text: str = "4") -> Reply:
    return Reply(text=text, finish_reason="stop")


def test_every_scorer_is_listed_with_its_direction_and_options():
    listed = {each["name"]: each for each in describe()}
    assert sorted(listed) == NAMES
    assert listed["regex"]["options"] == {"pattern": "required", "ignore_case": "False", "full": "False"}
    assert listed["similarity"]["options"] == {}
    assert listed["latency"]["higher_is_better"] is False
    assert listed["exact"]["needs_target"] is True
    assert listed["cost"]["needs_target"] is False
    assert all(each["summary"] for each in listed.values())


def test_a_plugin_that_cannot_be_imported_is_listed_with_its_fault(monkeypatch):
    from llmops_lab import plugins

    monkeypatch.setattr(plugins, "names", lambda kind: ["exact", "gone"])
    listed = describe()
    assert [each["name"] for each in listed] == ["exact", "gone"]
    assert "gone" in listed[1]["summary"]


def test_listing_and_matching_import_nothing_heavy():
    code = (
        "import sys; from llmops_lab.scorers._run import bind, describe; from llmops_lab.records import Reply\n"
        "describe(); assert bind('exact')(Reply('4', 'stop'), 4, {}).value is True\n"
        "heavy = {'numpy', 'pandas', 'mlflow', 'deepeval', 'sqlglot', 'sacrebleu', 'jsonschema', 'rapidfuzz', 'regex', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_an_unknown_name_brings_the_close_one():
    with pytest.raises(UnknownName, match=r"no scorer called 'exakt'. Did you mean exact\?") as caught:
        bind("exakt")
    assert caught.value.exit_code is ExitCode.WRONG_USE
    assert caught.value.known == NAMES


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ("exact", {"ignorecase": True}, r"no option 'ignorecase'. Did you mean ignore_case or ignore_punctuation\? Options of exact"),
        ("cost", {"unit": "usd"}, "Options of cost: none"),
        ("regex", {}, "needs the option pattern"),
        ("exact", {"ignore_case": "yes"}, "ignore_case must be True or False, not 'yes'"),
        ("length", {"unit": "pages"}, "unit must be one of 'words', 'characters', 'tokens', not 'pages'"),
        ("regex", {"pattern": 4}, "pattern must be text, not 4"),
        ("json_schema", {"schema": "object"}, "schema must be"),
        ("label", {"labels": "a, b"}, "labels must be"),
        ("exact:strict", {}, "takes nothing after a colon"),
        ("deepeval", {}, "needs the name of a metric"),
        ("similarity", {}, "needs embed"),
        ("similarity", {"embed": "hashing"}, "embed must be a function"),
        ("exact", {"label": " "}, "cannot be empty"),
        (3, {}, "a scorer is a name, a function"),
        (Reply, {}, "Reply is a class"),
        (lambda reply, row: 1.0, {}, "a lambda has no name"),
    ],
)
def test_wrong_use_is_known_before_the_first_call(what, options, message):
    with pytest.raises(BadInput, match=message):
        bind(what, **options)


def test_label_and_direction_can_be_overridden():
    scorer = bind("length", label="brevity", higher_is_better=False)
    assert (scorer.name, scorer.higher_is_better) == ("brevity", False)
    assert bind(scorer, label="short").name == "short"
    assert bind(scorer) is scorer
    with pytest.raises(BadInput, match="has its options already"):
        bind(scorer, unit="tokens")


def test_a_function_gets_the_reply_and_its_own_copy_of_the_row():
    def long_enough(reply, row):
        row["limit"] -= 1
        return len(reply.text) > row["limit"]

    scorer, row = bind(long_enough), {"limit": 3}
    assert scorer.name == "long_enough"
    assert scorer.higher_is_better is True
    assert scorer.fingerprint is None
    assert scorer(ask("abc"), None, row) == Score(True)
    assert row == {"limit": 3}


def test_a_function_may_have_options_a_direction_and_an_embedder():
    def near(reply, row, *, scale=1.0, embed):
        return scale * float(embed([reply.text])[0][0])

    near.higher_is_better = False
    scorer = bind(near, scale=2.0, resources={"embed": lambda texts: np.ones((len(texts), 1))})
    assert scorer(ask(), None, {}).value == 2.0
    assert scorer.higher_is_better is False
    with pytest.raises(BadInput, match="Options of near: scale"):
        bind(near, size=1)


def test_functions_of_the_wrong_shape_are_refused():
    def lonely(reply): ...
    async def later(reply, row): ...

    with pytest.raises(BadInput, match=r"lonely is called with \(reply, row\)"):
        bind(lonely)
    with pytest.raises(BadInput, match="async"):
        bind(later)


def test_partials_and_callable_objects_have_names():
    def share(reply, row, limit=0):
        return float(limit)

    class Judge:
        def __call__(self, reply, row):
            return None

    assert bind(functools.partial(share, limit=2))(ask(), None, {}).value == 2.0
    assert bind(functools.partial(share, limit=2)).name == "share"
    assert bind(Judge()).name == "Judge"
    assert bind(lambda reply, row: 0.5, label="half").name == "half"


@pytest.mark.parametrize(
    ("returned", "value"),
    [
        (True, True),
        (False, False),
        (None, None),
        (0.25, 0.25),
        (3, 3.0),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.int64(2), 2.0),
    ],
)
def test_values_keep_their_kind(returned, value):
    score = bind(lambda reply, row: returned, label="f")(ask(), None, {})
    assert score == Score(value)
    assert type(score.value) is type(value)


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        (math.nan, "ValueError: the score is nan"),
        (-math.inf, "ValueError: the score is -inf"),
        (np.float64("nan"), "ValueError: the score is nan"),
        ("good", "TypeError: a scorer returns bool, float, None or Score, not str"),
        ([1.0], "TypeError: a scorer returns bool, float, None or Score, not list"),
        (np.array([1.0, 2.0]), "ValueError"),
        (10**400, "OverflowError"),
        (Score(math.nan), "ValueError: the score is nan"),
        (Score(1.0, detail={"x": object()}), "TypeError: a object cannot be written as JSON"),
    ],
)
def test_what_is_no_score_is_an_error_and_never_a_number(returned, error):
    score = bind(lambda reply, row: returned, label="f")(ask(), None, {})
    assert score.value is None
    assert score.error.startswith(error)


def test_a_score_with_an_error_has_no_value():
    scorer = bind(lambda reply, row: Score(1.0, error="half done"), label="f")
    assert scorer(ask(), None, {}) == Score(None, error="half done")


@pytest.mark.parametrize("fault", [KeyError("answer"), RecursionError(), MemoryError(), SystemExit(3), ValueError("x" * 5000)])
def test_a_fault_is_recorded_and_not_raised(fault):
    def broken(reply, row):
        raise fault

    score = bind(broken)(ask(), None, {})
    assert score.value is None
    assert score.error.startswith(type(fault).__name__)
    assert len(score.error) <= 500


def test_an_exception_without_a_readable_message_is_recorded():
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    def broken(reply, row):
        raise MuteError

    assert bind(broken)(ask(), None, {}).error == "MuteError: (its message cannot be read)"


def test_the_user_can_still_interrupt():
    def slow(reply, row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bind(slow)(ask(), None, {})


def test_a_coroutine_is_no_score(recwarn):
    async def later():
        return 1.0

    assert "not coroutine" in bind(lambda reply, row: later(), label="f")(ask(), None, {}).error
    assert not recwarn.list


@pytest.mark.parametrize("missing", [None, math.nan, np.nan, np.float32("nan"), [], [None, math.nan], np.array([])])
@pytest.mark.parametrize("name", ["exact", "fuzzy", "contains", "label", "bleu", "chrf", "rouge", "json_fields"])
def test_a_row_without_an_expected_value_is_unscored(name, missing):
    assert bind(name)(ask(), missing, {}) == Score(None, reason="this row has no expected value")


def test_pandas_missing_values_are_no_expected_value():
    import pandas as pd

    for missing in (pd.NA, pd.NaT):
        assert bind("exact")(ask(), missing, {}).reason == "this row has no expected value"


@settings(deadline=None)  # the first example pays for an import
@given(st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(), st.lists(st.text())), st.text())
def test_no_scorer_raises_and_each_score_can_be_stored(target, text):
    reply = Reply(text=text, finish_reason="length")
    for scorer in _cheap():
        score = scorer(reply, target, {"answer": target})
        assert score.value is None or math.isfinite(score.value)
        assert not (score.value is not None and score.error)
        assert from_json(Score, to_json(score)).value == score.value
        if score.value is not None and scorer.bounds:
            assert scorer.bounds[0] <= score.value <= scorer.bounds[1]


@functools.cache
def _cheap() -> list[Scorer]:
    options = {"regex": {"pattern": r"\d+"}, "json_schema": {"schema": {"type": "object"}}}
    return [
        bind(name, **options.get(name, {}))
        for name in NAMES
        if name not in ("deepeval", "jury", "mlflow", "pairwise", "rubric", "similarity")
    ]


def test_the_fingerprint_tells_scorers_apart():
    plain = bind("exact").fingerprint
    assert plain == bind("exact", ignore_case=False).fingerprint
    assert plain == bind("exact", label="other").fingerprint
    assert plain != bind("exact", ignore_case=True).fingerprint
    assert plain != bind("fuzzy").fingerprint


def test_the_fingerprint_of_an_embedding_scorer_needs_the_embedders_identity():
    def embed(texts):
        return np.ones((len(texts), 1))

    assert bind("similarity", resources={"embed": embed}).fingerprint is None
    embed.identity = "one"
    first = bind("similarity", resources={"embed": embed}).fingerprint
    embed.identity = "two"
    assert first and bind("similarity", resources={"embed": embed}).fingerprint not in (None, first)


def test_a_scorer_without_a_summary_or_that_is_not_installed_adds_nothing():
    assert summarise("exact", [Score(True)]) == summarise("gone", [Score(True)]) == summarise("", [Score(True)]) == {}
    assert has_summary("label") and not has_summary("exact") and not has_summary("gone")


@pytest.mark.parametrize("name", ["label", "bleu", "chrf", "readability", "json_fields"])
def test_a_summary_over_nothing_is_no_fault(name):
    summary = summarise(name, [Score(None, reason="unscored")])
    assert "summary_error" not in summary
    assert not any(isinstance(value, float) for value in summary.values())
