"""The Python side of the grid's view, asked as a browser asks it: pages, filters, groups, one cell whole, and what changes something."""

import json
import os
import sqlite3
import threading
import time
from contextlib import closing

import pyarrow
import pytest

import llmops_lab as lab
from llmops_lab import settings
from llmops_lab.api import calls
from llmops_lab.api.logged import LoggedGrid
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows.forget import forget_row
from llmops_lab.store import rows as stored_rows
from llmops_lab.store.ledger import open_ledger
from tests.servers import ModelServer
from tests.waiting import until

KINDS = ["hardware", "billing", None]
ROWS = [{"id": f"r{n}", "question": f"Why {n}?", "kind": KINDS[n % 3], "size": n * 1.5, "answer": f"Why {n}?"} for n in range(40)]
PROMPTS = {"plain": "{{ question }}", "steps": "Think. {{ question }}"}

pytestmark = pytest.mark.usefixtures("home")


def third(reply, row):
    return int(row["id"][1:]) % 3 == 0 if "Think" in reply.text else int(row["id"][1:]) % 2 == 0


def long(reply, row):
    return lab.Score(float(len(reply.text)), reason=f"it has {len(reply.text)} letters", detail={"letters": len(reply.text)})


def grid(**changes):
    wanted = {"prompts": PROMPTS, "rows": ROWS, "models": ["echo"], "scorers": [lab.scorer(third, higher_is_better=True), long]}
    return lab.grid(**{**wanted, "expected": "answer", "track": False, "progress": False, **changes})


def ask(held, method, **params):
    return held._view.call(method, params, user="me")


def page(held, start=0, **query):
    answer = ask(held, "page", query=query, start=start)
    cells, lines = (pyarrow.ipc.open_stream(each).read_all().to_pylist() for each in answer.buffers)
    return answer.data, cells, lines


def numbers(held, **query):
    return [cell["cell"] for cell in page(held, **query)[1]]


# -- looking ---------------------------------------------------------------------------------------------------------------
def test_it_opens_with_a_row_a_line_and_its_variants_beside():
    held = grid()
    answer = ask(held, "open")
    told = answer.data
    assert (told["state"], told["total"], told["counts"]["ok"], told["ready"]) == ("done", 80, 80, True)
    assert told["variants"] == [["plain", "echo"], ["steps", "echo"]] and told["layout"] == "rows" and told["page"]["lines"] == 40
    assert [each["name"] for each in told["scorers"]] == ["third", "long"]
    assert told["columns"] == ["question", "kind", "size", "answer"]
    cells, lines = (pyarrow.ipc.open_stream(each).read_all().to_pylist() for each in answer.buffers)
    assert lines[3] == {"row_id": "r3", "replicate": 0, "asked": "Why 3?"}
    assert [cell["text"] for cell in cells if cell["line"] == 3] == ["Why 3?", "Think. Why 3?"]
    json.dumps(told)


def test_pages_follow_each_other_and_hold_every_cell_once():
    held = grid(rows=[{**ROWS[0], "id": f"r{n}"} for n in range(150)])
    for layout, lines in (("cells", 300), ("rows", 150)):
        seen, start = [], 0
        while start < lines:
            told, cells, _ = page(held, start, layout=layout)
            assert told["lines"] == lines
            seen += [cell["cell"] for cell in cells]
            start += told["size"]
        assert seen == list(range(300))


def test_sorting():
    held = grid()
    texts = [cell["text"] for cell in page(held, layout="cells", sort="text")[1]]
    assert texts == sorted(texts)
    values = [cell["score:long"] for cell in page(held, layout="cells", sort="long", descending=True)[1]]
    assert values == sorted(values, reverse=True)
    by_steps = page(held, layout="rows", sort="third", by=1)[1]
    steps = [cell["score:third"] for cell in by_steps if cell["variant"] == 1]
    assert steps == sorted(steps) and [cell["score:third"] for cell in by_steps if cell["variant"] == 0] != sorted(steps)


def test_what_has_no_value_comes_last_whichever_way_it_is_sorted():
    def some(reply, row):
        return None if row["id"] == "r1" else float(row["id"][1:])

    held = grid(rows=ROWS[:3], prompts={"p": "{{ question }}"}, scorers=[some])
    for descending, wanted in ((False, [0, 2, 1]), (True, [2, 0, 1])):
        assert numbers(held, layout="cells", sort="some", descending=descending) == wanted


