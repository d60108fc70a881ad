"""Random histories of calls, crashes, doubts, scores and deliveries, against a model of them in plain dicts."""

import itertools
import os
from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from llmops_lab.records import Outcome, Reply, Score, Usage
from llmops_lab.store._dialect import dialect_for
from llmops_lab.store.ledger import CellRow, Ledger
from tests.store.conftest import DEAD

KEYS = tuple("abcd")
keys = st.sampled_from(KEYS)
some_keys = st.lists(keys, min_size=1, max_size=6)
characters = st.characters(exclude_categories=())  # lone surrogates and NUL too
texts = st.text(characters, max_size=40) | st.sampled_from(["", "\x00", "\ud800", "\udfff\ud800", "%s ? {}"])
numbers = st.none() | st.integers(0, 2**40)
reals = st.floats(allow_nan=False)
replies = st.builds(
    Reply,
    texts,
    texts,
    st.builds(Usage, numbers, numbers),
    reals,
    st.none() | reals,
    st.none() | reals,
    texts,
    st.lists(st.dictionaries(texts, texts, max_size=2), max_size=2).map(tuple),
    st.none() | st.lists(reals, max_size=3).map(tuple),
)
bills = {"usage": st.builds(Usage, numbers, numbers), "cost_usd": st.none() | reals}
good = st.builds(Outcome, st.just("ok"), replies, tries=st.integers(1, 9), **bills)
bad = st.builds(Outcome, st.just("failed"), st.none(), error=texts, message=texts, tries=st.integers(1, 9), **bills)
values = st.none() | st.booleans() | st.integers(-9, 9) | reals
scores = st.builds(Score, values, reason=texts, error=texts, detail=st.dictionaries(texts, texts, max_size=2))
fresh = itertools.count()


class History(RuleBasedStateMachine):
    """``place`` is set by the test. Every history has a grid and keys of its own, so that one store serves them all."""

    place = ""

    def __init__(self):
        super().__init__()
        number = next(fresh)
        self.grid = f"grid{number}"
        self.keys = {key: f"{number}-{key}" for key in KEYS}
        self.ledger = Ledger(dialect_for(self.place))
        self.ledger.begin(self.grid, "name", {}, [CellRow(at, self.keys[key], "p", "m", key, 0) for at, key in enumerate(KEYS)])
        self.recorded, self.numbered = [], {}
        self.open, self.doubted = Counter(), set()
        self.scored, self.waiting, self.known = [], {}, {ident for ident, _, _ in self.ledger.outbox_pending()}

    def teardown(self):
        self.ledger.close()

    @rule(chosen=some_keys, dead=st.booleans(), kind=st.sampled_from(["claim", "claim", "release"]))
    def claim(self, chosen, dead, kind):
        owner = self.ledger.owner
        self.ledger.owner = DEAD if dead else owner
        self.ledger.write(self.ledger.claims(self.grid, [self.keys[key] for key in chosen], kind))
        self.ledger.owner = owner
        for key in chosen:
            self.open[key] += 1 if kind == "claim" else -1

    @rule(items=st.lists(st.tuples(keys, good | bad), min_size=1, max_size=4))
    def record(self, items):
        self.ledger.write(*(self.ledger.reply(self.grid, self.keys[key], key, outcome) for key, outcome in items))
        self.recorded += items
        for key, _ in items:
            self.open[key] -= 1

    @rule(key=keys, kind=st.sampled_from(["lost", "retried"]), reason=st.sampled_from(["timeout", "cancelled"]))
    def doubt(self, key, kind, reason):
        self.ledger.write(self.ledger.doubts(self.grid, [self.keys[key]], kind, reason))
        self.doubted.add(key)
        self.open[key] -= kind == "lost"

    @rule(chosen=st.sets(keys))
    def settle(self, chosen):
        found = self.ledger.settle_doubts(self.grid, [self.keys[key] for key in sorted(chosen)])
        expected = {key for key in chosen if self.open[key] > 0}
        assert sorted(found) == sorted(self.keys[key] for key in expected)
        self.doubted |= expected
        for key in expected:
            self.open[key] = 0
        assert self.ledger.settle_doubts(self.grid, [self.keys[key] for key in sorted(chosen)]) == []

    @rule(cell=st.integers(0, 3), mark=st.none() | st.sampled_from(["m1", "m2"]), score=scores)
    def score(self, cell, mark, score):
        key = self.keys[KEYS[cell]]
        self.ledger.write(self.ledger.scores(self.grid, [(cell, key, "exact", mark, score)]))
        self.scored.append((cell, key, mark, score))

    @rule(payload=st.dictionaries(texts, texts | reals, max_size=3))
    def add_to_outbox(self, payload):
        self.waiting[self.ledger.outbox_add("grid", payload)] = payload

    @rule(error=texts, which=st.integers(0), done=st.booleans())
    def deliver(self, error, which, done):
        if self.waiting:
            number = sorted(self.waiting)[which % len(self.waiting)]
            if done:
                self.ledger.outbox_done(number, "run")
                del self.waiting[number]
            else:
                self.ledger.outbox_failed(number, error)

    @rule()
    def reopen(self):
        self.ledger.close()
        self.ledger = Ledger(dialect_for(self.place))

    @invariant()
    def an_answered_key_is_found_with_its_newest_good_reply(self):
        found = self.ledger.answered(self.keys.values())
        newest = {self.keys[key]: outcome for key, outcome in self.recorded if outcome.status == "ok"}
        assert set(found) == set(newest)
        outcomes = dict(self.ledger.outcomes(list(found.values())))
        assert {key: outcomes[number] for key, number in found.items()} == newest

    @invariant()
    def outcomes_are_only_ever_added(self):
        self.numbered |= {number: key for key, number in self.ledger.answered(self.keys.values()).items()}
        assert {number for number, _ in self.ledger.outcomes(list(self.numbered))} == set(self.numbered)
        newest = dict(self.recorded) | {key: outcome for key, outcome in self.recorded if outcome.status == "ok"}  # a good one stands
        assert [cell.outcome for cell in self.ledger.cells(self.grid)] == [newest.get(key) for key in KEYS]

    @invariant()
    def doubts_are_cumulative(self):
        assert self.ledger.doubted(self.grid) == sorted(self.keys[key] for key in self.doubted)

    @invariant()
    def scores_are_kept_in_order(self):
        assert [(cell, score) for cell, _, score in self.ledger.grid_scores(self.grid)] == [
            (cell, score) for cell, _, _, score in self.scored
        ]
        stored = {(key, mark): score for _, key, mark, score in self.scored if mark and score.value is not None}
        assert self.ledger.stored_scores([(key, mark) for key in self.keys.values() for mark in ("m1", "m2")]) == stored

    @invariant()
    def what_is_not_delivered_waits(self):
        pending = [(ident, payload) for ident, _, payload in self.ledger.outbox_pending() if ident not in self.known]
        assert pending == sorted(self.waiting.items())


def test_any_history_is_told_as_it_was(place):
    History.place = place
    examples = (25 if place.endswith(".db") else 5) * (10 if os.environ.get("LLMOPS_LAB_FULL", "") not in ("", "0") else 1)
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    wanted = settings(max_examples=examples, stateful_step_count=15, deadline=None, suppress_health_check=checks, database=None)
    run_state_machine_as_test(History, settings=wanted)
