"""Ratings as the ledger keeps them, with any number of writers: none lost, none doubled, none overwritten."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from llmops_lab.api.queue import Queue
from llmops_lab.errors import BadInput, Conflict, UnknownName
from llmops_lab.store import reviews
from llmops_lab.store._dialect import dialect_for
from llmops_lab.store.ledger import Ledger

RATERS, ITEMS = st.sampled_from(["ann", "bob"]), st.sampled_from(["row-0", "row-1", "row-2"])
VALUES = st.sampled_from([1, 2, 3])


def chain(rows):
    """The rows of one rater and item in the order in which each replaced the one before; fails where the chain forks or breaks."""
    following = {row.supersedes: row for row in rows}
    assert len(following) == len(rows), "two rows replace the same one"
    ordered, at = [], 0
    while at in following:
        ordered.append(following[at])
        at = following[at].seq
    assert len(ordered) == len(rows), "a row replaces one that is not there"
    return ordered


class Story(RuleBasedStateMachine):
    """What a rater may do in any order, against the plainest model of it: for each rater and item a list of what was said."""

    make = place = None
    count = 0

    def __init__(self):
        super().__init__()
        Story.count += 1
        self.queue = Story.make(3, repeats=1, name=f"q{Story.count}")
        self.said, self.sent = {}, []
        self.second = Ledger(dialect_for(Story.place))  # as another process holds it
        self.other = Queue(self.second, self.queue.name)

    def teardown(self):
        self.second.close()

    def through(self, other):
        return self.other if other else self.queue

    @rule(other=st.booleans(), rater=RATERS, item=ITEMS, value=VALUES, skip=st.booleans())
    def rate(self, other, rater, item, value, skip):
        ident = str(uuid.uuid4())
        what = {"value": None, "skip": "unclear"} if skip else {"value": value}
        row = self.through(other).submit(item=item, rater=rater, id=ident, **what)
        held = self.said.setdefault((rater, item), [])
        held.append((row, what["value"], "skip" if skip else "rating"))
        self.sent.append((ident, rater, item, what, row))

    @precondition(lambda self: self.sent)
    @rule(other=st.booleans(), data=st.data())
    def send_again(self, other, data):
        ident, rater, item, what, row = data.draw(st.sampled_from(self.sent))
        assert self.through(other).submit(item=item, rater=rater, id=ident, expects=0, **what) == row

    @precondition(lambda self: self.sent)
    @rule(other=st.booleans(), data=st.data(), rater=RATERS, item=ITEMS)
    def send_as_another(self, other, data, rater, item):
        ident, owner, place, what, _ = data.draw(st.sampled_from(self.sent))
        if (owner, place) != (rater, item):
            with pytest.raises(BadInput, match="another rating"):
                self.through(other).submit(item=item, rater=rater, id=ident, **what)

    @rule(other=st.booleans(), rater=RATERS, item=ITEMS, value=VALUES, expects=st.integers(0, 60))
    def rate_if(self, other, rater, item, value, expects):
        held = self.said.setdefault((rater, item), [])
        row, _, kind = held[-1] if held else (0, None, "undo")
        if expects == row or (expects == 0 and kind == "undo"):
            made = self.through(other).submit(item=item, rater=rater, value=value, expects=expects)
            held.append((made, value, "rating"))
        else:
            with pytest.raises(Conflict) as met:
                self.through(other).submit(item=item, rater=rater, value=value, expects=expects)
            assert (met.value.current or {"row": 0})["row"] == row

    @rule(other=st.booleans(), rater=RATERS, item=ITEMS)
    def take_back(self, other, rater, item):
        held = self.said.setdefault((rater, item), [])
        if held and held[-1][2] != "undo":
            held.append((self.through(other).undo(item=item, rater=rater), None, "undo"))
        else:
            with pytest.raises(BadInput, match="nothing to take back"):
                self.through(other).undo(item=item, rater=rater)

    @rule(other=st.booleans(), rater=RATERS)
    def look(self, other, rater):
        task = self.through(other).next(rater)
        if task is not None:
            assert task["mine"] is None
            assert task["item"] not in [item for (who, item), held in self.said.items() if who == rater and held and held[-1][2] != "undo"]

    @invariant()
    def all_that_was_said_is_there_once_and_in_order(self):
        rows = reviews.history(self.queue.opened.ledger, self.queue.opened.queue)
        assert len(rows) == sum(map(len, self.said.values()))
        for (rater, item), held in self.said.items():
            there = chain([row for row in rows if (row.rater, row.item) == (rater, item)])
            assert [(row.seq, row.body["value"], row.kind) for row in there] == held
            task = self.queue.task(rater, item)["mine"]
            assert (task and (task["row"], task["value"])) == (held[-1][:2] if held and held[-1][2] != "undo" else None)


def test_any_order_of_rating_sending_again_and_taking_back_keeps_every_word(make, place):
    Story.make, Story.place, Story.count = staticmethod(make), place, 0
    quiet = settings(max_examples=12, stateful_step_count=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Story, settings=quiet)
    assert Story.count >= 12


WORKER = """
import json, random, sys, uuid
from llmops_lab.api.queue import Queue
from llmops_lab.errors import Conflict
from llmops_lab.store._dialect import dialect_for
from llmops_lab.store.ledger import Ledger
place, name, rater, seed = sys.argv[1:]
chance, queue = random.Random(seed), Queue(Ledger(dialect_for(place)), name)
print("ready", flush=True)
sys.stdin.readline()
while (task := queue.next(rater)) is not None:
    value, ident = chance.choice([1, 2, 3]), str(uuid.UUID(int=chance.getrandbits(128)))
    for _ in range(chance.choice([1, 1, 2])):  # a click that is sent twice
        try:
            row = queue.submit(item=task["item"], rater=rater, value=value, id=ident, expects=0)
            print(json.dumps([rater, task["item"], value, ident, row]), flush=True)
        except Conflict as met:  # the same rater in another tab was quicker
            assert met.current is not None
            break
