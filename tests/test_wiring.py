"""What a grid composes: answers read out of replies, votes, few-shot examples, summaries, early stops, traces, plots, exports."""

import csv
import json

import pandas
import pytest

import llmops_lab as lab
from llmops_lab import settings
from llmops_lab.api.plots import efficient
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.track import connect
from tests.servers import ModelServer

ROWS = [{"id": str(number), "question": f"Q{number}", "answer": "yes" if number % 3 else "no"} for number in range(60)]

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def configure():
    yield lab.configure
    lab.configure(prices=None, trace_sample=None, keys=None)


def ask(**changes):
    wanted = {"prompts": {"yes": "yes", "no": "no"}, "rows": ROWS, "models": ["echo"], "scorers": ["exact"], "expected": "answer"}
    return lab.grid(**{**wanted, "track": False, **changes})


class Replies:
    """Answers the same question with one text after the other."""

    def __init__(self, *texts):
        self.texts, self.asked = texts, 0

    def __call__(self, _):
        self.asked += 1
        return self.texts[(self.asked - 1) % len(self.texts)]


class TestAnswers:
    def test_a_reasoning_pattern_is_judged_by_its_final_answer_and_stored_whole(self):
        prompt = lab.Prompt("{{ question }}", pattern="step_by_step")
        with ModelServer(answer=lambda text: "One and one.\nAnswer: yes") as server:
            grid = ask(prompts={"steps": prompt}, rows=ROWS[1:3], models=[f"openai:m@{server.url}"])
        assert list(grid.frame()["text"]) == ["One and one.\nAnswer: yes"] * 2
        assert list(grid.frame()["exact"]) == [True, True]

    def test_self_consistency_scores_what_most_repeats_answer(self):
        prompt = lab.Prompt("{{ question }}", pattern="self_consistency")
        with ModelServer(answer=Replies("Answer: yes", "Answer: no", "Answer: yes")) as server:
            grid = ask(prompts={"vote": prompt}, rows=ROWS[1:3], models=[f"openai:m@{server.url}"], repeats=3, concurrency=1)
        frame = grid.frame()
        assert sorted(frame["text"]) == ["Answer: no"] * 2 + ["Answer: yes"] * 4
        assert list(frame["exact"]) == [True] * 6  # the vote's score stands in every repeat of its row

    def test_a_vote_stays_open_while_a_repeat_is_missing_and_closes_on_resume(self):
        prompt = lab.Prompt("{{ question }}", pattern="self_consistency")
        with ModelServer(answer=lambda text: "Answer: yes") as server:
            spec = f"openai:m@{server.url}"
            lab.configure(prices={spec: {"input": 0.0, "output": 1000.0}})
            try:  # 10 tokens at most, 0.01 USD: the second call might pass the cap
                grid = ask(prompts={"vote": prompt}, rows=ROWS[1:2], models=[spec], repeats=3, params={"max_tokens": 10}, budget=0.0101)
                frame = grid.frame()
                assert grid.state == "budget" and frame["exact"].isna().all()
                assert "vote is open" in frame.loc[frame["status"] == "ok", "exact_error"].iloc[0]
                again = ask(prompts={"vote": prompt}, rows=ROWS[1:2], models=[spec], repeats=3, params={"max_tokens": 10})
            finally:
                lab.configure(prices=None)
        assert again.reused == grid.calls == 1 and list(again.frame()["exact"]) == [True] * 3

    def test_nearest_examples_get_the_settings_embedder(self):
        library = [{"question": "how warm is it", "output": "weather"}, {"question": "who won the match", "output": "sport"}]
        examples = lab.Examples.of(library, choose="nearest", count=1)
        prompt = lab.Prompt("{{ question }}", examples=examples)
        rows = [{"id": "1", "question": "who won the final match", "answer": "x"}]
        with ModelServer() as server:
            ask(prompts={"near": prompt}, rows=rows, models=[f"openai:m@{server.url}"])
            messages = server.requests[0].body["messages"]
        assert [message["content"] for message in messages] == ["who won the match", "sport", "who won the final match"]


