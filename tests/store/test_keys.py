"""API keys and their books, in SQLite and in PostgreSQL."""

import threading
import uuid

import pytest

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.store import keys
from llmops_lab.store.keys import Entry


def entry(kind, key, name, usd):
    return Entry(kind, key.id, name, usd)


def test_a_key_is_hashed_named_once_and_can_be_made_anew(ledger):
    secret = keys.create(ledger, "alice", rpm=5, budget_usd=2.0)
    (key,) = keys.listed(ledger)
    assert key.sha256 == keys.hashed(secret) and secret not in str(ledger.select("SELECT * FROM api_keys"))
    assert keys.with_hash(ledger, keys.hashed(secret)) == key and (key.rpm, key.budget_usd) == (5, 2.0)
    with pytest.raises(BadInput, match="is in use"):
        keys.create(ledger, "alice")
    keys.revoke(ledger, "alice")
    assert keys.with_hash(ledger, keys.hashed(secret)) is None
    with pytest.raises(UnknownName):
        keys.revoke(ledger, "alice")
    assert keys.create(ledger, "alice") != secret and len(keys.listed(ledger)) == 2
    for name in ("", " ", "a\n", "a" * 101):
        with pytest.raises(BadInput):
            keys.create(ledger, name)


def test_a_budget_is_never_passed_whoever_holds_at_once(ledger):
    keys.create(ledger, "alice", budget_usd=10.0)
    (key,) = keys.listed(ledger)
    given = []

    def hold():
        for _ in range(5):
            name = uuid.uuid4().hex
            if keys.book(ledger, [entry("hold", key, name, 0.7)]) == [True]:
                given.append(name)

    threads = [threading.Thread(target=hold) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 14  # 14 x 0.7 = 9.8
    settled = keys.book(ledger, [entry("settle", key, name, 0.5) for name in given])
    (after,) = keys.listed(ledger)
    assert all(settled) and after.spent_usd == pytest.approx(7.0) and after.held_usd == 0.0


def test_what_is_settled_twice_counts_once_and_spending_without_a_hold_counts(ledger):
    keys.create(ledger, "alice", budget_usd=10.0)
    (key,) = keys.listed(ledger)
    one = [entry("hold", key, "h", 3.0), entry("settle", key, "h", 1.0), entry("settle", key, "h", 1.0), entry("settle", key, "", 2.0)]
    assert keys.book(ledger, one) == [True, True, False, True]
    assert keys.listed(ledger)[0].spent_usd == pytest.approx(3.0)
    keys.revoke(ledger, "alice")
    assert keys.book(ledger, [entry("hold", key, "later", 0.1)]) == [False]


def test_what_a_dead_server_held_counts_as_spent(ledger):
    keys.create(ledger, "alice", budget_usd=10.0)
    (key,) = keys.listed(ledger)
    keys.book(ledger, [entry("hold", key, "mine", 1.0), entry("hold", key, "theirs", 2.0)])
    ledger.write(("UPDATE holds SET owner = ? WHERE hold = ?", [(f"{ledger.owner.split(':')[0]}:4000000:1", "theirs")]))
    assert keys.settle_dead(ledger) == 2.0 and keys.settle_dead(ledger) == 0.0
    (after,) = keys.listed(ledger)
    assert (after.spent_usd, after.held_usd) == (2.0, 1.0)