"""


def start(place, queue, rater, seed):
    command = [sys.executable, "-c", WORKER, place, queue.name, rater, str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def go(*workers):
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()


def test_many_processes_on_one_queue_lose_and_double_nothing(make, place):
    queue = make(60, overlap=2)
    # Ann has a notebook and the review page open at once; Cy's process is killed in the middle.
    workers = [start(place, queue, rater, seed) for seed, rater in enumerate(["ann", "ann", "bob", "cy"])]
    assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 4
    killed = workers[-1]
    go(killed)
    told = [json.loads(killed.stdout.readline()) for _ in range(3)]
    go(*workers[:-1])
    first = workers[0].stdout.readline()  # empty where her other tab was so quick that nothing was left for this one
    told += [json.loads(first)] if first else []
    killed.send_signal(signal.SIGKILL)
    for worker in workers:
        out, err = worker.communicate(timeout=120)
        assert worker is killed or (worker.returncode, err) == (0, "")
        told += [json.loads(line) for line in out.splitlines() if line.endswith("]")]
    rows = reviews.history(queue.opened.ledger, queue.opened.queue)
    stored = {row.id: (row.rater, row.item, row.body["value"], row.seq) for row in rows}
    assert len(stored) == len(rows)
    assert {ident: (rater, item, value, row) for rater, item, value, ident, row in told}.items() <= stored.items()
    raters = {}
    for row in rows:
        raters.setdefault(row.item, []).append(row.rater)
    assert all(len(names) == len(set(names)) <= 2 for names in raters.values())  # nobody twice, and never more than were wanted
    left = {item for item, state in queue.items("ann") if state == "open"}
    assert left == set()
    held = {item for item, rater, _ in reviews.leases(queue.opened.ledger, queue.opened.queue) if rater == "cy"}
    assert {item for item, names in raters.items() if len(names) < 2} <= held  # only what Cy still had in hand waits for its lease to end


def test_of_many_threads_that_answer_the_same_question_at_once_one_is_first_and_the_others_are_told(make):
    queue = make(6)
    barrier = threading.Barrier(4)

    def rate(value):
        met = []
        for item in range(6):
            barrier.wait()
            try:
                met.append(queue.submit(item=f"row-{item}", rater="ann", value=value, expects=0))
            except Conflict as conflict:
                met.append(conflict.current["row"])
        return met

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(rate, [1, 2, 3, 1]))
    table = queue.ratings()
    assert len(table) == 6 and table.superseded_by.isna().all()
    assert all(set(rows) == {row} for rows, row in zip(zip(*seen, strict=True), table.sort_values("item").index, strict=True))


def test_an_item_in_hand_is_free_again_when_its_lease_has_run_out_and_a_late_rating_is_kept(make):
    queue = make(1)
    assert queue.next("ann")["item"] == "row-0"
    assert queue.next("bob") is None and queue.items("bob") == [("row-0", "taken")]
    queue.opened.ledger.write(("UPDATE leases SET until = ? WHERE rater = ?", [(1.0, "ann")]))
    assert queue.next("bob")["item"] == "row-0"
    queue.submit(item="row-0", rater="bob", value=1)
    queue.submit(item="row-0", rater="ann", value=3)  # she had it open over lunch
    assert sorted(queue.ratings().value) == [1, 3]


def test_a_skipped_item_goes_to_somebody_else(make):
    queue = make(1)
    queue.submit(item=queue.next("ann")["item"], rater="ann", skip="not my language")
    assert queue.next("ann") is None
    assert queue.next("bob")["item"] == "row-0"
    assert queue.records()[0]["skip"] == "not my language"


def test_looking_again_keeps_the_same_item_for_the_same_rater(make):
    queue = make(4, overlap=2)
    first = [queue.next("ann")["item"] for _ in range(3)]
    assert len(set(first)) == 1
    assert [slot for item, rater, slot in reviews.leases(queue.opened.ledger, queue.opened.queue)] == [0]


def test_ratings_of_two_processes_with_the_same_words_are_the_same_rows(make, place):
    queue = make(8)
    chance = random.Random(3)
    told = [(f"row-{number}", chance.choice([1, 2, 3]), str(uuid.uuid4())) for number in range(8)]
    other = Ledger(dialect_for(place))
    try:
        twin = Queue(other, queue.name)
        for item, value, ident in told:
            assert queue.submit(item=item, rater="ann", value=value, id=ident) == twin.submit(item=item, rater="ann", value=value, id=ident)
    finally:
        other.close()
    assert queue.ratings().value.tolist() == [value for _, value, _ in told]


def test_an_id_that_says_something_else_is_refused_and_not_called_saved(make):
    queue, other = make(), make(name="other")
    row = queue.submit(item="row-0", rater="ann", value=1, id="one-and-the-same")
    assert queue.submit(item="row-0", rater="ann", value=1, id="one-and-the-same") == row
    for save in (
        lambda: queue.submit(item="row-0", rater="ann", value=3, id="one-and-the-same"),
        lambda: queue.submit(item="row-0", rater="ann", skip="later", id="one-and-the-same"),
        lambda: queue.undo(item="row-0", rater="ann", id="one-and-the-same"),
        lambda: other.submit(item="row-0", rater="ann", value=1, id="one-and-the-same"),
    ):
        with pytest.raises(BadInput, match="belongs to another rating"):
            save()
    assert [record["value"] for record in queue.records()] == [1]


def test_names_that_no_database_can_hold_are_not_there_and_an_id_like_that_is_one_rating(make):
    queue = make()
    with pytest.raises(UnknownName):
        queue.task("ann", "\ud800")
    rows = {queue.submit(item="row-0", rater="ann", value=1, id="half of a pair \ud800\x00") for _ in range(2)}
    assert len(rows) == len(queue.records()) == 1


def test_a_rating_of_an_item_that_was_forgotten_meanwhile_is_not_kept(make, ledger):
    queue = make()
    body = {"value": 1, "comment": "about a person"}

    def save(ident):
        reviews.add(ledger, queue.opened.queue, "row-0", "ann", ident=ident, kind="rating", body=body, expects=None)

    save("before it went")
    ledger.write(*reviews.forgetting(ledger, {"row-0"}).writes)
    with pytest.raises(BadInput, match="no longer in this queue"):
        save("after it went")
    with pytest.raises(BadInput, match="no longer in this queue"):
        reviews.settle(ledger, queue.opened.queue, "row-0", body)
    assert queue.records() == [] and queue.settled().empty