class TestSummary:
    def test_a_scorer_adds_its_own_columns_and_keeps_them_when_the_grid_is_loaded(self):
        grid = ask(scorers=["label"], name="labels")
        line = grid.summary().set_index("prompt").loc["yes"]
        assert line["label"] == pytest.approx(40 / 60) and line["label_recall"] == 0.5
        confusion = line["label_confusion"]
        assert confusion == {"no": {"yes": 20}, "yes": {"yes": 40}}
        pandas.testing.assert_frame_equal(lab.load("labels").summary(), grid.summary())

    def test_what_is_lower_is_better_stays_so_under_another_name_and_in_functions(self):
        def size(reply, row):
            return len(reply.text)

        size.higher_is_better = False
        grid = ask(scorers=[lab.scorer("length", label="brief", higher_is_better=False), size, "length"], prompts={"a": "a b c", "b": "a"})
        assert lab.compare(grid, a="a", b="b", scorer="brief").outcome == "better"
        assert lab.compare(grid, a="a", b="b", scorer="size").outcome == "better"
        with pytest.raises(BadInput, match="no better direction"):
            lab.compare(grid, a="a", b="b", scorer="length")


class TestPairing:
    def test_cells_without_a_partner_are_left_out_on_both_sides_and_counted(self):
        """Prompt b fails on the good model, so that only the bad model can be compared: there the two are equal."""
        with ModelServer(answer=lambda text: "wrong") as bad, ModelServer(answer=lambda text: "right") as good:
            good.always("401", text="b")
            models = [lab.model(f"openai:m@{bad.url}", label="bad"), lab.model(f"openai:m@{good.url}", label="good")]
            rows = [{"id": str(number), "answer": "right"} for number in range(20)]
            grid = ask(prompts={"a": "a", "b": "b"}, rows=rows, models=models)
        verdict = lab.compare(grid, a="a", b="b")
        assert (verdict.delta, verdict.n_pairs, verdict.n_missing, verdict.n_partial) == (0.0, 20, 0, 20)

    def test_two_grids_of_different_models_are_compared_whole(self):
        with ModelServer(answer=lambda text: "yes") as server:
            one = ask(prompts={"p": "no"}, rows=ROWS[1:3], name="one")
            two = ask(prompts={"p": "no"}, rows=ROWS[1:3], models=[f"openai:m@{server.url}"], name="two")
        assert lab.compare(one, two).delta == 1.0 and lab.compare("one", "two").n_pairs == 2

    def test_what_a_scorer_leaves_out_is_counted_and_said(self):
        def broken(reply, row):
            raise ValueError("boom")

        def some(reply, row):
            return True if row["id"] == "0" else None

        grid = ask(prompts={"p": "yes"}, rows=ROWS[:4], scorers=[broken, some])
        assert "broken left 4 unscored (ValueError: boom); some left 3 unscored" in repr(grid)
        assert list(grid.frame()["broken_error"]) == ["ValueError: boom"] * 4


class TestDecidedStop:
    def test_it_ends_early_says_what_that_saved_and_gives_the_verdict_that_it_stopped_on(self):
        grid = ask(rows=ROWS * 1 + [{**row, "id": f"{row['id']}b"} for row in ROWS], stop="decided", concurrency=2,
                   prompts={"right": "{{ answer }}", "wrong": "nothing"})  # fmt: skip
        frame = grid.frame()
        unsent = (frame["status"] == "skipped").sum()
        assert grid.state == "decided" and 0 < unsent and grid.calls + unsent == 240
        assert f"{unsent} calls were not needed" in repr(grid)
        verdict = lab.compare(grid, a="right", b="wrong", scorer="exact")
        assert verdict.outcome == "worse" and verdict.test.startswith("anytime-valid")

    def test_a_bounded_score_that_is_no_share_decides_too(self):
        grid = ask(scorers=["chrf"], stop="decided", prompts={"right": "{{ answer }}", "wrong": "zzzz"}, concurrency=2)
        assert grid.state == "decided"
        verdict = lab.compare(grid, a="right", b="wrong", scorer="chrf")
        assert verdict.outcome == "worse" and verdict.delta == -100.0

    @pytest.mark.parametrize(
        ("changes", "words"),
        [({"scorers": ["length"]}, "bounds"), ({"prompts": {"a": "a"}}, "two prompts"), ({"scorers": [], "expected": None}, "scorer")],
    )
    def test_it_is_refused_where_nothing_could_be_decided(self, changes, words):
        with pytest.raises(BadInput, match=words):
            ask(stop="decided", **changes)

    def test_a_score_without_bounds_has_no_verdict_after_such_a_stop(self):
        grid = ask(
            scorers=["exact", lab.scorer("length", higher_is_better=True)], stop="decided", prompts={"right": "{{ answer }}", "wrong": "zz"}
        )
        with pytest.raises(BadInput, match="without stop"):
            lab.compare(grid, a="right", b="wrong", scorer="length")


