"""Judges: a model says how good a reply is, over real HTTP, on record, and never twice."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput, DoesNotPair, UnknownName
from llmops_lab.records import Reply
from tests.servers import ModelServer, refuses, replies

ROWS = [{"id": str(number), "question": f"q{number}"} for number in range(12)]
POLITE = "The reply is polite."


@pytest.fixture(autouse=True)
def home(home):
    yield home
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
        assert "polite took 24 calls of a judge, $0.0" in repr(grid)
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

    def test_twins_and_threads_that_ask_the_same_buy_one_verdict(self):
        with ModelServer(answer=by_length, latency_ms=50) as server:
            judge = lab.judge("rubric", model=f"openai:m@{server.url}", criteria=POLITE)
            threads = [threading.Thread(target=judge, args=(reply("a b"), None, {"question": "q"})) for _ in range(8)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            assert len(server.requests) == 1
            grid = ask(judge, prompts={"p": "same"}, rows=[{"id": str(n), "question": "q"} for n in range(5)])
            assert len(server.requests) == 2 and grid.summary()["rubric_judge_calls"][0] == 1

    def test_a_rubric_of_people_is_a_judges_too_and_bounds_its_scores(self):
        levels = {1: "rude: insults", 2: "plain", 3: "warm: thanks the reader"}
        rubric = lab.Rubric("How polite is the reply?", levels=levels, guide="Judge the tone.", examples=[("go away", 1)])
        with ModelServer(answer=lambda text: says(3)) as server:
            judge = lab.judge("rubric", model=lab.model(f"openai:m@{server.url}", max_tokens=99), criteria=rubric, label="tone")
            assert judge.bounds == (1.0, 3.0) and set(ask(judge).frame()["tone"]) == {3.0}
            asked = server.requests[0].body
            assert asked["max_tokens"] == 99 and "warm: thanks the reader" in asked["messages"][0]["content"]
            with pytest.raises(BadInput, match="levels stand in the rubric already"):
                lab.judge("rubric", model="echo", criteria=rubric, levels={0: "a", 1: "b"})


class TestTrouble:
    def test_replies_without_a_verdict_are_unscored_counted_and_kept(self):
        with ModelServer() as server:
            server.always(
                lambda request, body: replies("Hard to say." if "q1" in part("REPLY", last(body)) else says("yes"))(request, body)
            )
            grid = ask(lab.judge("rubric", model=f"openai:m@{server.url}", criteria=POLITE), prompts={"p": "{{ question }}"})
            line = grid.summary().iloc[0]
            assert (line["rubric_n"], line["rubric_unparsed"], line["rubric_judge_calls"]) == (9, 3, 12)
            assert "rubric left 3 unscored (the judge's reply holds no verdict" in repr(grid)
            texts = [each["text"] for each in lab.load("judgements").records()]
            assert texts.count("Hard to say.") == 3

    def test_faults_are_retried_and_what_remains_is_typed(self):
        with ModelServer(answer=by_length) as server:
            lab.configure(retries=2)
            judge = lab.judge("rubric", model=f"openai:m@{server.url}", criteria=POLITE)
            server.script("500", "429_ms")
            assert judge(reply("a b"), None, {}).value is True and len(server.requests) == 3
            server.script("401")
            score = judge(reply("c d"), None, {})
            assert score.value is None and "gave no reply: unauthorized" in score.error
            assert judge(reply("c d"), None, {}).value is True

    def test_a_server_that_refuses_a_schema_is_asked_without_one(self):
        async def plain(request, body):
            if "response_format" in body:
                return await refuses(400, "response_format is not supported")(request, body)
            return await replies(says("yes"))(request, body)

        with ModelServer() as server:
            server.always(plain)
            judge = lab.judge("rubric", model=f"openai:m@{server.url}", criteria=POLITE)
            assert judge(reply("a"), None, {}).value is True and len(server.requests) == 2
            assert judge(reply("b"), None, {}).value is True and len(server.requests) == 3

    def test_a_budget_holds(self):
        with ModelServer(answer=by_length) as server:
            spec = f"openai:m@{server.url}"
            with pytest.raises(BadInput, match="budget needs a price"):
                lab.judge("rubric", model=spec, criteria=POLITE, budget=1.0)
            lab.configure(prices={spec: {"input": 0.0, "output": 1000.0}})  # 512 tokens at most: 0.512 USD
            judge = lab.judge("rubric", model=spec, criteria=POLITE, budget=0.6)
            grid = ask(judge, prompts={"p": "{{ question }}"})
            errors = set(grid.frame()["rubric_error"]) - {""}
            assert 0 < len(server.requests) < 60 and all("budget" in error for error in errors)
            assert grid.summary()["rubric_judge_cost_usd"][0] is None or grid.summary()["rubric_judge_cost_usd"][0] <= 0.6

    def test_a_secret_in_a_judges_reply_is_masked(self, monkeypatch):
        monkeypatch.setenv("SOME_API_KEY", "very-secret-value-123")
        with ModelServer(answer=lambda text: "no verdict, but very-secret-value-123") as server:
            score = lab.judge("rubric", model=f"openai:m@{server.url}", criteria=POLITE)(reply("a"), None, {})
        assert score.detail["raw"] == "no verdict, but [redacted]"

    def test_a_cancel_sends_no_further_question_and_a_resume_has_the_rest_judged(self):
        with ModelServer(answer=by_length) as judges, ModelServer() as models:
            judges.latency_s = 0.3
            lab.configure(concurrency=2)
            judge = lab.judge("rubric", model=f"openai:m@{judges.url}", criteria=POLITE)
            lab.configure(concurrency=16)
            grid = ask(judge, models=[f"openai:m@{models.url}"], wait=False)
            while not judges.requests:
                time.sleep(0.01)
            grid.cancel()
            grid.wait()
            sent = len(judges.requests)
            assert sent < 12 and grid.state in ("cancelled", "done")
            time.sleep(0.5)
            assert len(judges.requests) == sent
            judges.latency_s = 0.0
            grid.resume()
            assert grid.frame()["rubric"].notna().all() and len(judges.requests) == 24
            assert lab.load("judgements").maybe_paid_twice == []

    def test_a_judge_that_hangs_does_not_hold_up_a_cancel_and_its_call_is_in_doubt(self):
        with ModelServer() as judges:
            judges.always("timeout")
            grid = ask(lab.judge("rubric", model=f"openai:m@{judges.url}", criteria=POLITE), rows=ROWS[:1], wait=False)
            while len(judges.requests) < 2:
                time.sleep(0.01)
            started = time.monotonic()
            grid.cancel()
            grid.wait()
            assert time.monotonic() - started < 30  # its own timeout is 60 s, with 4 retries
        assert len(lab.load("judgements").maybe_paid_twice) == 2
        assert grid.frame()["rubric"].isna().all()

    def test_killed_in_the_middle_nothing_that_was_recorded_is_bought_again(self, home):
        code = (
            "import sys, llmops_lab as lab\n"
            "rows = [{'id': str(n), 'question': f'q{n}'} for n in range(40)]\n"
            f"judge = lab.judge('rubric', model=sys.argv[1], criteria={POLITE!r})\n"
            "lab.grid({'p': '{{ question }}'}, rows, models=['echo'], scorers=[judge], track=False)\n"
        )
        with ModelServer(answer=by_length, latency_ms=100) as server:
            lab.configure(concurrency=4)
            process = subprocess.Popen(
                [sys.executable, "-c", code, f"openai:m@{server.url}"], env={**os.environ, "LLMOPS_LAB_CONCURRENCY": "4"}
            )
            while len(server.requests) < 12:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
            judge = lab.judge("rubric", model=f"openai:m@{server.url}", criteria=POLITE)
            grid = ask(judge, prompts={"p": "{{ question }}"}, rows=[{"id": str(n), "question": f"q{n}"} for n in range(40)])
            assert grid.frame()["rubric"].notna().all()
            asked = [part("REPLY", last(each.body)) for each in server.requests]
        twice = {text for text in asked if asked.count(text) > 1}
        assert len(twice) <= 4 and len(asked) == 40 + len(twice)  # at most what was on its way
        assert len(lab.load("judgements").maybe_paid_twice) >= len(twice)

    def test_the_verdicts_of_a_row_leave_with_it(self):
        from llmops_lab import settings
        from llmops_lab.flows.forget import forget_row

        with ModelServer(answer=by_length) as server:
            judge = lab.judge("rubric", model=f"openai:m@{server.url}", criteria=POLITE)
            ask(judge)
            forget_row(settings.load(), "3")
            assert "3" not in {each["row_id"] for each in lab.load("judgements").records()}
            assert judge(reply("q3"), None, {"id": "3", "question": "q3"}).value is False and len(server.requests) == 25

    def test_the_small_models_at_hand_can_be_judges_too(self):
        for model in ("echo", "tiny"):
            score = lab.judge("rubric", model=model, criteria=POLITE)(reply("Thanks. " + says("yes")), None, {})
            assert not score.error and len(score.detail["calls"]) == 1
            assert score.value is not None or score.detail["raw"]
        assert "only repeats" in lab.judge("rubric", model="echo", criteria=POLITE)(reply(says("yes")), None, {}).reason

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"kind": "rubrik", "model": "echo"}, "Did you mean rubric"),
            ({"kind": "exact", "model": "echo"}, "asks no model"),
            ({"kind": "rubric", "criteria": "x"}, "which model judges"),
            ({"kind": "rubric", "criteria": "x", "model": "opnai:x"}, "Did you mean openai"),
            ({"kind": "jury", "model": "echo", "judges": []}, "no model"),
        ],
    )
    def test_wrong_use(self, options, message):
        with pytest.raises(BadInput, match=message):
            lab.judge(**options)

    def test_columns_that_a_judge_cannot_be_shown_are_named_before_anything_is_asked(self):
        with ModelServer() as models:
            spec = f"openai:m@{models.url}"
            for made in (lab.judge("rubric", model="echo", criteria="x"), lab.judge("pairwise", model="echo", criteria="x", show=["gone"])):
                jury = lab.judge("jury", judges=[made, lab.judge("rubric", model="echo", criteria="x", show=[], label="two")])
                for judge in (made, jury):
                    with pytest.raises(BadInput, match=r"Columns: (id, )?ticket"):
                        ask(judge, models=[spec], prompts="{{ ticket }}", rows=[{"ticket": "t"}], expected="ticket")
            assert models.requests == []

    def test_a_judge_can_be_named_in_a_line_as_other_scorers_are(self):
        from llmops_lab.api.options import Options, add_grid_options, grid_arguments

        parser = Options()
        add_grid_options(parser)
        with ModelServer(answer=by_length) as server:
            told = f"rubric model=openai:m@{server.url} criteria=The reply is polite. show=[] label=tone"
            wanted = grid_arguments(parser.parse_args(["--rows", "x.csv", "--scorer", told]))
            assert ask(wanted["scorers"][0]).frame()["tone"].any()


def last(body):
    return body["messages"][-1]["content"]


def longer(asked):
    """A judge of pairs that prefers the longer answer."""
    first, second = part("ANSWER 1", asked), part("ANSWER 2", asked)
    return says("tie" if len(first) == len(second) else "1" if len(first) > len(second) else "2")


class TestPairs:
    def grid(self, **changes):
        return ask(lab.scorer("length"), **changes)

    def judge(self, server):
        return lab.judge("pairwise", model=f"openai:m@{server.url}", criteria="The more polite answer is better.")

    def test_two_variants_end_in_a_verdict(self):
        with ModelServer(answer=longer, latency_ms=10) as server:
            grid = self.grid(name="pairs")
            found = self.judge(server).compare(grid, a="p", b="pp")
            assert (found.wins, found.losses, found.ties, found.unscored) == (12, 0, 0, 0)
            assert (found.verdict.outcome, found.verdict.delta, found.verdict.n_pairs) == ("better", 1.0, 12)
            assert found.outcomes == {row["id"]: "b" for row in ROWS}
            assert (found.consistency.value, found.consistency.n) == (1.0, 12) and found.consistency.low < 0.8
            assert len(server.requests) == 24 and server.most_in_flight > 3 and found.bill["judge_calls"] == 24
            assert "pp won 12, p won 0, 0 ties; both orders agreed on 100%" in repr(found)
            assert list(found.frame()["value"]) == ["b"] * 12 and "<table>" in found._repr_html_()
            again = self.judge(server).compare(lab.load("pairs"), a="pp", b="p")  # other sides, the same pairs
            assert again.losses == 12 and len(server.requests) == 24

    def test_a_judge_that_takes_what_stands_first_decides_nothing(self):
        with ModelServer(answer=lambda text: says("1")) as server:
            found = self.judge(server).compare(self.grid(), a="p", b="pp")
        assert (found.ties, found.verdict.outcome, found.verdict.delta) == (12, "inconclusive", 0.0)
        assert found.consistency.value == 0.0 and "of the 12 others 12 went to what stood first" in found.story

    def test_rows_without_a_verdict_are_counted_and_left_out(self):
        with ModelServer(answer=lambda text: "dunno" if "q1" in text.split("ANSWER 1")[1] else longer(text)) as server:
            found = self.judge(server).compare(self.grid(), a="p", b="pp")
        assert (found.wins, found.unscored, found.verdict.n_missing) == (9, 3, 3) and found.bill["unparsed"] == 3
        assert "3 rows without a verdict" in found.story

    def test_repeats_are_paired_and_a_row_counts_once(self):
        with ModelServer(answer=longer) as server:
            found = self.judge(server).compare(self.grid(repeats=2), a="p", b="pp")
            assert len(found.frame()) == 24 and found.wins == 12 and len(server.requests) == 24

    def test_models_are_compared_as_prompts_are(self):
        with ModelServer(answer=longer) as server, ModelServer(answer=lambda text: f"Kindly: {text}") as kind:
            grid = self.grid(models=["echo", lab.model(f"openai:m@{kind.url}", label="kind")], prompts={"p": "{{ question }}"})
            assert self.judge(server).compare(grid, a="echo", b="kind", by="model").wins == 12

    def test_the_row_is_shown_and_a_hidden_column_is_not(self):
        rows = [{"id": "1", "question": "who?", "gold": "hidden"}]
        with ModelServer(answer=longer) as server:
            self.judge(server).compare(self.grid(rows=rows), a="p", b="pp")
            assert part("QUESTION", server.requests[0].text) == "who?" and "hidden" not in json.dumps(server.requests[0].body)

    def test_wrong_use(self):
        with ModelServer(answer=longer) as server:
            judge, grid = self.judge(server), self.grid()
            with pytest.raises(UnknownName, match="Known: p, pp"):
                judge.compare(grid, a="p", b="q")
            with pytest.raises(BadInput, match="give the grid itself"):
                judge.compare("pairs", a="p", b="pp")
            server.always("401")
            with pytest.raises(DoesNotPair):
                judge.compare(grid, a="p", b="pp")

    def test_progress_is_told_and_an_interrupt_sends_nothing_more(self, home):
        told = []
        with ModelServer(answer=longer, latency_ms=150) as server:
            self.judge(server).compare(self.grid(), a="p", b="pp", progress=told.append)
            assert told[-1].state == "done" and told[-1].ok == told[-1].total == 12 and told[0].state == "running"
        code = (
            "import sys, llmops_lab as lab\n"
            "rows = [{'id': str(n), 'question': f'q{n}'} for n in range(60)]\n"
            "judge = lab.judge('pairwise', model=sys.argv[1], criteria='x')\n"
            "prompts = {'p': '{{ question }}', 'pp': '{{ question }} please'}\n"
            "grid = lab.grid(prompts, rows, models=['echo'], track=False)\n"
            "try:\n    judge.compare(grid, a='p', b='pp')\nexcept KeyboardInterrupt:\n    print('stopped')\n"
        )
        with ModelServer(answer=longer, latency_ms=200) as server:
            command = [sys.executable, "-c", code, f"openai:m@{server.url}"]
            environment = {**os.environ, "LLMOPS_LAB_CONCURRENCY": "4"}
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            while len(server.requests) < 8:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
            assert out.strip() == "stopped" and len(server.requests) < 40
            assert len(lab.load("judgements").records()) <= len(server.requests)
            assert lab.load("judgements").state == "done" and lab.load("judgements").maybe_paid_twice == []
