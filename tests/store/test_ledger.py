"""What the ledger promises, through its public methods, on both databases."""

import asyncio
import os
import socket
import subprocess
import sys
import threading

import pytest

from llmops_lab.errors import StoreError
from llmops_lab.records import Outcome, Reply, Score, Usage
from llmops_lab.store.ledger import CellRow, CellState
from tests.store.conftest import DEAD

NASTY = "\x00 \ud800 \U0001f600 \u202e ' \" \\ %s ? {x} \x1b[31m </script>"


def ok(text="yes", **changes):
    return Outcome("ok", Reply(text, "stop", Usage(3, 4), 0.5, None, 0.25, "m", **changes))


def failed(kind="timeout"):
    return Outcome("failed", None, error=kind, message=f"it was {kind} {NASTY}", tries=3)


def row(cell, key, reused=None, row_id="r1"):
    return CellRow(cell, key, "p", "m", row_id, 0, reused)


def begin(ledger, grid, *keys):
    ledger.begin(grid, "name", {"scorers": ["exact"]}, [row(cell, key) for cell, key in enumerate(keys)])


def record(ledger, grid, key, outcome):
    ledger.write(ledger.reply(grid, key, "r1", outcome))


def reply_of(ledger, key):
    ((_, outcome),) = ledger.outcomes([ledger.answered([key])[key]])
    return outcome.reply


def test_a_reply_comes_back_exactly(ledger, opened, place):
    reply = Reply(NASTY, "length", Usage(1, None), 1.5, 0.125, None, NASTY, ({"name": "f", "arguments": NASTY},), (-0.5, -12.25))
    record(ledger, "g", "k", Outcome("ok", reply, tries=2))
    assert reply_of(opened(place), "k") == reply


def test_five_megabytes_of_text_come_back_exactly(ledger):
    text = (NASTY * 200_000)[: 5 * 2**20]
    record(ledger, "g", "k", ok(text))
    assert reply_of(ledger, "k").text == text


def test_an_error_is_never_an_answer_and_never_hides_one(ledger):
    record(ledger, "g", "k", failed())
    assert ledger.answered(["k", "unknown"]) == {}
    record(ledger, "g", "k", ok("first"))
    record(ledger, "g", "k", failed("server_error"))
    assert reply_of(ledger, "k").text == "first"
    record(ledger, "g", "k", ok("second"))
    assert reply_of(ledger, "k").text == "second"


def test_what_was_billed_for_nothing_is_kept(ledger):
    outcome = Outcome("failed", None, error="empty", message="no choices", usage=Usage(7, 0), cost_usd=0.5)
    begin(ledger, "g", "k")
    record(ledger, "g", "k", outcome)
    (cell,) = ledger.cells("g")
    assert cell.outcome == outcome
    assert [line[1:] for line in ledger.spend()] == [("m", 1, 0.5, 0)]


def test_answers_of_one_grid_alone(ledger):
    record(ledger, "g1", "k", ok())
    assert ledger.answered(["k"], grid="g2") == {}
    assert set(ledger.answered(["k"], grid="g1")) == {"k"}


def test_thousands_of_keys_are_looked_up(ledger):
    ledger.write(*(ledger.reply("g", f"k{number}", "r", ok(str(number))) for number in range(0, 3000, 2)))
    found = ledger.answered(f"k{number}" for number in range(3000))
    assert sorted(found) == sorted(f"k{number}" for number in range(0, 3000, 2))
    outcomes = dict(ledger.outcomes(list(found.values())))
    assert {key: outcomes[number].reply.text for key, number in found.items()} == {key: key[1:] for key in found}


def test_a_grid_is_read_back_in_plan_order_with_its_newest_outcomes(ledger):
    record(ledger, "old", "a", ok("of an older grid"))
    number = ledger.answered(["a"])["a"]
    ledger.begin("g", "name", {"scorers": []}, [row(0, "b"), row(1, "a", reused=number), row(2, "c")])
    record(ledger, "g", "b", failed())
    record(ledger, "g", "b", ok("at last"))
    record(ledger, "other", "c", ok("not of this grid"))
    cells = list(ledger.cells("g"))
    assert [cell.row for cell in cells] == [row(0, "b"), row(1, "a", reused=number), row(2, "c")]
    assert [cell.outcome and cell.outcome.reply.text for cell in cells] == ["at last", "of an older grid", None]
    assert isinstance(cells[0], CellState) and cells[0].at > 0 and cells[2].at is None


