"""Somebody asks to be forgotten. Judged by the bytes of every file in the ledger's folder."""

import json
import threading

import pandas
import pytest

import llmops_lab as lab
from llmops_lab import settings
from llmops_lab.api import care
from llmops_lab.errors import BadInput, LabError, StoreError, UnknownName
from llmops_lab.flows.forget import forget_row
from llmops_lab.store import care as store_care
from llmops_lab.store.ledger import open_ledger
from llmops_lab.store.rows import keep_rows, rows_of
from llmops_lab.track import outbox
from tests.servers import ModelServer

PLANTED = "Maria-Planted-4711"
ROWS = [{"id": f"row-{number}", "question": f"What about {number}?", "label": "x"} for number in range(6)]
ROWS[2] = {"id": "row-of-Maria", "question": f"What about {PLANTED}?", "label": f"{PLANTED}-label"}


def quote(reply, row):
    return lab.Score(None, error=f"saw {row['question']}") if PLANTED in row["question"] else lab.Score(1.0, reason=row["question"])


def ask(**changes):
    wanted = {"prompts": {"plain": "{{ question }}", "more": "Please: {{ question }}"}, "rows": ROWS, "models": ["echo"]}
    return lab.grid(**{**wanted, "scorers": ["exact", quote], "expected": "label", "track": False, **changes})


def holding(home, *words):
    """Files of the ledger's folder that hold one of these, read as bytes, Parquet as its cells."""
    found = []
    for path in home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".parquet":
                data += pandas.read_parquet(path).to_csv().encode()
            found += [path.name for word in words if word.encode() in data]
    return sorted(set(found))


@pytest.fixture
def mlflow_away(monkeypatch):
    """A tracking server that nobody runs: everything waits."""
    with ModelServer() as server:
        url = server.url
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url.removesuffix("/v1"))


def test_no_byte_of_the_row_is_left(home):
    ask(name="first")
    ask(name="second", repeats=2)
    assert holding(home, PLANTED, "row-of-Maria")
    report = forget_row(settings.load(), "row-of-Maria")
    assert holding(home, PLANTED, "row-of-Maria") == []
    assert {grid["name"] for grid in report.forgotten.grids} == {"first", "second"}
    assert (report.forgotten.cells, report.forgotten.replies) == (6, 4) and (report.runs, report.traces, report.files) == ((), (), ())
    assert "6 cells and 4 replies" in str(report) and "row-of-Maria" in str(report)
    frame = lab.load("first").frame()
    assert sorted(frame["row_id"].unique()) == [row["id"] for row in ROWS if row["id"] != "row-of-Maria"]
    assert set(frame["status"]) == {"ok"} and frame["text"].str.contains("What about").all()


def test_a_single_question_is_forgotten_by_the_id_of_its_row(home, mlflow_away):
    lab.ask(f"Who is {PLANTED}?", "echo")
    (row_id,) = lab.load("asks").frame()["row_id"]
    assert holding(home, PLANTED)
    report = forget_row(settings.load(), row_id)
    assert holding(home, PLANTED) == [] and (report.forgotten.replies, report.traces) == (1, ())


def test_the_trace_of_a_forgotten_question_is_named(home):
    answer = lab.ask(f"Who is {PLANTED}?", "echo")
    (row_id,) = lab.load("asks").frame()["row_id"]
    assert answer.run_id is not None
    assert forget_row(settings.load(), row_id).traces == (answer.trace_id,)


def test_the_ledger_holds_the_row_once_and_never_what_was_made_of_it(home):
    """What was sent is rendered anew from the row when it is needed; a row is kept once for all grids of its dataset."""
    with ModelServer(answer=lambda text: "fine") as server:
        for name in ("first", "second"):
            ask(models=[f"openai:m@{server.url}"], scorers=["exact"], name=name)
        assert server.count(f"Please: What about {PLANTED}?") == 1
    assert holding(home, f"Please: What about {PLANTED}") == []
    bodies = [body for (body,) in open_ledger(settings.load()).select("SELECT body FROM rows ORDER BY row_id")]
    assert len(bodies) == len(ROWS) and sum(f"What about {PLANTED}?" in body for body in bodies) == 1


