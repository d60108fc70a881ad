"""What the tables of a grid, its counts and its cap promise, against input that means harm."""

import threading
import time

import numpy
import pytest
from aiohttp import web

import llmops_lab as lab
from llmops_lab import plugins, settings
from llmops_lab.errors import BadInput, DoesNotPair, UnknownName
from llmops_lab.track import connect
from tests.servers import ModelServer, completion

ROWS = [{"id": str(number), "q": f"q{number}", "a": f"q{number}"} for number in range(6)]


@pytest.fixture(autouse=True)
def home(home):
    yield home
    lab.configure(prices=None, limits=None)


def ask(**changes):
    wanted = {"prompts": {"p": "{{ q }}"}, "rows": ROWS, "models": ["echo"], "scorers": ["exact"], "expected": "a", "track": False}
    return lab.grid(**{**wanted, **changes})


def named(name, value=True):
    def score(reply, row):
        return value() if callable(value) else value

    score.__name__ = name
    return score


def install_guest(tmp_path, monkeypatch, kind, code):
    """A package of somebody else's whose entry point brings the plugin ``guest``."""
    package = tmp_path / "site"
    (package / "guest-1.0.dist-info").mkdir(parents=True)
    (package / "guest-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (package / "guest-1.0.dist-info" / "entry_points.txt").write_text(f"[llmops_lab.{kind}]\nguest = guest_of_{kind}\n")
    (package / f"guest_of_{kind}.py").write_text(code)
    monkeypatch.syspath_prepend(str(package))
    plugins._entry_points.cache_clear()


class TestColumns:
    @pytest.mark.parametrize("name", ["text", "status", "cost_usd", "n", "prompt", "key", "row_id", "latency_p50", "n_ok", "error"])
    def test_a_score_cannot_take_the_place_of_another_column(self, name):
        with pytest.raises(BadInput, match=f"'{name}'.*label"):
            ask(scorers=[named(name)])
        assert "mine" in ask(scorers=[lab.scorer(named(name), label="mine")]).frame()

    @pytest.mark.parametrize("name", ["exact_error", "exact_low", "exact_high", "exact_n"])
    def test_nor_of_what_another_score_needs(self, name):
        with pytest.raises(BadInput, match=f"'{name}'"):
            ask(scorers=[named(name), "exact"])

    def test_names_of_prompts_that_read_the_same_are_refused_and_none_is_dropped(self):
        with pytest.raises(BadInput, match="two prompts are called '1'"):
            ask(prompts={1: "{{ q }}", "1": "no"})


class TestScorers:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
    def test_whatever_a_scorer_raises_is_its_own_error_and_takes_no_other_score_along(self, error):
        def broken():
            raise error("stop")

        frame = ask(scorers=[named("broken", broken), "exact"]).frame()
        assert frame["exact"].all() and frame["broken"].isna().all()
        assert list(frame["broken_error"].unique()) == [f"{error.__name__}: stop"]

    def test_a_plugin_whose_summary_breaks_or_that_is_gone_leaves_the_table_whole(self, tmp_path, monkeypatch):
        install_guest(
            tmp_path,
            monkeypatch,
            "scorers",
            '"""A guest."""\nhigher_is_better = True\ndef score(reply, target): return True\n'
            'def summarise(scores):\n    return {"low": -5, "extra": 1} if len(scores) > 1 else 1 / 0\n',
        )
        grid = ask(scorers=["guest"], name="guest")
        line = grid.summary().iloc[0]
        assert line["guest_extra"] == 1 and line["guest_low"] > 0  # its own interval is not written over
        few = ask(scorers=["guest"], rows=ROWS[:1])
        assert few.summary()["guest"][0] == 1.0 and "ZeroDivisionError" in few.summary()["guest_summary_error"][0]
        monkeypatch.undo()
        monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
        plugins._entry_points.cache_clear()
        gone = lab.load("guest")
        assert gone.summary()["guest"][0] == 1.0 and "guest" in repr(gone)


class TestCounts:
    def test_a_cancelled_call_that_was_never_sent_is_no_call_and_in_no_doubt(self):
        with ModelServer() as server:
            lab.configure(limits={server.url: {"rpm": 60}})  # the next would go out while those in flight may still come home
            grid = ask(models=[f"openai:m@{server.url}"], rows=ROWS[:4], wait=False, concurrency=4)
            while grid.calls < 1:
                time.sleep(0.01)
            grid.cancel()
            grid.wait()
            assert grid.state == "cancelled" and grid.calls == len(server.requests) == 1
            assert grid.maybe_paid_twice == []
            assert grid.resume().state == "done" and grid.calls == len(server.requests) == 4 and grid.maybe_paid_twice == []

    def test_a_call_that_was_cancelled_on_its_way_is_one_call_and_in_doubt(self):
        with ModelServer() as server:
            server.always("timeout")
            grid = ask(models=[f"openai:m@{server.url}"], rows=ROWS[:1], wait=False)
            while not server.requests:
                time.sleep(0.01)
            grid.cancel()
            grid.wait()
            assert grid.calls == 1 and len(grid.maybe_paid_twice) == 1

    def test_a_call_that_waits_for_its_next_try_is_not_on_its_way(self):
        with ModelServer() as server:
            server.always("429_seconds")
            grid = ask(models=[f"openai:m@{server.url}"], rows=ROWS[:1], wait=False)
            while not server.requests:
                time.sleep(0.01)
            time.sleep(1.2)  # its next try is due in 0.8 s
            grid.cancel()
            grid.cancel()
            grid.wait()
            assert grid.calls == len(server.requests) == 1 and grid.maybe_paid_twice == []

    def test_to_start_a_grid_that_runs_sends_nothing_twice(self):
        with ModelServer(latency_ms=50) as server:
            grid = ask(models=[f"openai:m@{server.url}"], wait=False)
            assert grid.start().wait().state == "done" and grid.calls == len(server.requests) == 6

    @pytest.mark.parametrize("counts", [{"prompt_tokens": -5, "completion_tokens": True}, {"prompt_tokens": 1.5}, {}, None, []])
    def test_token_counts_that_are_none_are_unknown_and_cost_nothing_less(self, counts):
        async def play(request, body):
            return web.json_response({**completion("x", body), "usage": counts})

        with ModelServer() as server:
            server.always(play)
            lab.configure(prices={f"openai:m@{server.url}": {"input": 1.0, "output": 1.0}})
            grid = ask(models=[f"openai:m@{server.url}"], rows=ROWS[:1])
        cell = grid.frame().iloc[0]
        assert cell["status"] == "ok" and cell[["input_tokens", "output_tokens", "cost_usd"]].isna().all() and grid.spent == 0


class TestBudget:
    @pytest.mark.parametrize("params", [{"max_tokens": None}, {"max_tokens": 0}, {"max_tokens": -1}])
    def test_without_a_limit_on_the_reply_no_cap_can_hold_so_it_is_refused(self, params):
        with ModelServer() as server:
            spec = f"openai:m@{server.url}"
            lab.configure(prices={spec: {"output": 1000.0}})
            with pytest.raises(BadInput, match="max_tokens"):
                ask(models=[spec], params=params, budget=1.0)
            assert server.requests == []

    @pytest.mark.parametrize("params", [{"max_tokens": None, "max_completion_tokens": 6}, {"max_tokens": 2, "n": 3}])
    def test_every_way_to_ask_for_more_tokens_counts(self, params):
        with ModelServer() as server:
            spec = f"openai:m@{server.url}"
            lab.configure(prices={spec: {"output": 1000.0}})
            assert ask(models=[spec], params=params, budget=0.0059).state == "budget" and server.requests == []
            assert ask(models=[spec], params=params, budget=0.006).calls == 1

    def test_a_budget_of_exactly_one_call_is_one_call_and_what_is_recorded_is_free(self):
        with ModelServer() as server:
            spec = f"openai:m@{server.url}"
            lab.configure(prices={spec: {"output": 1000.0}})
            assert ask(models=[spec], params={"max_tokens": 1}, budget=0.001).calls == 1
            ask(models=[spec], params={"max_tokens": 1})
            free = ask(models=[spec], params={"max_tokens": 1}, budget=1e-6)
            assert (free.state, free.calls, free.spent, free.reused) == ("done", 0, 0.0, 6)


class TestLimits:
    @pytest.mark.parametrize("under", ["{url}", "{url}/", "openai"])
    def test_they_hold_under_the_base_url_and_under_the_name_of_the_provider(self, under):
        with ModelServer(latency_ms=30) as server:
            lab.configure(limits={under.format(url=server.url): {"concurrency": 1}})
            ask(models=[f"openai:m@{server.url}"])
            assert server.most_in_flight == 1

    @pytest.mark.parametrize("limits", [{"rpm": "fast"}, {"rpm": -5}, {"rps": 5}, {"concurrency": 0}, {"concurrency": True}, 5, {"rpm": 0}])
    def test_wrong_ones_are_refused(self, limits):
        with pytest.raises(BadInput, match="limits"):
            lab.configure(limits={"openai": limits})


class TestProviders:
    def test_a_provider_that_breaks_fails_its_cells_and_no_others(self, tmp_path, monkeypatch):
        install_guest(
            tmp_path,
            monkeypatch,
            "models",
            '"""A guest."""\nclass Guest:\n    identity = pool = "guest"\n    local, price = True, None\n'
            "    async def ask(self, request, *, timeout, on_text=None): raise RuntimeError('no such luck')\n"
            "    async def close(self): pass\ndef connect(target, *, settings): return Guest()\n",
        )
        grid = ask(models=["guest", "echo"])
        frame = grid.frame().set_index("model")
        plugins._entry_points.cache_clear()
        assert grid.state == "done" and set(frame.loc["guest", "status"]) == {"failed"} and set(frame.loc["echo", "status"]) == {"ok"}
        assert set(frame.loc["guest", "error"]) == {"server_error"} and grid.calls == 12


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"params": "hot"}, "params"),
            ({"params": {"x": object()}}, "params"),
            ({"params": {1: 2}}, "params"),
            ({"expected": 5}, "column"),
            ({"scorers": [lab.scorer]}, "scorer"),
            ({"models": [None]}, "model"),
            ({"rows": None}, "rows"),
        ],
    )
    def test_is_named_before_any_call(self, changes, words):
        with pytest.raises(BadInput, match=words):
            ask(**changes)

    def test_no_scorer_is_no_error_and_whole_numbers_of_numpy_are_numbers(self):
        assert ask(scorers=None, repeats=numpy.int64(2)).calls == 12

    def test_a_label_is_a_text(self):
        with pytest.raises(BadInput, match="label"):
            lab.scorer("exact", label=5)

    @pytest.mark.parametrize("value", ["x", True, None])
    def test_an_alpha_that_is_no_number(self, value):
        grid = ask(prompts={"p": "{{ q }}", "r": "no"})
        with pytest.raises(BadInput, match="alpha"):
            lab.compare(grid, a="p", b="r", alpha=value)
        with pytest.raises(BadInput, match="margin"):
            lab.compare(grid, a="p", b="r", margin=value or "y")

    @pytest.mark.parametrize("wrong", [5, None, {}])
    def test_what_is_no_grid_cannot_be_compared_or_loaded(self, wrong):
        with pytest.raises(BadInput, match="run id"):
            lab.compare(wrong, a="p", b="r")
        with pytest.raises(BadInput, match="run id"):
            lab.load(wrong)

    def test_a_comparison_needs_two_sides(self):
        grid = ask(prompts={"p": "{{ q }}", "r": "no"})
        with pytest.raises(BadInput, match=r"b=.*Known: p, r"):
            lab.compare(grid, a="p")
        with pytest.raises(BadInput, match="nothing to compare"):
            lab.compare_all(ask(), baseline="p")


