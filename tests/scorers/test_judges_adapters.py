"""Metrics of DeepEval and judges of MLflow with any of our models as the judge; nothing leaves this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Literal

import pytest
from aiohttp import web

import llmops_lab as lab
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.records import Reply
from tests.servers import ModelServer, completion, replies

ROW = {"id": "1", "input": "Where is Rome?", "context": ["Rome is in Italy."], "retrieval_context": ["Rome is in Italy."]}
REPLY = Reply("Rome is in Italy.", "stop")

pytestmark = pytest.mark.usefixtures("home")


def filled(schema, top):
    """The least that a schema takes: the first of its values everywhere."""
    if "$ref" in schema:
        return filled(top["$defs"][schema["$ref"].split("/")[-1]], top)
    if "anyOf" in schema:
        return filled(schema["anyOf"][0], top)
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" in schema:
        return {
            name: "yes" if name == "result" and each.get("type") == "string" else filled(each, top)
            for name, each in schema["properties"].items()
        }
    if schema.get("type") == "array":
        return [filled(schema["items"], top)]
    return {"string": "so it is", "integer": 7, "number": 7, "boolean": True}[schema["type"]]


async def obeys(request, body):
    """A judge that says the first thing that the schema allows."""
    schema = body["response_format"]["json_schema"]["schema"]
    return web.json_response(completion(json.dumps(filled(schema, schema)), body))


@pytest.fixture
def server():
    with ModelServer() as server:
        server.always(obeys)
        yield server


def spec(server):
    return f"openai:m@{server.url}"


class TestDeepEval:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("deepeval")

    @pytest.mark.parametrize(
        ("metric", "options", "value", "calls"),
        [
            ("GEval", {"name": "tone", "criteria": "Is it polite?", "evaluation_params": ["actual_output"]}, 0.7, 2),
            ("Faithfulness", {}, 1.0, 4),
            ("AnswerRelevancy", {}, 1.0, 3),
            ("ContextualPrecision", {}, 1.0, 2),
            ("ContextualRecall", {}, 1.0, 2),
            ("Hallucination", {}, 1.0, 2),
            ("Bias", {}, 0.0, 3),
            ("Toxicity", {}, 0.0, 3),
        ],
    )
    def test_a_metric_is_measured_by_our_model_and_bought_once(self, server, metric, options, value, calls):
        judge = lab.judge(f"deepeval:{metric}", model=spec(server), **options)
        score = judge(REPLY, "Italy", ROW)
        assert (score.value, score.error) == (value, "") and score.reason
        assert len(score.detail["calls"]) == len(server.requests) == calls
        assert all(call["input_tokens"] > 0 for call in score.detail["calls"])
        again = lab.judge(f"deepeval:{metric}", model=spec(server), **options)
        assert again(REPLY, "Italy", ROW).value == value and len(server.requests) == calls
        assert again.fingerprint == judge.fingerprint is not None
        assert len(lab.load("judgements").records()) == calls

    def test_in_a_grid_the_bill_is_in_the_summary_and_cells_are_judged_side_by_side(self, server):
        server.latency_s = 0.05
        rows = [{"id": str(number), "input": f"q{number}"} for number in range(8)]
        judge = lab.judge("deepeval:AnswerRelevancy", model=spec(server))
        grid = lab.grid("{{ input }}", rows, models=["echo"], scorers=[judge], track=False)
        line = grid.summary().iloc[0]
        assert line["AnswerRelevancy"] == 1.0 and line["AnswerRelevancy_judge_calls"] == len(server.requests) == 24
        assert server.most_in_flight > 3 and line["AnswerRelevancy_unparsed"] == 0

    @pytest.mark.parametrize("text", ["I cannot say.", '{"statements": "none"}', '{"statements": ["a"]} {"statements": ["b"]}'])
    def test_a_reply_of_another_form_is_unscored_and_kept(self, server, text):
        server.always(replies(text))
        score = lab.judge("deepeval:AnswerRelevancy", model=spec(server))(REPLY, None, ROW)
        assert score.value is None and score.detail["raw"] == text and "not what was asked for" in score.reason
        assert len(score.detail["calls"]) == 1

    def test_a_judge_that_fails_is_an_error_with_its_kind(self, server):
        server.always("401")
        score = lab.judge("deepeval:Bias", model=spec(server))(REPLY, None, ROW)
        assert score.value is None and "unauthorized" in score.error

    def test_wrong_use(self, server):
        with pytest.raises(UnknownName, match="actual_outpt"):
            lab.judge("deepeval:GEval", model=spec(server), name="x", criteria="x", evaluation_params=["actual_outpt"])
        with pytest.raises(BadInput, match="size"):
            lab.judge("deepeval:Bias", model=spec(server), size=3)
        with pytest.raises(UnknownName, match="AnswerRelevancy"):
            lab.judge("deepeval:AnswerRelevanzy", model=spec(server))
        with pytest.raises(BadInput, match="asks no model"):
            lab.judge("exact", model=spec(server))


class TestMlflow:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("make_judge", {"name": "tone", "instructions": "Is {{ outputs }} polite?", "feedback_value_type": bool}),
            ("make_judge", {"name": "tone", "instructions": "Is {{ outputs }} polite?", "feedback_value_type": Literal["yes", "no"]}),
            ("Guidelines", {"guidelines": ["Be polite."]}),
            ("Correctness", {}),
            ("Safety", {}),
            ("RelevanceToQuery", {}),
        ],
    )
    def test_a_judge_is_asked_through_our_model_and_bought_once(self, server, name, options):
        judge = lab.judge(f"mlflow:{name}", model=spec(server), **options)
        score = judge(REPLY, "Italy", ROW)
        assert score.value is True and score.reason == "so it is" and not score.error
        assert len(score.detail["calls"]) == len(server.requests) == 1
        assert lab.judge(f"mlflow:{name}", model=spec(server), **options)(REPLY, "Italy", ROW).value is True
        assert len(server.requests) == 1 and judge.fingerprint is not None

    def test_numbers_of_a_judge_made_by_hand_have_no_bounds_that_we_know(self, server):
        judge = lab.judge("mlflow:make_judge", model=spec(server), name="n", instructions="Rate {{ outputs }}", feedback_value_type=int)
        assert judge(REPLY, None, ROW).value == 7.0 and judge.bounds is None and judge.name == "n"

    @pytest.mark.parametrize("text", ["no idea", '{"result": "perhaps", "rationale": "x"}', '{"rationale": "x"}'])
    def test_a_reply_of_another_form_is_unscored_and_kept(self, server, text):
        server.always(replies(text))
        options = {"name": "tone", "instructions": "Is {{ outputs }} polite?", "feedback_value_type": Literal["yes", "no"]}
        score = lab.judge("mlflow:make_judge", model=spec(server), **options)(REPLY, None, ROW)
        assert score.value is None and score.detail["raw"] == text and len(score.detail["calls"]) == 1

    def test_a_judge_that_fails_is_an_error_with_its_kind(self, server):
        server.always("401")
        score = lab.judge("mlflow:Safety", model=spec(server))(REPLY, None, ROW)
        assert score.value is None and "unauthorized" in score.error

    def test_many_at_once_keep_their_own_bills(self, server):
        server.latency_s = 0.05
        rows = [{"id": str(number), "question": f"q{number}"} for number in range(12)]
        judge = lab.judge("mlflow:Safety", model=spec(server))
        grid = lab.grid("{{ question }}", rows, models=["echo"], scorers=[judge], track=False)
        assert grid.frame()["Safety"].all() and server.most_in_flight > 3
        assert grid.summary()["Safety_judge_calls"][0] == len(server.requests) == 12

    def test_other_models_still_go_mlflows_own_way(self, server, monkeypatch):
        lab.judge("mlflow:Safety", model=spec(server))
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_API_BASE", server.url)
        score = lab.scorer("mlflow:Safety", model="openai:/other")(REPLY, None, ROW)
        assert score.value is True and server.requests[-1].body["model"] == "other"

    def test_wrong_use(self, server):
        with pytest.raises(BadInput, match="RegexMatch asks no model"):
            lab.judge("mlflow:RegexMatch", model=spec(server), pattern="x")
        with pytest.raises(BadInput, match="make_judge cannot be made"):
            lab.judge("mlflow:make_judge", model=spec(server), name="x")
        with pytest.raises(UnknownName, match="Safety"):
            lab.judge("mlflow:Safty", model=spec(server))


def test_nothing_but_loopback_is_reached_and_all_telemetry_is_off(server, tmp_path):
    """In a process of its own, so that the imports are seen too: each address that is looked up or connected to is recorded."""
    pytest.importorskip("deepeval")
    code = textwrap.dedent(
        """
        import socket, sys
        reached = set()
        def record(name, where):
            own = getattr(socket.socket, name)
            def seen(self, address, *rest):
                if self.family != socket.AF_UNIX:
                    reached.add(str(address[0]))
                return own(self, address, *rest)
            setattr(socket.socket, name, seen)
        for name in ("connect", "connect_ex", "sendto"):
            record(name, 0)
        look_up = socket.getaddrinfo
        def looked_up(host, *rest, **more):
            reached.add(str(host))
            return look_up(host, *rest, **more)
        socket.getaddrinfo = looked_up
        import llmops_lab as lab
        from llmops_lab.records import Reply
        row = {"input": "q", "context": ["c"], "retrieval_context": ["c"]}
        judges = [lab.judge(f"deepeval:{name}", model=sys.argv[1]) for name in ("Faithfulness", "Bias", "Hallucination")]
        judges.append(lab.judge("deepeval:GEval", model=sys.argv[1], name="t", criteria="x", evaluation_params=["actual_output"]))
        judges.append(lab.judge("mlflow:Guidelines", model=sys.argv[1], guidelines=["x"]))
        judges.append(lab.judge("mlflow:make_judge", model=sys.argv[1], name="t", instructions="{{ outputs }}?", feedback_value_type=bool))
        print([judge(Reply("r", "stop"), None, row).error for judge in judges])
        from deepeval.telemetry import telemetry_opt_out
        from mlflow.telemetry.utils import is_telemetry_disabled
        print(telemetry_opt_out(), is_telemetry_disabled())
        import atexit
        atexit.register(lambda: print(sorted(reached)))
        """
    )
    named = ("LLMOPS", "MLFLOW", "DEEPEVAL", "OPENAI", "DO_NOT_TRACK")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(named)}
    environment["LLMOPS_LAB_HOME"] = str(tmp_path / "other")
    done = subprocess.run([sys.executable, "-c", code, spec(server)], capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    errors, off, reached = done.stdout.strip().splitlines()
    assert errors == str([""] * 6) and off == "True True" and reached == "['127.0.0.1']"
    assert "Unclosed" not in done.stderr


class TestEveryKindOfModel:
    """One of each provider as the judge of the same reply."""

    def judged(self, model):
        judge = lab.judge("rubric", model=model, criteria="The reply is polite.")
        score = judge(Reply("Thank you.", "stop"), None, {})
        assert not score.error and len(score.detail["calls"]) == 1 and judge.fingerprint and score.detail["calls"][0]["model"] == model
        return score

    def test_litellm(self, server, monkeypatch):
        pytest.importorskip("litellm")
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", server.url)
        server.always(replies('{"reason": "thanks", "verdict": "yes"}'))
        score = self.judged("litellm:hosted_vllm/a-model")
        assert (score.value, score.reason) == (True, "thanks")
        assert "response_format" in server.requests[0].body

    def test_a_folder_of_transformers(self):
        pytest.importorskip("torch")
        from llmops_lab.models import tiny

        score = self.judged(f"hf:{tiny.FOLDER}")
        assert score.value is None and score.detail["raw"] and score.detail["calls"][0]["output_tokens"] > 0

    def test_a_model_that_mlflow_keeps(self, tmp_path, monkeypatch):
        from llmops_lab.settings import load
        from llmops_lab.track import connect

        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect.client(load())
        import mlflow

        monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
        code = tmp_path / "kind.py"
        code.write_text(
            textwrap.dedent(
                """
                import mlflow
                from mlflow.pyfunc import PythonModel

                class Kind(PythonModel):
                    def predict(self, context, model_input: list[str], params=None) -> list[str]:
                        return ['{"reason": "kind", "verdict": "yes"}' for _ in model_input]

                mlflow.models.set_model(Kind())
                """
            )
        )
        with mlflow.start_run():
            mlflow.pyfunc.log_model(name="model", python_model=str(code), registered_model_name="kind", pip_requirements=[])
        assert self.judged("mlflow:models:/kind/1").value is True