class TestState:
    def test_a_grid_that_nobody_waits_for_ends_by_itself_and_says_so(self):
        with ModelServer(latency_ms=150) as server:
            grid = ask(models=[f"openai:m@{server.url}"], rows=ROWS[:4], wait=False, concurrency=2, track=True)
            assert grid.state == "running" and grid.calls < 8
            grid._future.result()
        assert grid.state == "done" and grid.calls == 8 and lab.load(grid.run_id).state == "done"

    def test_a_running_grid_has_no_verdict_yet(self):
        with ModelServer(latency_ms=100) as server:
            grid = ask(models=[f"openai:m@{server.url}"], rows=ROWS[:8], wait=False, concurrency=2)
            with pytest.raises(BadInput, match="still running"):
                lab.compare(grid, a="yes", b="no")
            with pytest.raises(BadInput, match="still running"):
                lab.compare_all(grid, baseline="yes")
            grid.wait()
        assert lab.compare(grid, a="yes", b="no").n_pairs == 8

    def test_cancel_keeps_what_is_done_and_resume_asks_for_the_rest(self):
        with ModelServer(latency_ms=60) as server:
            grid = ask(models=[f"openai:m@{server.url}"], wait=False, concurrency=2)
            while grid.calls < 6:
                pass
            grid.cancel()
            grid.wait()
            done = (grid.frame()["status"] == "ok").sum()
            assert grid.state == "cancelled" and 6 <= done < 120 and "resume()" in repr(grid)
            grid.resume()
            assert grid.state == "done" and server.count("yes") + server.count("no") == grid.calls == 120

    def test_a_budget_holds_over_a_resume_and_a_larger_one_goes_on(self, configure):
        with ModelServer() as server:
            spec = f"openai:m@{server.url}"
            configure(prices={spec: {"input": 0.0, "output": 1000.0}})
            asked = {"models": [spec], "rows": ROWS[:20], "params": {"max_tokens": 10}}  # 0.01 USD at most, less in fact
            grid = ask(**asked, budget=0.02)
            first = grid.calls
            grid.resume()
            assert grid.state == "budget" and 0 < first < 40 and grid.spent <= 0.02
            assert "larger budget" in repr(grid)
            more = ask(**asked, budget=5)
        assert more.state == "done" and more.reused + more.calls == 40 and more.reused >= first


class TestEstimate:
    def test_it_counts_what_is_still_to_be_asked_and_sends_nothing(self, configure):
        with ModelServer() as server:
            spec = f"openai:m@{server.url}"
            asked = {"prompts": {"p": "x" * 400}, "rows": ROWS[:10], "models": [spec], "params": {"max_tokens": 50}}
            before = lab.estimate(**asked)
            assert (before.cells, before.calls, before.reused, before.output_tokens) == (10, 10, 0, 500)
            assert before.cost_usd is None and before.seconds is None and 1000 <= before.input_tokens < 1200
            configure(prices={spec: {"input": 1.0, "output": 2.0}})
            assert lab.estimate(**asked).cost_usd == pytest.approx(before.input_tokens * 1e-6 + 500 * 2e-6)
            assert server.requests == []
            lab.grid(**{**asked, "rows": ROWS[:4]}, track=False)
            after = lab.estimate(**asked)
        assert (after.calls, after.reused) == (6, 4) and after.seconds > 0

    def test_an_argument_that_grid_does_not_have_is_named(self):
        with pytest.raises(UnknownName, match="repeats"):
            lab.estimate({"p": "x"}, ROWS, repeat=2)


