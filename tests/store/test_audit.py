"""The audit log: what was done to it afterwards is found, and any number of processes add to it in one chain."""

import json
import threading

import pytest

from llmops_lab.store import audit

COLUMNS = ("at", "kind", "actor", "body", "prev", "hash", "name")


@pytest.fixture
def filled(ledger):
    """A log of six entries about two names."""
    for number in range(6):
        audit.append(ledger, "promoted", "anna", {"name": f"bot-{number % 2}", "version": number, "why": "tested"})
    return ledger


def change(ledger, sql, *values):
    with ledger.transaction() as execute:
        execute(sql, values)


def test_a_log_names_its_entries_in_order_and_is_whole(filled):
    entries = audit.entries(filled)
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry.prev for entry in entries] == [audit.FIRST, *[entry.hash for entry in entries[:-1]]]
    found = audit.verify(filled)
    assert (found.entries, found.head, found.faults, found.whole) == (6, entries[-1].hash, (), True)


def test_an_empty_log_is_whole(ledger):
    assert audit.verify(ledger) == audit.Verified(0, audit.FIRST, ())


def test_entries_are_found_by_kind_and_by_name(filled):
    audit.append(filled, "refused", "ben", {"name": "bot-1", "reason": "no gate"})
    assert [entry.seq for entry in audit.entries(filled, name="bot-1")] == [2, 4, 6, 7]
    assert [entry.actor for entry in audit.entries(filled, kind="refused", name="bot-1")] == ["ben"]
    assert audit.entries(filled, kind="refused", name="bot-0") == []


@pytest.mark.parametrize("column", COLUMNS)
def test_one_changed_byte_is_found_in_every_column(filled, column):
    (before,) = filled.select(f"SELECT {column} FROM audit WHERE seq = 3")[0]
    middle = len(before) // 2
    change(filled, f"UPDATE audit SET {column} = ? WHERE seq = 3", before[:middle] + chr(ord(before[middle]) ^ 1) + before[middle + 1 :])
    found = audit.verify(filled)
    assert not found.whole and "entry 3" in found.faults[0]
    change(filled, f"UPDATE audit SET {column} = ? WHERE seq = 3", before)
    assert audit.verify(filled).whole


def test_a_change_with_a_new_hash_breaks_the_chain_behind_it(filled):
    row = list(filled.select("SELECT seq, at, kind, actor, body, prev FROM audit WHERE seq = 3")[0])
    row[3] = "mallory"
    change(filled, "UPDATE audit SET actor = ?, hash = ? WHERE seq = 3", "mallory", audit._hash(*row))
    assert [fault.partition(":")[0] for fault in audit.verify(filled).faults] == ["entry 4"]


@pytest.mark.parametrize(("gone", "named"), [(1, "entry 2"), (4, "entry 5")])
def test_a_deleted_entry_is_found(filled, gone, named):
    change(filled, "DELETE FROM audit WHERE seq = ?", gone)
    faults = audit.verify(filled).faults
    assert len(faults) == 1 and faults[0].startswith(named) and "taken out" in faults[0]


def test_a_deleted_entry_is_found_although_the_others_were_numbered_anew(filled):
    change(filled, "DELETE FROM audit WHERE seq = 4")
    for seq in (5, 6):
        change(filled, "UPDATE audit SET seq = ? WHERE seq = ?", seq - 1, seq)
    assert not audit.verify(filled).whole


def test_two_entries_that_were_exchanged_are_found(filled):
    for old, new in ((2, 99), (5, 2), (99, 5)):
        change(filled, "UPDATE audit SET seq = ? WHERE seq = ?", new, old)
    faults = audit.verify(filled).faults
    assert {fault.partition(":")[0] for fault in faults} >= {"entry 2", "entry 5"}


def test_a_log_that_was_cut_off_is_found_by_whoever_has_seen_its_end(filled):
    last = audit.entries(filled)[-1]
    heads = [(last.seq, last.hash, "MLflow (bot)")]
    assert audit.verify(filled, heads).whole
    change(filled, "DELETE FROM audit WHERE seq > 4")
    assert audit.verify(filled).whole  # the chain alone cannot know: docs/decisions/0023 says so
    (fault,) = audit.verify(filled, heads).faults
    assert "entry 6 is gone" in fault and "MLflow (bot)" in fault
    for _ in range(2):
        audit.append(filled, "promoted", "anna", {"name": "bot-0"})
    (fault,) = audit.verify(filled, heads).faults
    assert "written anew" in fault


def test_an_entry_that_cannot_be_read_is_said_to_be_changed(filled):
    change(filled, "UPDATE audit SET body = ? WHERE seq = 3", "{")
    with pytest.raises(Exception, match="entry 3 of the audit log cannot be read"):
        audit.entries(filled)
    assert not audit.verify(filled).whole


def test_hostile_texts_and_secrets_go_through(ledger, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-live-0123456789abcdef0123456789")
    why = "'; DROP TABLE audit; -- \x00 \ud800 \u202e sk-live-0123456789abcdef0123456789"
    entry = audit.append(ledger, "refused", "o'hara\x00\ud800", {"name": "x'--\x00", "reason": why})
    (kept,) = audit.entries(ledger, name="x'--\x00")
    assert kept == entry and "sk-live" not in json.dumps(kept.body) and "DROP TABLE" in kept.body["reason"]
    assert audit.verify(ledger).whole


def test_a_transaction_that_fails_leaves_no_entry(ledger):
    with pytest.raises(RuntimeError), audit.writing(ledger) as chain:
        chain.append("promoted", "anna", {"name": "bot"})
        raise RuntimeError("the alias could not be moved")
    assert audit.entries(ledger) == []


def test_many_writers_make_one_chain(opened, place):
    failed = []

    def write(writer):
        ledger = opened(place)
        try:
            for number in range(15):
                audit.append(ledger, "promoted", f"writer {writer}", {"name": "bot", "version": number})
        except Exception as error:  # a thread's error would go unseen
            failed.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    ledger = opened(place)
    assert audit.verify(ledger) == audit.Verified(60, audit.entries(ledger)[-1].hash, ())
    for writer in range(4):
        versions = [entry.body["version"] for entry in audit.entries(ledger) if entry.actor == f"writer {writer}"]
        assert versions == list(range(15))