def test_a_row_that_only_its_dataset_still_holds_can_be_forgotten(home):
    ledger = open_ledger(settings.load())
    ledger.begin("killed", "killed", {"dataset": {"digest": "d"}}, [])  # its process ended before it had written the cells
    keep_rows(ledger, "d", [("row-of-Maria", {"question": PLANTED})], 1)
    ledger.end("killed", "failed")
    assert holding(home, PLANTED)
    assert forget_row(settings.load(), "row-of-Maria").forgotten.cells == 0
    assert holding(home, PLANTED) == []


def test_a_secret_in_a_row_is_masked_before_it_is_kept(home, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "tuna-sandwich-with-extra-secret")
    ask(rows=[{"id": "1", "question": "is it tuna-sandwich-with-extra-secret ?", "label": "x"}])
    assert holding(home, "tuna-sandwich") == [] and holding(home, "[redacted]")


def test_rows_go_with_the_last_grid_of_their_dataset(home):
    ledger = open_ledger(settings.load())
    ask(name="old"), ask(name="young"), ask(name="other", rows=ROWS[:3])
    ledger.write(("UPDATE grids SET started = started - 864000, ended = ended - 864000 WHERE name IN ('old', 'other')", [()]))
    store_care.prune(ledger, days=5)
    assert {len(list(rows_of(ledger, lab.load("young").dataset["digest"])))} == {len(ROWS)}
    assert ledger.select("SELECT COUNT(DISTINCT dataset) FROM rows") == [(1,)]
    ledger.write(("UPDATE grids SET started = started - 864000, ended = ended - 864000", [()]))
    store_care.prune(ledger, days=5)
    assert ledger.select("SELECT COUNT(*) FROM rows") == [(0,)]


def test_tables_and_traces_that_wait_for_mlflow_are_cleaned_too(home, mlflow_away, monkeypatch):
    monkeypatch.setenv("LLMOPS_LAB_TRACE_SAMPLE", "1")
    grid = ask(track=True, name="waits")
    other = ask(track=True, name="other", rows=ROWS[:2])
    waiting = open_ledger(settings.load()).outbox_pending()
    assert grid.run_id is None and [kind for _, kind, _ in waiting].count("trace") == 16
    tables = [name for name in holding(home, PLANTED) if name.endswith(".parquet")]
    assert len(tables) == 1 and tables[0].startswith(grid.grid_id)
    report = forget_row(settings.load(), "row-of-Maria")
    assert holding(home, PLANTED, "row-of-Maria") == []
    assert [path.name for path in report.cleaned] == tables
    left = pandas.read_parquet(home / "outbox" / tables[0])
    assert len(left) == 10 and set(left["row_id"]) == {row["id"] for row in ROWS} - {"row-of-Maria"}
    pending = open_ledger(settings.load()).outbox_pending()
    assert [kind for _, kind, _ in pending].count("trace") == 14 and PLANTED not in json.dumps(pending)
    assert {payload["grid"] for _, kind, payload in pending if kind == "grid"} == {grid.grid_id, other.grid_id}


def test_what_waited_is_delivered_without_the_row_and_what_was_delivered_is_named(home, mlflow_away, mlflow_store, monkeypatch):
    waits = ask(track=True, name="waits")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    early = ask(track=True, name="early", rows=ROWS[2:4], prompts={"early": "Now: {{ question }}"})
    assert early.run_id
    before = forget_row(settings.load(), "row-of-Maria")
    assert early.run_id in before.runs and early.run_id in str(before)
    late = ask(track=True, name="late", rows=ROWS[:2])
    assert late.run_id
    runs = {record["name"]: record["run_id"] for record in open_ledger(settings.load()).grids()}
    assert runs["waits"]
    holders = [path for path in home.rglob("cells.parquet") if PLANTED in pandas.read_parquet(path).to_csv()]
    named = set(before.runs)
    assert holders and all(any(run in path.parts for run in named) for path in holders)
    assert waits.state == "done"


