"""Judges' cards in the ledger, SQLite and PostgreSQL."""

from llmops_lab.store.cards import carded, keep_card, newest_card


def test_the_newest_card_of_a_version_is_found_and_else_the_newest_of_any(ledger, opened, place):
    assert newest_card(ledger, "polite", "v1") is None and carded(ledger) == []
    for version, number in (("v1", 1), ("v1", 2), ("v2", 3), (None, 4)):
        keep_card(ledger, "polite", version, {"number": number, "missing": float("nan"), "wide": float("inf")})
    again = opened(place)
    assert newest_card(again, "polite", "v1")[:2] != newest_card(again, "polite", "v2")[:2]
    assert [newest_card(again, "polite", version)[1]["number"] for version in ("v1", "v2", None, "v3")] == [2, 3, 4, 4]
    assert [newest_card(again, "polite", version)[0] for version in ("v1", None)] == ["v1", None]
    assert newest_card(again, "polite", "v1")[1]["wide"] == float("inf") and carded(again) == ["polite"]