class TestTwoAtOnce:
    def test_two_grids_of_the_same_rows_at_once_lose_nothing_and_count_what_they_sent(self):
        with ModelServer(latency_ms=100) as server:
            grids = [ask(models=[f"openai:m@{server.url}"], wait=False, name=str(number)) for number in range(2)]
            threads = [threading.Thread(target=grid.wait) for grid in grids]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            assert sum(grid.calls for grid in grids) == len(server.requests)
        assert all(grid.state == "done" and grid.frame()["exact"].all() for grid in grids)
        assert ask(models=[f"openai:m@{server.url}"]).calls == 0


class TestPairing:
    def test_two_grids_whose_rows_have_the_same_ids_and_other_answers_do_not_pair(self):
        first = ask(name="first")
        assert lab.compare(first, ask(prompts={"p": "no"}), scorer="exact").outcome == "worse"
        assert lab.compare(first, ask(rows=[{**row, "more": 1} for row in ROWS]), scorer="exact").n_pairs == 6
        with pytest.raises(DoesNotPair, match="'a'"):
            lab.compare(first, ask(rows=[{**row, "a": "else"} for row in ROWS]), scorer="exact")


def test_labels_with_slashes_keep_a_metric_each():
    models = [lab.model("echo", label="c"), lab.model("echo", label="b/c")]
    grid = ask(prompts={"a/b": "{{ q }}", "a": "no"}, models=models, scorers=[named("right"), "exact"], track=True)
    logged = connect.client(settings.load()).get_run(grid.run_id).data.metrics
    assert sorted(value for name, value in logged.items() if name.startswith("exact/")) == [0.0, 0.0, 1.0, 1.0]
    assert sum(name.startswith("n_ok/") for name in logged) == 4 and logged["exact/a/c"] == 0.0


def test_a_name_that_is_not_there_is_still_answered_with_those_that_are():
    ask(name="my grid with spaces")
    assert lab.load("my grid with spaces").state == "done"
    with pytest.raises(UnknownName, match="my grid with spaces"):
        lab.load("my grid")