def test_the_tables_of_a_grid_with_a_forgotten_row_are_still_right(home):
    """``label`` has a summary of its own, made from the scores of each cell."""
    rows = [{"id": str(number), "question": "yes" if number % 2 else "no", "label": "yes"} for number in range(6)]
    grid = ask(prompts={"plain": "{{ question }}", "same": "{{ question }}."}, rows=rows, scorers=["label"])
    forget_row(settings.load(), "0")
    forget_row(settings.load(), "2")
    summary = lab.load(grid.grid_id).summary().set_index("prompt")
    assert list(summary["n"]) == [4, 4] and list(summary["label"]) == [0.75, 0.75]
    fresh = ask(
        prompts={"plain": "{{ question }}", "same": "{{ question }}."},
        rows=[row for row in rows if row["id"] not in "02"],
        scorers=["label"],
    )
    pandas.testing.assert_frame_equal(
        summary.filter(regex="label|^n"), fresh.summary().set_index("prompt").filter(regex="label|^n"), check_like=True
    )


def test_a_table_that_lies_on_another_machine_or_is_damaged_is_named(home, mlflow_away):
    first, second = ask(track=True, name="first"), ask(track=True, name="second")
    tables = {name: next((home / "outbox").glob(f"{grid.grid_id}*.parquet")) for name, grid in (("first", first), ("second", second))}
    tables["first"].unlink()
    tables["second"].write_bytes(b"PAR1 cut in the middle")
    report = forget_row(settings.load(), "row-of-Maria")
    assert set(report.files) == {str(path) for path in tables.values()}
    assert all(str(path) in str(report) for path in tables.values())


def test_a_row_that_is_not_there_is_unknown_and_a_close_one_is_meant(home):
    ask()
    with pytest.raises(UnknownName, match="row-of-Maria"):
        forget_row(settings.load(), "row-of-Mario")


def test_a_grid_that_runs_is_let_end_first(home):
    with ModelServer(latency_ms=300) as server:
        grid = ask(models=[f"openai:m@{server.url}"], concurrency=1, wait=False)
        with pytest.raises(BadInput, match="still runs"):
            forget_row(settings.load(), "row-of-Maria")
        grid.cancel()
        grid.wait()
    forget_row(settings.load(), "row-of-Maria")
    assert holding(home, "row-of-Maria") == []


def test_nothing_is_delivered_while_a_row_is_forgotten(home):
    ask()
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with outbox.paused(settings.load()):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(30)
    try:
        with pytest.raises(LabError, match="being sent"), outbox.paused(settings.load(), 0.1):
            pass
    finally:
        leave.set()
        thread.join(30)
    assert forget_row(settings.load(), "row-of-Maria").forgotten.cells == 2


def test_killed_between_the_tables_and_the_ledger_the_same_again_finishes_it(home, mlflow_away):
    grid = ask(track=True)
    table = next((home / "outbox").glob(f"{grid.grid_id}*.parquet"))
    half = table.with_name(f".{table.name}.half")
    half.mkdir()  # where the new table would be written
    with pytest.raises(StoreError, match=str(table)):
        forget_row(settings.load(), "row-of-Maria")
    half.rmdir()
    assert holding(home, "row-of-Maria")
    forget_row(settings.load(), "row-of-Maria")
    assert holding(home, PLANTED, "row-of-Maria") == []


def test_the_house_is_kept_by_four_functions(home, tmp_path):
    ask(name="first")
    copy = care.backup(str(tmp_path / "copy.db"))
    assert copy.is_file() and care.check().calls == 12
    assert care.forget_row("row-of-Maria").forgotten.replies == 2 and care.check().calls == 10
    assert care.prune(days=30) == 0 and care.prune(days=1e-9) == 10
    assert care.check().sound and open_ledger(settings.load()).grids() == []
    for log in home.glob("lab.db-*"):
        log.unlink()
    copy.replace(home / "lab.db")
    assert set(lab.load("first").frame()["status"]) == {"ok"} and care.check().calls == 12


def test_forgotten_in_postgresql_as_well(home, postgres, monkeypatch):
    url = postgres.database()
    monkeypatch.setenv("LLMOPS_LAB_LEDGER", url)
    ask()
    report = forget_row(settings.load(), "row-of-Maria")
    assert report.forgotten.cells == 2 and "PostgreSQL's own log" in str(report)
    assert postgres.dump(url).count(PLANTED) == 0 and "row-1" in postgres.dump(url)
