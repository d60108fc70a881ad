"""Judges: a model says how good a reply is, over real HTTP, on record, and never twice."""

import json
import re

import pytest

import llmops_lab as lab
from llmops_lab.records import Reply
from tests.servers import ModelServer

ROWS = [{"id": str(number), "question": f"q{number}"} for number in range(12)]
POLITE = "The reply is polite."


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield tmp_path / "home"
    lab.configure(prices=None, limits=None, retries=None, concurrency=None, timeout=None)


def part(name, asked):
    """What stands between the marks of a part."""
    return re.search(rf"<<<{name} (\w+)\n(.*)\n{name} \1>>>", asked, re.DOTALL)[2]


def says(verdict, reason="because"):
    return json.dumps({"reason": reason, "verdict": verdict})


def reply(text):
    return Reply(text=text, finish_reason="stop")


def by_length(asked):
    """A judge that finds replies of two words polite."""
    return says("yes" if len(part("REPLY", asked).split()) == 2 else "no")


def ask(judge, **changes):
    wanted = {"prompts": {"p": "{{ question }}", "pp": "{{ question }} please"}, "rows": ROWS, "models": ["echo"], "track": False}
    return lab.grid(**{**wanted, "scorers": [judge], **changes})


class TestInAGrid:
    def test_every_reply_gets_a_verdict_and_the_bill_is_in_the_summary(self):
        with ModelServer(answer=by_length, latency_ms=20) as server:
            spec = f"openai:m@{server.url}"
            lab.configure(prices={spec: {"input": 1.0, "output": 1.0}})
            judge = lab.judge("rubric", model=spec, criteria=POLITE, label="polite")
            grid = ask(judge)
            assert len(server.requests) == 24
            assert server.most_in_flight > 4
            body = server.requests[0].body
        assert body["response_format"]["json_schema"]["schema"]["properties"]["verdict"] == {"type": "string", "enum": ["no", "yes"]}
        frame = grid.frame().groupby("prompt")["polite"]
        assert not frame.get_group("p").any() and frame.get_group("pp").all()
        line = grid.summary().set_index("prompt").loc["pp"]
        assert line["polite"] == 1.0 and line["polite_judge_calls"] == 12 and line["polite_judge_cost_usd"] > 0
        assert lab.compare(grid, a="p", b="pp", scorer="polite").outcome == "better"

    def test_a_verdict_is_bought_once_and_for_all(self):
        with ModelServer(answer=by_length) as server:
            make = lambda **more: lab.judge("rubric", model=f"openai:m@{server.url}", criteria=POLITE, **more)  # noqa: E731
            first = ask(make())
            bought = len(server.requests)
            again = ask(make(label="again"), reuse=False, name="again")
            assert len(server.requests) == bought == 24
            assert list(first.frame()["rubric"]) == list(again.frame()["again"])
            assert make()(reply("q1 please"), None, {"question": "q1"}).value is True
            assert len(server.requests) == bought
            assert make(guide="Be strict.")(reply("q1 please"), None, {"question": "q1"}).value is True
            assert len(server.requests) == bought + 1
        calls = lab.load("judgements")
        assert calls.state == "done" and calls.maybe_paid_twice == [] and len(calls.records()) == bought + 1