def test_a_grid_is_found_by_id_run_or_name_the_newest_first(ledger):
    begin(ledger, "g1", "a")
    ledger.linked("g1", "run1")
    begin(ledger, "g2", "b")
    ledger.end("g2", "done")
    assert [ledger.grid(name)["grid"] for name in ("g1", "run1", "name")] == ["g1", "g1", "g2"]
    assert ledger.grid("nobody") is None and ledger.grid(NASTY) is None
    assert [grid["grid"] for grid in ledger.grids()] == ["g2", "g1"] and len(ledger.grids(1)) == 1
    assert ledger.grid("g2")["state"] == "done" and ledger.grid("g2")["ended"] >= ledger.grid("g2")["started"]


def test_a_grid_begun_again_goes_on(ledger):
    begin(ledger, "g", "a", "b")
    ledger.end("g", "cancelled")
    begin(ledger, "g", "a", "b")
    assert ledger.grid("g")["state"] == "running" and ledger.grid("g")["ended"] is None
    assert len(list(ledger.cells("g"))) == 2


def test_a_grid_whose_process_is_gone_is_interrupted(place, opened):
    begin(opened(place, DEAD), "g", "a")
    assert opened(place).grid("g")["state"] == "interrupted"


def test_a_process_that_was_killed_but_not_yet_looked_after_is_gone(place, opened):
    child = subprocess.Popen([sys.executable, "-c", _BEGIN, place], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    ledger = opened(place)
    assert ledger.grid("g")["state"] == "running"
    assert ledger.settle_doubts("g", ["a"]) == []
    child.kill()  # and nobody waits for it: it stays as a zombie
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert ledger.grid("g")["state"] == "interrupted"
    assert ledger.settle_doubts("g", ["a"]) == ["a"]
    child.wait()
    child.stdout.close()


_BEGIN = """
import sys, time
from llmops_lab.store.ledger import CellRow, Ledger, dialect_for
ledger = Ledger(dialect_for(sys.argv[1]))
ledger.begin("g", "name", {}, [CellRow(0, "a", "p", "m", "r", 0)])
ledger.write(ledger.claims("g", ["a"]))
print("ready", flush=True)
time.sleep(600)
"""


def test_scores_come_back_with_their_type_and_the_newest_last(ledger):
    detail = {"predicted": NASTY, "true": ["x", None]}
    scores = [Score(True), Score(0.5, reason=NASTY), Score(None, error="broke"), Score(False, detail=detail), Score(3)]
    ledger.write(ledger.scores("g", [(cell, f"k{cell}", "exact", None, score) for cell, score in enumerate(scores)]))
    ledger.write(ledger.scores("g", [(0, "k0", "exact", None, Score(0.0))]))
    ledger.write(ledger.scores("other", [(0, "k0", "exact", None, Score(1.0))]))
    found = [score for _, _, score in ledger.grid_scores("g")]
    assert found == [*scores, Score(0.0)]
    assert [type(score.value) for score in found] == [bool, float, type(None), bool, int, float]


def test_stored_scores_are_found_by_key_and_mark_and_only_good_ones(ledger):
    ledger.write(
        ledger.scores(
            "g",
            [
                (0, "k", "judge", "m1", Score(0.25)),
                (0, "k", "judge", "m1", Score(0.75)),
                (0, "k", "judge", "m1", Score(None, error="x")),
                (0, "k", "judge", "m2", Score(None)),
                (1, "k2", "judge", None, Score(1.0)),
            ],
        )
    )
    wanted = [("k", "m1"), ("k", "m2"), ("k2", "m1"), *((f"other{number}", "m1") for number in range(600))]
    assert ledger.stored_scores(wanted) == {("k", "m1"): Score(0.75)}


def test_labels_that_no_database_takes_are_stored_as_escapes(ledger):
    ledger.begin("g", NASTY, {"x": NASTY}, [CellRow(0, "k", NASTY, NASTY, NASTY, 0)])
    ledger.write(ledger.reply("g", "k", NASTY, ok()), ledger.scores("g", [(0, "k", NASTY, None, Score(1.0))]))
    (cell,) = ledger.cells("g")
    assert cell.outcome.reply.text == "yes"
    assert "\\x00" in cell.row.row_id and "\\ud800" in cell.row.row_id
    assert ledger.grid("g")["plan"] == {"x": NASTY}
    assert ledger.grid(NASTY)["grid"] == "g"


def test_a_row_that_the_database_refuses_is_an_error_and_the_writer_goes_on(ledger):
    with pytest.raises(StoreError) as caught:
        ledger.write(("INSERT INTO claims (key, grid, kind, owner, at) VALUES (?, ?, ?, ?, ?)", [("\ud800", "g", "claim", "o", 0.0)]))
    assert caught.value.path == ledger.place
    with pytest.raises(StoreError, match="nowhere"):
        ledger.write(("INSERT INTO nowhere VALUES (?)", [(1,)]))
    record(ledger, "g", "k", ok())
    assert set(ledger.answered(["k"])) == {"k"}


def test_a_group_of_rows_is_written_whole_or_not_at_all(ledger):
    with pytest.raises(StoreError):
        ledger.write(ledger.reply("g", "k", "r", ok()), ("INSERT INTO nowhere VALUES (?)", [(1,)]))
    assert ledger.answered(["k"]) == {}


def test_the_callback_comes_after_the_commit(ledger, opened, place):
    other, seen, finished = opened(place), [], threading.Event()

    def done(error):
        seen.append((error, set(other.answered(["k"]))))
        finished.set()

    ledger.put([ledger.reply("g", "k", "r", ok())], done)
    assert finished.wait(30)
    assert seen == [(None, {"k"})]


def test_a_caller_whose_event_loop_is_gone_does_not_stop_the_writer(ledger):
    loop = asyncio.new_event_loop()
    loop.close()
    ledger.put([ledger.reply("g", "k1", "r", ok())], lambda _: loop.call_soon_threadsafe(print))
    record(ledger, "g", "k2", ok())
    assert set(ledger.answered(["k1", "k2"])) == {"k1", "k2"}


def test_closing_finishes_what_is_queued_and_it_can_be_used_again(ledger, opened, place):
    for number in range(200):
        ledger.put([ledger.reply("g", f"k{number}", "r", ok())], lambda _: None)
    ledger.close()
    assert len(opened(place).answered(f"k{number}" for number in range(200))) == 200
    record(ledger, "g", "later", ok())
    assert set(ledger.answered(["later"])) == {"later"}


def test_many_threads_write_and_read_at_once(ledger):
    def work(number):
        for step in range(20):
            record(ledger, "g", f"k{number}-{step}", ok(f"{number}-{step}"))
            assert reply_of(ledger, f"k{number}-{step}").text == f"{number}-{step}"
        finished.append(number)

    finished = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(finished) == list(range(8))
    assert len(ledger.answered(f"k{number}-{step}" for number in range(8) for step in range(20))) == 160


def test_the_thread_that_streams_cells_may_read_and_write_meanwhile(ledger):
    begin(ledger, "g", *(f"k{number}" for number in range(1200)))
    seen = 0
    for cell in ledger.cells("g"):
        if seen % 400 == 0:
            ledger.outbox_add("grid", {"n": seen})
            record(ledger, "g", cell.row.key, ok())
            assert set(ledger.answered([cell.row.key])) == {cell.row.key}
        seen += 1
    assert seen == 1200 and len(ledger.outbox_pending()) == 3


# -- doubts ----------------------------------------------------------------------------------------------------------------
def test_a_claim_of_a_dead_process_is_in_doubt_until_it_is_answered(place, opened):
    dead, ledger = opened(place, DEAD), opened(place)
    begin(ledger, "g", "answered", "failed", "released", "lost", "never")
    dead.write(dead.claims("g", ["answered", "failed", "released", "lost"]), dead.claims("g", ["released"], "release"))
    record(dead, "g", "answered", ok())
    record(dead, "g", "failed", failed())
    keys = ["answered", "failed", "released", "lost", "never"]
    assert ledger.settle_doubts("g", keys) == ["lost"]
    assert ledger.settle_doubts("g", keys) == []
    assert ledger.doubted("g") == ["lost"]


def test_doubts_add_up_over_crashes_and_grids(place, opened):
    dead, ledger = opened(place, DEAD), opened(place)
    begin(ledger, "g1", "a", "b")
    begin(ledger, "g2", "b", "c")
    for key in ("a", "b", "b"):
        dead.write(dead.claims("g1", [key]))
        assert ledger.settle_doubts("g2", ["a", "b", "c"]) == [key]
    record(ledger, "g1", "a", ok())
    assert ledger.doubted("g1") == ["a", "b"] and ledger.doubted("g2") == ["b"]


def test_a_retry_after_a_try_that_may_have_been_billed_is_a_doubt_but_no_lost_call(ledger):
    begin(ledger, "g", "k")
    ledger.write(ledger.claims("g", ["k"]), ledger.doubts("g", ["k"], "retried", "timeout"))
    record(ledger, "g", "k", ok())
    assert ledger.settle_doubts("g", ["k"]) == []
    assert ledger.doubted("g") == ["k"]


def test_calls_of_a_process_on_another_host_are_named(place, opened):
    """Nobody can tell whether it lives; asked again, they may be paid for twice."""
    far = opened(place, f"not-{socket.gethostname()}:1:1")
    begin(far, "g", "k")
    far.write(far.claims("g", ["k"]))
    ledger = opened(place)
    assert ledger.grid("g")["state"] == "running"
    assert ledger.settle_doubts("g", ["k"]) == ["k"] and ledger.doubted("g") == ["k"]


def test_doubts_of_thousands_of_keys(place, opened):
    dead, ledger = opened(place, DEAD), opened(place)
    keys = [f"k{number:05}" for number in range(2200)]
    dead.write(dead.claims("g", keys))
    assert ledger.settle_doubts("g", keys) == keys
    assert ledger.settle_doubts("g", keys) == []


# -- outbox ----------------------------------------------------------------------------------------------------------------
def test_the_outbox_keeps_what_is_not_delivered_in_order(ledger, opened, place):
    first, second, third = (ledger.outbox_add("grid", {"n": number, "text": NASTY}) for number in range(3))
    ledger.outbox_failed(first, f"away {NASTY}")
    ledger.outbox_done(second, "run2")
    assert opened(place).outbox_pending() == [(first, "grid", {"n": 0, "text": NASTY}), (third, "grid", {"n": 2, "text": NASTY})]


# -- a connection that does not last -----------------------------------------------------------------------------------------
def test_a_server_that_hung_up_is_called_again(postgres, opened):
    ledger = opened(postgres.database())
    record(ledger, "g", "before", ok())
    postgres.restart()
    assert set(ledger.answered(["before"])) == {"before"}
    record(ledger, "g", "after", ok())
    assert set(ledger.answered(["before", "after"])) == {"before", "after"}


def test_a_server_that_is_down_is_named_and_what_was_recorded_is_there_afterwards(postgres, opened):
    ledger = opened(postgres.database())
    record(ledger, "g", "before", ok())
    postgres.stop()
    try:
        with pytest.raises(StoreError, match=f"127.0.0.1:{postgres.port}"):
            record(ledger, "g", "meanwhile", ok())
        with pytest.raises(StoreError, match="does not answer"):
            ledger.answered(["before"])
    finally:
        postgres.start()
    record(ledger, "g", "after", ok())
    assert set(ledger.answered(["before", "meanwhile", "after"])) == {"before", "after"}