def test_filters():
    held = grid()
    assert numbers(held, scorer="third", low=1, variant=1) == [1, 7, 13, 19, 25, 31, 37, 43, 49, 55, 61, 67, 73, 79]
    assert numbers(held, search="why 7?") == [14, 15]
    assert numbers(held, search="R7") == [14, 15]  # a row's id is looked at too
    assert numbers(held, search=r"^Think\. Why \d\?$", regex=True) == [2 * n + 1 for n in range(10)]
    assert numbers(held, differs=0, search="why 1?") == [3]
    flips = numbers(held, differs=0, differs_in="third")
    assert flips == [2 * n + 1 for n in range(40) if (n % 2 == 0) != (n % 3 == 0)]
    assert len(numbers(held, where=["kind", "hardware"])) == 28 and len(numbers(held, where=["kind", "(none)"])) == 26
    told, cells, _ = page(held, layout="rows", differs=0, differs_in="third")
    assert told["cells"] == len(flips) and told["lines"] == len(flips)
    assert [cell["kept"] for cell in cells] == [False, True] * (len(cells) // 2)  # the others of a line are there, and marked


def test_failed_unasked_and_unscored_cells_are_found():
    def picky(reply, row):
        if row["id"] == "r2":
            raise ValueError("not that one")
        return 1.0

    with ModelServer() as server:
        server.script("400", text="Why 1?")
        held = grid(rows=ROWS[:4], prompts={"p": "{{ question }}"}, models=[f"openai:m@{server.url}"], scorers=[picky], retries=0)
    assert numbers(held, shown="failed") == [1] and numbers(held, shown="unscored") == [2]
    assert numbers(held, shown="ok") == [0, 2, 3] and numbers(held, shown="open") == []
    (cell,) = page(held, shown="failed")[1]
    assert cell["text"] is None and cell["error"] == "bad_request"
    opened = ask(held, "cell", cell=1).data
    assert opened["status"] == "failed" and "temperature" in opened["message"]
    assert "not that one" in ask(held, "cell", cell=2).data["scores"][0]["error"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"search": "(", "regex": True}, "no regular expression"),
        ({"search": "x" * 600}, "at most 500"),
        ({"low": float("nan")}, "a number"),
        ({"variant": 7}, "a variant is a number"),
    ],
)
def test_a_query_that_is_none_is_refused(query, said):
    with pytest.raises(BadInput, match=said):
        page(grid(rows=ROWS[:2]), **query)


@pytest.mark.parametrize("query", [{"sort": "colour"}, {"shown": "blue"}, {"layout": "tree"}, {"colour": 1}, {"where": ["colour", "red"]}])
def test_what_nobody_knows_is_named(query):
    with pytest.raises(UnknownName):
        page(grid(rows=ROWS[:2]), **query)
    with pytest.raises(UnknownName):
        ask(grid(rows=ROWS[:2]), "explode")


def test_a_pattern_that_would_never_end_holds_nobody_up():
    held = grid(rows=[{"id": "1", "question": "a" * 80 + "b", "answer": ""}], scorers=[])
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.wait(0.05):
            ticks.append(time.monotonic())

    beside = threading.Thread(target=tick)
    beside.start()
    with pytest.raises(BadInput, match="was stopped; nothing is filtered"):
        page(held, search="^(a|aa)+$", regex=True)
    stop.set()
    beside.join()
    assert len(ticks) > 5  # other threads went on meanwhile


# -- figures ---------------------------------------------------------------------------------------------------------------
def test_figures_are_those_of_the_summary_and_the_verdict_that_of_compare():
    held = grid()
    told = ask(held, "summary").data
    for line, mine in zip(held.summary().to_dict("records"), told["figures"]["variants"], strict=True):
        assert (mine["value"], mine["low"], mine["high"], mine["n"]) == pytest.approx(
            (line["third"], line["third_low"], line["third_high"], line["n"])
        )
        assert sum(mine["counts"]) == mine["scored"] == 40
    assert told["verdict"]["text"] == lab.compare(held, a="plain", b="steps", scorer="third").sentence
    filtered = ask(held, "summary", scorer="long", query={"where": ["kind", "billing"]}).data
    assert filtered["cells"] == 26 and filtered["figures"]["variants"][0]["n"] == 13


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scorers": []}, "no scorer"),
        ({"prompts": {"p": "{{ question }}"}}, "nothing to compare"),
        ({"scorers": ["length"]}, "no better direction"),
    ],
)
def test_where_there_is_no_verdict_it_is_said_why(changes, said):
    told = ask(grid(rows=ROWS[:4], **changes), "summary").data["verdict"]
    assert told["outcome"] == "" and said in told["text"]


