"""What was served, as the ledger keeps it, and lets go of it."""

from llmops_lab.records import Reply, Usage
from llmops_lab.store import care, served

REPLY = Reply("yes\u0000\ud800", "stop", Usage(3, 2), 0.1, model="m", cost_usd=0.25)


def test_a_reply_and_a_request_come_back_as_they_were(ledger):
    ledger.write(served.reply_row("d", "bot@dev", REPLY))
    ledger.write(served.reply_row("d", "bot@dev", Reply("another", "stop")))  # the first one stands
    ledger.write(served.request_row("r", api_key="k", release="bot@dev", version="3", status="ok", facts={"traced": True}))
    ledger.write(served.feedback_row("r", "k", {"value": False, "comment": ""}))
    assert served.kept_reply(ledger, "d") == REPLY and served.kept_reply(ledger, "e") is None
    found = served.request(ledger, "r")
    assert (found["api_key"], found["release"], found["version"], found["traced"]) == ("k", "bot@dev", "3", True)
    assert served.request(ledger, "s") is None
    assert [said["value"] for said in served.feedback(ledger, "r")] == [False]


def test_prune_lets_go_of_what_was_served_long_ago(ledger):
    for name in ("old", "new"):
        ledger.write(served.reply_row(name, "bot", REPLY))
        ledger.write(served.request_row(name, api_key="", release="bot", version="", status="ok", facts={}))
        ledger.write(served.feedback_row(name, "", {"value": 1}))
    for table, column in (("served", "id"), ("served_replies", "digest"), ("served_feedback", "request")):
        ledger.write((f"UPDATE {table} SET at = at - 864000 WHERE {column} = ?", [("old",)]))
    care.prune(ledger, days=5)
    assert served.request(ledger, "old") is None and served.kept_reply(ledger, "old") is None and not served.feedback(ledger, "old")
    assert served.request(ledger, "new") and served.kept_reply(ledger, "new") and served.feedback(ledger, "new")
