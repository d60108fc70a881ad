"""What was served: one line a request, replies that may be given again, and what callers said of replies."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from llmops_lab.escapes import storable
from llmops_lab.records import Outcome, Relayed, Reply, canonical
from llmops_lab.store._bodies import outcome_body, outcome_from
from llmops_lab.store._writer import Write
from llmops_lab.store.ledger import Ledger


def request_row(ident: str, *, api_key: str, release: str, version: str, status: str, facts: Mapping[str, Any]) -> Write:
    """The row of one request that has ended; ``status`` is ok or the kind of error."""
    sql = "INSERT INTO served (id, api_key, release, version, status, body, at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
    return sql, [(ident, api_key, storable(release), version, status, canonical(facts), time.time())]


def request(ledger: Ledger, ident: str) -> dict[str, Any] | None:
    """One request that was served, by its id."""
    found = ledger.select("SELECT api_key, release, version, status, body, at FROM served WHERE id = ?", (storable(ident),))
    if not found:
        return None
    api_key, release, version, status, body, at = found[0]
    return {"id": ident, "api_key": api_key, "release": release, "version": version, "status": status, "at": at, **json.loads(body)}


def reply_row(digest: str, release: str, reply: Reply) -> Write:
    """The row of a reply that the same request gets again."""
    sql = "INSERT INTO served_replies (digest, release, body, at) VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING"
    body = outcome_body(Outcome("ok", reply))
    if isinstance(reply, Relayed):
        body = canonical({**json.loads(body), "choices": reply.choices, "more": reply.more})
    return sql, [(digest, storable(release), body, time.time())]


def kept_reply(ledger: Ledger, digest: str) -> Reply | None:
    """The reply that was kept under this digest."""
    found = ledger.select("SELECT body FROM served_replies WHERE digest = ?", (digest,))
    if not found:
        return None
    reply, body = outcome_from("ok", found[0][0]).reply, json.loads(found[0][0])
    if reply is None or "choices" not in body:
        return reply
    return Relayed(**{each.name: getattr(reply, each.name) for each in fields(Reply)}, choices=tuple(body["choices"]), more=body["more"])


def feedback_row(ident: str, api_key: str, body: Mapping[str, Any]) -> Write:
    """The row of what a caller said of a reply."""
    return "INSERT INTO served_feedback (request, api_key, body, at) VALUES (?, ?, ?, ?)", [(ident, api_key, canonical(body), time.time())]


def feedback(ledger: Ledger, ident: str) -> list[dict[str, Any]]:
    """What was said of one reply, the oldest first."""
    rows = ledger.select("SELECT body, at FROM served_feedback WHERE request = ? ORDER BY seq", (storable(ident),))
    return [{**json.loads(body), "at": at} for body, at in rows]