def test_groups_have_their_own_intervals():
    held = grid()
    groups = ask(held, "groups", by="kind").data["groups"]
    assert [(each["group"], each["n"]) for each in groups] == [("billing", 26), ("hardware", 28), ("(none)", 26)]
    hardware = held.frame().query(
        "prompt == 'steps' and row_id in @ids", local_dict={"ids": [row["id"] for row in ROWS if row["kind"] == "hardware"]}
    )
    steps = groups[1]["variants"][1]
    assert steps["value"] == hardware["third"].mean() and steps["low"] < steps["value"] <= steps["high"]
    sizes = ask(held, "groups", by="size").data["groups"]
    assert [each["n"] for each in sizes] == [20, 20, 20, 20] and sizes[0]["group"] == "0 to 14.625"
    assert [each["group"] for each in ask(held, "groups", by="prompt").data["groups"]] == ["plain", "steps"]


def test_many_groups_are_cut_and_counted():
    rows = [{"id": str(n), "question": "x", "who": f"name {n}", "answer": ""} for n in range(100)]
    told = ask(grid(rows=rows, prompts={"p": "{{ question }}"}), "groups", by="who").data
    assert len(told["groups"]) == 60 and (told["more"], told["more_cells"]) == (40, 40)


# -- one cell --------------------------------------------------------------------------------------------------------------
def test_a_cell_opens_with_all_that_is_known_of_it():
    rows = [{**ROWS[0], "documents": ["page one", "page two"]}]
    held = grid(rows=rows, prompts={"p": lab.Prompt("{{ question }}", system="Be brief.", name="short")})
    told = ask(held, "cell", cell=0).data
    assert told["messages"] == [{"role": "system", "text": "Be brief."}, {"role": "user", "text": "Why 0?"}]
    assert told["expected"] == "Why 0?" and told["documents"] == [{"name": "documents", "texts": ["page one", "page two"]}]
    assert {each["name"]: each["value"] for each in told["scores"]} == {"third": 1.0, "long": float(len(told["text"]))}
    assert told["scores"][1]["reason"].startswith("it has") and told["scores"][1]["detail"][0][0] == "letters"
    origin = dict(told["provenance"])
    assert origin["prompt"].startswith("short") and origin["model identity"] == "echo" and len(origin["dataset digest"]) == 64
    assert told["numbers"]["tries"] == 1 and told["numbers"]["input_tokens"] > 0
    again = lab.load(held.grid_id)
    loaded = ask(again, "cell", cell=0).data
    for name in ("messages", "expected", "documents", "scores", "provenance", "row"):
        assert loaded[name] == told[name]


def test_a_prompt_that_cannot_be_rebuilt_is_not_guessed(home):
    examples = lab.Examples([{"question": f"q{n}", "output": "o"} for n in range(4)], choose="random", count=2)
    held = grid(rows=ROWS[:2], prompts={"few": lab.Prompt("{{ question }}", examples=examples), "plain": "{{ question }}"})
    assert len(ask(held, "cell", cell=0).data["messages"]) == 5  # the plan is at hand
    told = ask(lab.load(held.grid_id), "cell", cell=0).data
    assert told["messages"] is None and "chosen for each row (random)" in told["why"]
    forgotten = lab.load(held.grid_id)
    open_ledger(settings.load()).write(("DELETE FROM rows", [()]))
    assert "row is not in this ledger" in ask(forgotten, "cell", cell=1).data["why"]


def test_a_secret_of_a_row_is_masked_in_the_prompt(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "tuna-sandwich-with-extra-secret")
    held = grid(rows=[{"id": "1", "question": "tuna-sandwich-with-extra-secret", "answer": "x"}])
    for each in (held, lab.load(held.grid_id)):
        told = json.dumps([ask(each, "cell", cell=0).data, page(each)[1:], each._view.page()])
        assert "tuna" not in told and "[redacted]" in told


def test_a_cell_of_a_forgotten_row_is_gone_and_the_others_stay():
    held = grid(rows=ROWS[:4])
    forget_row(settings.load(), "r1")
    again = lab.load(held.grid_id)
    assert ask(again, "open").data["total"] == 6 and numbers(again) == [0, 1, 4, 5, 6, 7]
    with pytest.raises(UnknownName, match="row was forgotten"):
        ask(again, "cell", cell=2)
    assert page(again, layout="rows")[0]["lines"] == 3