class TestTrack:
    def test_the_run_carries_how_it_was_asked_and_failed_cells_get_traces(self, configure):
        configure(trace_sample=1.0)
        with ModelServer() as server:
            server.always("401", text="no")
            grid = ask(models=[f"openai:m@{server.url}"], rows=ROWS[:3], track=True, repeats=2, name="traced")
        client = connect.client(settings.load())
        run = client.get_run(grid.run_id)
        assert run.data.params["repeats"] == "2" and run.data.params["temperature"] == "0"
        traces = client.search_traces(locations=[run.info.experiment_id])
        states = sorted(str(trace.info.state.value) for trace in traces)
        assert states == ["ERROR"] * 6 + ["OK"] * 6
        assert {trace.info.trace_metadata["mlflow.sourceRun"] for trace in traces} == {grid.run_id}

    def test_a_secret_in_a_row_id_a_label_or_a_name_is_stored_nowhere(self, home, monkeypatch, configure):
        monkeypatch.setenv("HOUSE_CREDIT", "planted-value-98765")
        configure(keys={"http://127.0.0.1": "HOUSE_CREDIT"}, trace_sample=1.0)
        rows = [{"id": "row planted-value-98765", "question": "planted-value-98765", "answer": "x"}]
        grid = ask(prompts={"planted-value-98765": "{{ question }}"}, rows=rows, name="planted-value-98765", track=True)
        assert grid.state == "done" and grid.run_id
        for path in home.rglob("*"):
            assert not path.is_file() or b"planted-value-98765" not in path.read_bytes(), path

    def test_a_table_that_was_deleted_while_it_waited_is_written_anew(self, home, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        grid = ask(track=True, name="waits")
        tables = list((home / "outbox").glob("*.parquet"))
        assert grid.run_id is None and len(tables) == 1
        tables[0].unlink()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/later.db")
        ask(track=True, name="brings it along")
        assert grid.run_id and len(lab.load(grid.run_id).frame()) == 120

    def test_a_run_that_another_machine_logged_is_loaded_from_mlflow_and_compared(self, home, monkeypatch):
        grid = ask(track=True, name="shared", scorers=["exact", "label"])
        shared = home.parent / "shared"
        shared.symlink_to(home)  # another name for the store, so that this process does not take it for its own
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}/mlflow.db")
        monkeypatch.setenv("LLMOPS_LAB_HOME", str(home.parent / "elsewhere"))
        logged = lab.load(grid.run_id)
        assert logged.state == "done" and repr(logged).splitlines()[:3] == repr(grid).splitlines()[:3]
        pandas.testing.assert_frame_equal(logged.frame(), grid.frame(), check_dtype=False)
        mine = lab.compare(grid, a="yes", b="no")
        assert lab.compare(logged, a="yes", b="no") == mine and mine.outcome == "worse"
        with pytest.raises(UnknownName, match="0" * 32):
            lab.load("0" * 32)

    def test_another_name_than_those_that_are_there_is_refused_with_the_ones_that_are(self):
        ask(name="known")
        with pytest.raises(UnknownName, match="known"):
            lab.load("knwon")


class TestPlots:
    def test_each_kind_draws_every_variant(self, configure):
        configure(prices={"echo": {"input": 1.0, "output": 1.0}})
        grid = ask()
        scores = grid.plot()
        assert list(scores.data[0].y) == ["yes / echo", "no / echo"] and list(scores.data[0].x) == pytest.approx([40 / 60, 20 / 60])
        assert [box.name for box in grid.plot(kind="latency").data] == ["yes / echo", "no / echo"]
        assert set(grid.plot(kind="cost").data[1].text) == {"yes / echo", "no / echo"}
        with pytest.raises(UnknownName, match="scores"):
            grid.plot(kind="bars")
        with pytest.raises(UnknownName, match="exact"):
            grid.plot("exct")

    def test_what_has_no_price_is_left_out_and_that_is_said(self):
        with ModelServer() as server:
            grid = ask(models=[f"openai:m@{server.url}"])
        with pytest.raises(BadInput, match="price"):
            grid.plot(kind="cost")

    def test_the_frontier_holds_what_nothing_beats(self):
        points = [(1.0, 0.5), (2.0, 0.4), (2.0, 0.9), (3.0, 0.9), (0.5, 0.1)]
        assert efficient(points) == [4, 0, 2]
        assert efficient(points, higher_is_better=False) == [4]


class TestExport:
    def test_every_ending_holds_all_cells(self, tmp_path):
        grid = ask(rows=ROWS[:5])
        grid.export(tmp_path / "cells.csv")
        with open(tmp_path / "cells.csv", newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        assert [line["row_id"] for line in lines] == list(grid.frame()["row_id"]) and lines[0]["exact"] in ("True", "False")
        assert len(pandas.read_parquet(grid.export(tmp_path / "cells.parquet"))) == 10
        assert len(json.loads(grid.export("cells.json").read_text())) == 10
        assert len(grid.export("cells.jsonl").read_text().splitlines()) == 10

    def test_an_ending_or_a_folder_that_is_not_there_is_named_and_nothing_is_left(self, tmp_path):
        grid = ask(rows=ROWS[:2])
        with pytest.raises(BadInput, match=r"\.parquet"):
            grid.export("cells.xlsx")
        with pytest.raises(BadInput, match="nowhere"):
            grid.export(tmp_path / "nowhere" / "cells.csv")
        assert not list(tmp_path.glob("*.cells*")) and not list(tmp_path.glob("cells*"))
