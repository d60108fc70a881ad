"""Metrics of DeepEval and scorers of MLflow, by name and as objects; nothing leaves the machine."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import pytest

from llmops_lab.errors import BadInput, MissingExtra, UnknownName
from llmops_lab.records import Reply, Score
from llmops_lab.scorers._run import bind


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(self, address):
        raise AssertionError(f"tried to reach {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def ask(text: str) -> Reply:
    return Reply(text=text, finish_reason="stop")


class TestDeepEval:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("deepeval")

    def test_a_metric_by_name(self):
        scorer = bind("deepeval:ExactMatch")
        assert (scorer.name, scorer.higher_is_better, scorer.needs_target, scorer.bounds) == ("ExactMatch", True, True, (0.0, 1.0))
        assert scorer(ask(" 4 "), 4, {"question": "2+2"}) == Score(1.0, reason="The actual and expected outputs are exact matches.")
        assert scorer(ask("5"), "4", {}).value == 0.0
        assert scorer(ask("5"), None, {}) == Score(None, reason="this row has no expected value")
        assert bind("deepeval:ExactMatchMetric").fingerprint == scorer.fingerprint is not None
        assert "one expected value" in scorer(ask("4"), ["4", "four"], {}).error

    def test_options_reach_the_metric(self):
        scorer = bind("deepeval:PatternMatch", pattern=r"\d+", label="digits")
        assert scorer.name == "digits"
        assert scorer(ask("42"), None, {}).value == 1.0
        assert scorer(ask("a42"), None, {}).value == 0.0
        assert scorer.fingerprint != bind("deepeval:PatternMatch", pattern="x").fingerprint

    def test_an_empty_reply_is_an_error_and_not_a_zero(self):
        score = bind("deepeval:ExactMatch")(ask(""), "4", {})
        assert score.value is None
        assert "cannot be empty" in score.error

    def test_lone_surrogates_are_judged(self):
        assert bind("deepeval:PatternMatch", pattern="a.")(ask("a\ud800"), None, {"input": "\udfff"}).value == 1.0

    def test_telemetry_and_dotenv_are_off(self, monkeypatch, tmp_path):
        (tmp_path / ".env").write_text("PLANTED_BY_DOTENV=1")
        monkeypatch.chdir(tmp_path)
        bind("deepeval:ExactMatch")(ask("4"), "4", {})
        from deepeval.telemetry import telemetry_opt_out

        assert telemetry_opt_out() is True
        assert "PLANTED_BY_DOTENV" not in os.environ
        assert [path.name for path in tmp_path.iterdir()] == [".env"]

    @pytest.mark.parametrize(
        ("what", "options", "message"),
        [
            ("deepeval:ExactMatsh", {}, "no DeepEval metric called 'ExactMatsh'. Did you mean ExactMatch"),
            ("deepeval:ConversationCompleteness", {}, "Metrics of whole conversations"),
            ("deepeval:PatternMatch", {}, "pattern"),
            ("deepeval:PatternMatch", {"pattern": "("}, "Invalid regex"),
            ("deepeval:ExactMatch", {"size": 3}, "size"),
            ("deepeval:ExactMatch", {"columns": {"inputs": "q"}}, "no test case field called 'inputs'. Did you mean input"),
            ("deepeval:ExactMatch", {"columns": "q"}, "must map a field to a column"),
        ],
    )
    def test_wrong_use(self, what, options, message):
        with pytest.raises(BadInput, match=message):
            bind(what, **options)

    def test_a_judge_without_a_key_is_known_before_the_first_call(self, monkeypatch):
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(BadInput, match="OPENAI_API_KEY"):
            bind("deepeval:AnswerRelevancy")

    def test_a_metric_object_is_not_changed_by_being_used(self):
        from deepeval.metrics import ExactMatchMetric

        metric = ExactMatchMetric()
        scorer = bind(metric)
        assert scorer.fingerprint is None
        assert scorer(ask("4"), "4", {}).value == 1.0
        assert metric.score is None
        with pytest.raises(BadInput, match="has its options already"):
            bind(metric, threshold=0.5)

    def test_a_metric_of_the_users_own_sees_the_row(self):
        from deepeval.metrics import BaseMetric

        class Grounded(BaseMetric):
            def __init__(self):
                self.threshold = 0.5

            def measure(self, test_case):
                self.score = float(test_case.actual_output in test_case.context[0] and test_case.input == "q: where\npassage: in Rome")
                self.reason = "looked"
                return self.score

        scorer = bind(Grounded(), columns={"context": "passage"})
        assert scorer.name == "Grounded"
        assert scorer.bounds is None
        assert scorer(ask("Rome"), None, {"q": "where", "passage": "in Rome"}) == Score(1.0, reason="looked")

    def test_a_judge_is_asked_inside_a_running_loop(self):
        from deepeval.models import DeepEvalBaseLLM

        class Judge(DeepEvalBaseLLM):
            def load_model(self):
                return self

            def get_model_name(self):
                return "judge"

            def generate(self, prompt, schema=None):
                answers = {
                    "statements": ["a", "b"],
                    "verdicts": [{"verdict": "yes"}, {"verdict": "no", "reason": "off"}],
                    "reason": "half of it",
                }
                return schema(**{key: answers[key] for key in schema.model_fields})

            async def a_generate(self, prompt, schema=None):
                raise AssertionError("the synchronous door is used")

        scorer = bind("deepeval:AnswerRelevancy", model=Judge())

        async def cell():
            return scorer(ask("a and b"), None, {"question": "q"})

        assert asyncio.run(cell()) == Score(0.5, reason="half of it")
        assert scorer.fingerprint is None


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepeval", None)
    with pytest.raises(MissingExtra, match=r"pip install 'llmops-lab\[judges\]'"):
        bind("deepeval:ExactMatch")


class TestMlflow:
    def test_what_mlflow_would_fetch_by_itself_is_switched_off_before_it_is_imported(self, monkeypatch):
        for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_MODEL_CATALOG_URI"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(UnknownName):
            bind("mlflow:NoSuchScorer")
        assert (os.environ["MLFLOW_DISABLE_TELEMETRY"], os.environ["MLFLOW_MODEL_CATALOG_URI"]) == ("true", "")

    def test_a_rating_by_name(self):
        scorer = bind("mlflow:RegexMatch", pattern="^Answer")
        assert (scorer.name, scorer.higher_is_better, scorer.needs_target) == ("RegexMatch", True, False)
        score = scorer(ask("Answer: 4"), None, {"question": "2+2"})
        assert score.value is True
        assert "matches pattern" in score.reason
        assert scorer(ask("4"), None, {}).value is False
        assert scorer.fingerprint not in (None, bind("mlflow:RegexMatch", pattern="x").fingerprint)
        assert bind("mlflow:ResponseLength", max_length=3)(ask("four"), None, {}).value is False
        assert bind("mlflow:PIIDetection")(ask("write to a@example.org"), None, {}).value is False

    def test_telemetry_is_off(self):
        bind("mlflow:RegexMatch", pattern="a")
        from mlflow.telemetry.utils import is_telemetry_disabled

        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
        assert is_telemetry_disabled()

    def test_scorers_of_the_users_own(self):
        from mlflow.entities import Feedback
        from mlflow.genai.scorers import scorer

        @scorer
        def agrees(inputs, outputs, expectations):
            return inputs["question"] == "q" and outputs == str(expectations["expected_response"])

        @scorer
        def words(outputs):
            return Feedback(value=len(outputs.split()), rationale="counted")

        @scorer
        def grade(outputs):
            return "partial"

        @scorer
        def fails(outputs):
            return Feedback(error=ValueError("no verdict"))

        @scorer
        def many(outputs):
            return [Feedback(name="a", value=1), Feedback(name="b", value=2)]

        @scorer
        def breaks(outputs, expectations):
            return expectations["expected_response"]

        row = {"question": "q", "answer": 4}
        assert bind(agrees)(ask("4"), 4, row) == Score(True)
        assert bind(words)(ask("a b"), None, row) == Score(2.0, reason="counted")
        assert bind(words).fingerprint is None
        assert "'partial' is neither yes nor no" in bind(grade)(ask("4"), None, row).error
        assert "no verdict" in bind(fails)(ask("4"), None, row).error
        assert "2 assessments" in bind(many)(ask("4"), None, row).error
        assert bind(breaks)(ask("4"), None, row).error == "KeyError: 'expected_response'"

    @pytest.mark.parametrize(
        ("what", "options", "message"),
        [
            ("mlflow:RegexMatsh", {}, "Did you mean RegexMatch"),
            ("mlflow:RegexMatch", {}, "pattern"),
            ("mlflow:RegexMatch", {"pattern": "("}, "invalid regex"),
            ("mlflow:RegexMatch", {"pattern": "a", "flags": 1}, "no option 'flags'. Options: "),
            ("mlflow:RetrievalGroundedness", {}, "judges traces or sessions"),
            ("mlflow:UserFrustration", {}, "judges traces or sessions"),
        ],
    )
    def test_wrong_use(self, what, options, message):
        with pytest.raises(BadInput, match=message):
            bind(what, **options)

    def test_a_class_and_options_for_an_object_are_refused(self):
        from mlflow.genai.scorers import RegexMatch

        with pytest.raises(BadInput, match="RegexMatch is a class"):
            bind(RegexMatch)
        with pytest.raises(BadInput, match="has its options already"):
            bind(RegexMatch(pattern="a"), pattern="b")

    def test_unknown_names_carry_what_is_known(self):
        with pytest.raises(UnknownName) as caught:
            bind("mlflow:Nothing")
        assert "Correctness" in caught.value.known