# -- selection and what changes something ------------------------------------------------------------------------------------
def test_what_is_selected_is_there_in_python():
    held = grid()
    assert len(held.selected()) == 0
    ask(held, "select", cells=[3, 1])
    selected = held.selected()
    assert list(selected["cell"]) == [3, 1] and list(selected["text"]) == ["Think. Why 1?", "Think. Why 0?"]
    assert list(selected.columns)[1:] == list(held.frame().columns)
    assert ask(held, "select", query={"search": "why 7?"}).data["selected"] == [14, 15] and len(held.selected()) == 2


def test_a_cell_is_asked_again_and_nothing_is_lost():
    with ModelServer() as server:
        made = iter(["second", "third"])
        held = grid(rows=ROWS[:3], prompts={"p": "{{ question }}"}, models=[f"openai:m@{server.url}"], retries=0)
        server.answer = lambda text: next(made)
        ask(held, "again", cells=[1])
        held.wait()
        assert server.count("Why 1?") == 2 and server.count("Why 0?") == 1
        told = ask(held, "cell", cell=1).data
        assert told["text"] == "second" and [each["text"] for each in told["earlier"]] == ["Why 1?"]
        assert {each["name"]: each["value"] for each in told["scores"]}["long"] == 6.0
        server.always("400")
        held.again([1]).wait()
        told = ask(held, "cell", cell=1).data
        assert told["text"] == "second" and [each["status"] for each in told["earlier"]] == ["ok", "failed"]
        time.sleep(0.5)  # what was read is looked at again after a moment
        assert held.state == "done" and [cell["text"] for cell in page(held)[1]] == ["Why 0?", "second", "Why 2?"]
    assert list(lab.load(held.grid_id).frame()["text"]) == ["Why 0?", "second", "Why 2?"]


def test_a_failed_cell_is_asked_again():
    with ModelServer() as server:
        server.script("400", text="Why 1?")
        held = grid(rows=ROWS[:3], prompts={"p": "{{ question }}"}, models=[f"openai:m@{server.url}"], retries=0)
        assert numbers(held, shown="failed") == [1]
        held.again([1]).wait()
    time.sleep(0.5)
    assert numbers(held, shown="failed") == [] and ask(held, "cell", cell=1).data["text"] == "Why 1?"


def test_the_vote_of_a_row_is_taken_anew_when_a_repeat_is_asked_again():
    with ModelServer(answer=lambda text: "Answer: a") as server:
        voting = {"p": lab.Prompt("{{ question }}", pattern="self_consistency")}
        held = grid(rows=ROWS[:1], prompts=voting, models=[f"openai:m@{server.url}"], scorers=[long], repeats=3)
        server.answer = lambda text: "Answer: bb"
        held.again([0, 1]).wait()
    scores = ask(held, "cell", cell=2).data["scores"]
    assert scores[0]["value"] == 2.0 and dict(scores[0]["detail"])["vote"] == "bb"


def test_what_cannot_be_asked_again_says_why():
    held = grid(rows=ROWS[:2])
    loaded = lab.load(held.grid_id)
    assert "Call lab.grid(...)" in ask(loaded, "standing").data["why"] and ask(held, "standing").data["why"] == ""
    with pytest.raises(BadInput, match=r"Call lab\.grid"):
        ask(loaded, "again", cells=[0])
    with pytest.raises(UnknownName, match="99"):
        ask(held, "again", cells=[99])
    with pytest.raises(BadInput, match="no cell is named"):
        ask(held, "again", cells=[])


def test_rows_go_into_a_dataset_of_mlflow(home, empty_mlflow):
    held = grid(rows=ROWS[:3])
    said = ask(held, "dataset", cells=[0, 1, 2], name="hard ones", expect="expected").data
    assert said == {"waits": False, "said": "Added 2 rows to the MLflow dataset hard ones."}
    ask(held, "dataset", cells=[5], name="hard ones", expect="reply")
    from llmops_lab.track import connect

    (dataset,) = connect.client(settings.load()).search_datasets(filter_string="name = 'hard ones'")
    records = {record["inputs"]["question"]: record for record in dataset.to_df().to_dict("records")}
    assert set(records) == {"Why 0?", "Why 1?", "Why 2?"} and set(records["Why 0?"]["inputs"]) == {"question", "kind", "size"}
    assert records["Why 0?"]["expectations"] == {"expected_response": "Why 0?"}
    assert records["Why 2?"]["expectations"] == {"expected_response": "Think. Why 2?"}
    assert records["Why 2?"]["tags"]["row_id"] == "r2" and records["Why 2?"]["source"].source_data["cell"] == 5
    report = forget_row(settings.load(), "r0")
    assert report.forgotten.datasets == ("hard ones",) and "hard ones" in str(report)
    assert "Why 0?" not in json.dumps([payload for (payload,) in open_ledger(settings.load()).select("SELECT payload FROM outbox")])


