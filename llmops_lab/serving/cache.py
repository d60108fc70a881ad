"""The exact cache: the same request to the same release gets the same reply, from memory or from the ledger. Errors are never kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from llmops_lab.errors import StoreError
from llmops_lab.records import Reply, Request, digest, to_json
from llmops_lab.redact import Redactor
from llmops_lab.serving.http import Headers
from llmops_lab.serving.protocol import choices_of
from llmops_lab.serving.release import Release
from llmops_lab.store._writer import Write
from llmops_lab.store.ledger import Ledger
from llmops_lab.store.served import kept_reply, reply_row

_IN_MEMORY = 4096
_WHOLE = frozenset({"stop", "length", "tool_calls"})  # how a choice ends that a filter or a fault did not end
_ROWS_S = 0.2  # as in journal: one commit for all that come in this time


class Cache:
    """Replies by the digest of release and request. ``say`` hears of a ledger that fails, which never fails a request."""

    def __init__(self, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._ledger, self._say = ledger, say
        self._recent: OrderedDict[str, Reply] = OrderedDict()
        self._rows: list[Write] = []
        self._redact = Redactor()

    def key(self, release: Release, request: Request, headers: Headers) -> str:
        """Under what a reply is kept; empty for a request that gets another reply each time, or whose caller wants a fresh one."""
        control = headers.get(b"cache-control", b"")
        if not release.sure(request) or b"no-cache" in control or b"no-store" in control:
            return ""
        return digest([release.digest, request])

    async def find(self, key: str) -> Reply | None:
        """The reply that is kept."""
        found = self._recent.get(key)
        if found is not None:
            self._recent.move_to_end(key)
            return found
        try:
            found = await asyncio.to_thread(kept_reply, self._ledger, key)
        except StoreError as error:
            self._say(f"the cache cannot be read: {error}")
            return None
        if found is not None:
            self._remember(key, found)
        return found

    def keep(self, key: str, release: Release, reply: Reply) -> None:
        """Keep a whole reply. One that holds a secret is not kept: masked it would be another reply."""
        ends = {choice["finish_reason"] for choice in choices_of(reply)}
        if not ends <= _WHOLE or self._redact(body := to_json(reply)) != body:
            return
        self._remember(key, reply)
        self._rows.append(reply_row(key, release.name, reply))
        if len(self._rows) == 1:
            asyncio.get_running_loop().call_later(_ROWS_S, self.flush)

    def flush(self) -> None:
        """Hand what is to be kept to the ledger."""
        rows, self._rows = self._rows, []
        if rows:
            self._ledger.put(rows, self._kept)

    def _remember(self, key: str, reply: Reply) -> None:
        self._recent[key] = reply
        if len(self._recent) > _IN_MEMORY:
            self._recent.popitem(last=False)

    def _kept(self, error: Exception | None) -> None:
        if error is not None:
            self._say(f"the cache cannot be written: {error}")