def test_mlflow_away_loses_no_row_of_a_dataset(monkeypatch):
    with ModelServer() as server:
        gone = server.url.removesuffix("/v1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gone)
    held = grid(rows=ROWS[:3])
    said = ask(held, "dataset", cells=[0, 2], name="later", expect="expected").data
    assert said["waits"] and "MLflow is away" in said["said"]
    ((_, kind, payload),) = open_ledger(settings.load()).outbox_pending()
    assert kind == "dataset" and [record["tags"]["row_id"] for record in payload["records"]] == ["r0", "r1"]
    forget_row(settings.load(), "r0")
    ((_, _, payload),) = open_ledger(settings.load()).outbox_pending()
    assert [record["tags"]["row_id"] for record in payload["records"]] == ["r1"] and "Why 0?" not in json.dumps(payload)


@pytest.mark.parametrize(
    ("name", "expect", "said"), [("", "expected", "a dataset's name"), ("it's", "reply", "without quotes"), ("d", "all", "expect")]
)
def test_a_dataset_that_cannot_be_is_refused(name, expect, said):
    with pytest.raises(BadInput, match=said):
        ask(grid(rows=ROWS[:1]), "dataset", cells=[0], name=name, expect=expect)


def test_rows_are_sent_to_a_rating_queue():
    held = grid(rows=ROWS[:3])
    assert ask(held, "queues").data == {"queues": []}
    lab.rate(held, lab.Rubric("How good?", levels={1: "bad: no use", 2: "good: of use"}), variants=["plain"], name="tone", limit=1)
    assert ask(held, "queues").data == {"queues": ["tone"]}
    assert ask(held, "queue", cells=[2, 4], name="tone").data["said"].startswith("Sent ")
    assert {item for item, _ in lab.queue("tone").items()} >= {"r1", "r2"}
    with pytest.raises(UnknownName):
        ask(held, "queue", cells=[2], name="nobody")


# -- live and large --------------------------------------------------------------------------------------------------------
def test_it_fills_while_the_grid_runs_and_can_be_cancelled_and_resumed():
    with ModelServer(latency_ms=30) as server:
        held = grid(models=[f"openai:m@{server.url}"], concurrency=2, wait=False)
        told, done = [], threading.Event()
        stop = held._view.listen(lambda event: (told.append(event), event["state"] == "cancelled" and done.set()))
        until(lambda: told and (told[-1]["counts"] or {}).get("ok"), every=0.02)
        assert told[-1]["state"] == "running" and told[-1]["can_cancel"] and not told[-1]["can_resume"]
        assert "still runs" in ask(held, "summary").data["verdict"]["text"]
        ask(held, "cancel")
        assert done.wait(20)
        some = told[-1]["counts"]["ok"]
        assert 0 < some < 80 and told[-1]["can_resume"] and len(numbers(held, shown="open", layout="cells")) == 80 - some
        ask(held, "resume")
        held.wait()
        until(lambda: told[-1]["state"] == "done" and told[-1]["counts"]["ok"] == 80)
        stop()
        assert [each["counts"]["ok"] for each in told] == sorted(each["counts"]["ok"] for each in told)
    assert ask(held, "summary").data["verdict"]["outcome"]


def test_a_ledger_that_was_away_for_a_moment_does_not_end_the_live_view():
    held, told = grid(rows=ROWS[:2]), []
    stop = held._view.listen(told.append)
    until(lambda: told)
    with closing(sqlite3.connect(open_ledger(settings.load()).place)) as beside:
        beside.execute("ALTER TABLE replies RENAME TO away")
        held._stir()
        time.sleep(0.8)  # the view looks, and finds nothing to read
        beside.execute("ALTER TABLE away RENAME TO replies")
    before = len(told)
    held.again([0]).wait()
    until(lambda: len(told) > before)
    stop()


def test_a_grid_that_is_done_but_for_failures_asks_for_them_again():
    with ModelServer() as server:
        server.always("400")
        held = grid(models=[f"openai:m@{server.url}"])
        server.clear()
        told = ask(held, "standing").data
        assert told["state"] == "done" and told["counts"]["failed"] == 80 and told["can_resume"]
        ask(held, "resume")
        held.wait()
    until(lambda: ask(held, "standing").data["counts"]["ok"] == 80)
    assert not ask(held, "standing").data["can_resume"]


def test_a_large_grid_shows_its_first_page_before_all_is_read():
    rows = [{"id": f"r{n}", "question": f"Why {n}?", "kind": "a", "size": 1, "answer": "x"} for n in range(1500)]
    held = lab.load(grid(rows=rows).grid_id)
    answer = ask(held, "open")
    told = answer.data
    assert (told["ready"], told["total"], told["counts"], told["page"]["lines"]) == (False, 3000, None, 1500)
    early = [pyarrow.ipc.open_stream(each).read_all().to_pylist() for each in answer.buffers]
    far = page(held, 600, layout="rows")
    with pytest.raises(BadInput, match="still being read"):
        page(held, layout="rows", sort="long")
    until(lambda: ask(held, "standing").data["ready"])
    assert page(held, layout="rows")[1:] == tuple(early) and page(held, 600, layout="rows")[1:] == far[1:]
    assert page(held, layout="rows", sort="long", descending=True)[0]["lines"] == 1500


def test_figures_of_a_grid_that_ended_are_kept_and_go_when_it_changes(monkeypatch):
    from llmops_lab.api import grid as handles
    from llmops_lab.api.views import grid as views

    monkeypatch.setattr(handles, "AT_HAND", 10)
    monkeypatch.setattr(views, "AT_ONCE", 10)
    held = grid()
    ledger, whole = open_ledger(settings.load()), repr(held)
    plain, _ = held._view.page()
    assert "show the grid again for them" in plain and stored_rows.kept_summary(ledger, held.grid_id) is None
    ask(held, "open")
    until(lambda: stored_rows.kept_summary(ledger, held.grid_id) is not None)
    assert held._view.page()[0].startswith(whole) and whole == repr(held)
    held.again([0]).wait()
    assert stored_rows.kept_summary(ledger, held.grid_id) is None
    held.resume()
    forget_row(settings.load(), "r3")
    assert repr(lab.load(held.grid_id)).count("39") >= 2


def test_a_tracked_grid_has_its_figures_kept_at_its_end(empty_mlflow, home):
    held = grid(track=True)
    kept = stored_rows.kept_summary(open_ledger(settings.load()), held.grid_id)
    assert kept is not None and [line["n_ok"] for line in kept["lines"]] == [40, 40]
    again = lab.load(held.grid_id)
    assert repr(again).splitlines()[:3] == repr(held).splitlines()[:3]


def test_the_static_twin_is_small_inert_and_says_what_it_leaves_out():
    hostile = "<img src=x onerror=alert(1)>"
    held = grid(rows=[{**row, "question": hostile} for row in ROWS])
    plain, twin = held._view.page()
    assert "done: 80 of 80" in plain and "verdict:" in twin and "The first 20 of 80 cells" in twin
    assert hostile not in twin and "&lt;img src=x" in twin and len(twin) < 20_000


def test_a_grid_that_mlflow_kept_is_looked_through_too(home, empty_mlflow, tmp_path, monkeypatch):
    held = grid(track=True)
    assert held.run_id
    where = settings.load()
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "elsewhere"))
    other = LoggedGrid(held.run_id, where)
    assert ask(other, "open").data["total"] == 80
    assert numbers(other, scorer="third", low=1, variant=1)[0] == 1
    assert ask(other, "summary").data["verdict"]["text"] == ask(held, "summary").data["verdict"]["text"]
    told = ask(other, "cell", cell=3).data
    assert told["text"] == "Think. Why 1?" and "not in this ledger" in told["why"] and told["row"] is None
    ask(other, "select", cells=[3])
    assert list(other.selected()["row_id"]) == ["r1"] and "read back" in ask(other, "standing").data["why"]


def test_a_grid_that_has_not_begun_has_nothing_to_show():
    held = calls.prepare(PROMPTS, ROWS, models=["echo"])
    with pytest.raises(BadInput, match=r"g\.start\(\)"):
        held.show()
    assert "planned" in held._repr_mimebundle_()[0]["text/plain"]


def test_outside_of_a_notebook_a_grid_is_printed(capsys):
    held = grid(rows=ROWS[:2])
    assert held.show() is held._view
    assert "done: 4 of 4 cells" in capsys.readouterr().out and os.environ.get("LLMOPS_LAB_STATIC") is None
