"""Who may ask, how often, and for how much: keys, requests a minute, and a budget that is held before a call and settled after it."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llmops_lab.errors import StoreError
from llmops_lab.serving.http import Headers
from llmops_lab.serving.protocol import ApiError
from llmops_lab.store.keys import ApiKey, Entry, book, hashed, listed, with_hash
from llmops_lab.store.ledger import Ledger

_WINDOW_S = 60.0
_REFRESH_S = 1.0
_RETRY_S = 1.0
_Item = tuple[Entry, Callable[[bool | StoreError], None] | None]
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


@dataclass
class Holder:
    """A key in use, with its requests of the last minute as this server saw them."""

    key: ApiKey
    recent: deque[float] = field(default_factory=deque)

    def count(self) -> None:
        """Take one request in. Raises ApiError 429 above the key's requests a minute."""
        if self.key.rpm is None:
            return
        now = time.monotonic()
        while self.recent and self.recent[0] <= now - _WINDOW_S:
            self.recent.popleft()
        if len(self.recent) >= self.key.rpm:
            wait = self.recent[0] + _WINDOW_S - now
            message = f"the key {self.key.name!r} may send {self.key.rpm} requests a minute. Try again in {wait:.0f} s."
            raise ApiError(429, message, code="rate_limit_exceeded", kind="rate_limit_error", retry_after=wait)
        self.recent.append(now)


class Gate:
    """The keys of a ledger. While none was ever made, whoever reaches the server may ask; the server then listens on loopback alone.

    ``follow`` looks once a second whether keys were made or revoked, so the event loop itself reads no ledger.
    """

    def __init__(self, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._ledger, self._say = ledger, say
        self._holders: dict[str, Holder] = {}
        self.guarded = False
        self.problem = ""
        self._take(listed(ledger))

    def _take(self, keys: Sequence[ApiKey]) -> None:
        before = self._holders
        self._holders = {key.sha256: self._held(before.get(key.sha256), key) for key in keys if key.revoked is None}
        self.guarded = self.guarded or bool(keys)

    def _held(self, before: Holder | None, key: ApiKey) -> Holder:
        return Holder(key, before.recent) if before else Holder(key)

    async def follow(self) -> None:
        """Keep up with the ledger until cancelled; what is known stands while the ledger cannot be read."""
        while True:
            await asyncio.sleep(_REFRESH_S)
            try:
                self._take(await asyncio.to_thread(listed, self._ledger))
            except StoreError as error:
                if not self.problem:
                    self._say(f"keys cannot be looked up, so none that was revoked since is known: {error}")
                self.problem = str(error)
                continue
            if self.problem:
                self._say("keys can be looked up again")
            self.problem = ""

    async def admit(self, headers: Headers) -> Holder | None:
        """The key that a request came with, which it counts against; None while there are none. Raises ApiError 401, 403 or 429."""
        holder = await self.known(headers)
        if holder is not None:
            holder.count()
        return holder

    async def known(self, headers: Headers) -> Holder | None:
        """The same, not counted yet. Raises ApiError 401 or 403."""
        if self.guarded:
            return await self.holder(headers)
        _check_host(headers)
        return None

    async def holder(self, headers: Headers) -> Holder:
        """The key that a request came with, not counted against its rate. Raises ApiError 401."""
        scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not secret.strip():
            raise ApiError(401, "no API key came with the request: Authorization: Bearer KEY.", code="missing_api_key")
        mark = hashed(secret.strip().decode("latin-1"))
        found = self._holders.get(mark)
        if found is None:  # it may have been made a moment ago
            key = await asyncio.to_thread(with_hash, self._ledger, mark)
            if key is None:
                raise ApiError(401, "this API key is not known here, or was revoked.", code="invalid_api_key")
            found = self._holders.setdefault(mark, Holder(key))
        return found


def _check_host(headers: Headers) -> None:
    # A page in a browser can reach loopback: by a name of its own that leads here (DNS rebinding), or with a form or a plain-text
    # body, which need no leave of ours. JSON from another origin would ask for leave first, and gets none.
    if not is_own_name(headers):
        message = (
            f"without keys this server answers to this machine's own name alone, not to {_host(headers)!r:.100}. "
            "Type: llmops-lab keys create NAME"
        )
        raise ApiError(403, message, code="no_keys")
    if b"origin" in headers and headers.get(b"content-type", b"application/json").split(b";")[0].strip() != b"application/json":
        raise ApiError(415, "send application/json.", code="unsupported_media_type")


def is_own_name(headers: Headers) -> bool:
    """Whether a request calls this machine by a name that only leads to itself."""
    return _host(headers) in _LOCAL_HOSTS


def _host(headers: Headers) -> str:
    said = headers.get(b"host", b"").decode("latin-1")
    return said[: said.rindex(":")] if ":" in said and not said.endswith("]") else said


class Books:
    """Holds and settlements of budgets, in one thread that commits what has queued together. Until ``close`` has returned, all is kept."""

    def __init__(self, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._ledger, self._say = ledger, say
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="llmops_lab-books", daemon=True)
        self._thread.start()

    async def hold(self, entry: Entry) -> bool:
        """Whether the budget has room; committed when it returns. Raises ApiError 503 where the ledger cannot be written."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool | StoreError] = loop.create_future()

        def tell(outcome: bool | StoreError) -> None:
            loop.call_soon_threadsafe(lambda: None if answer.done() else answer.set_result(outcome))

        self._queue.put((entry, tell))
        try:
            outcome = await answer
        except asyncio.CancelledError:
            self.settle(Entry("settle", entry.api_key, entry.name, 0.0))  # nothing was sent
            raise
        if isinstance(outcome, StoreError):
            raise ApiError(503, f"the budget cannot be checked now: {outcome}", code="ledger_unavailable", kind="api_error")
        return outcome

    def settle(self, entry: Entry) -> None:
        """Book what a call cost, soon."""
        self._queue.put((entry, None))

    def close(self) -> None:
        """Commit what waits."""
        self._queue.put(None)
        self._thread.join(10)

    def _work(self) -> None:
        waiting: list[_Item] = []
        closing = False
        while not (closing and not waiting):
            if not waiting:
                first = self._queue.get()
                closing = closing or first is None
                waiting += [first] if first else []
            while not self._queue.empty():
                item = self._queue.get()
                closing = closing or item is None
                waiting += [item] if item else []
            waiting = self._commit(waiting)
            if waiting and closing:
                return  # the ledger cannot be written: what was held counts as spent when the next server starts
            if waiting:
                time.sleep(_RETRY_S)

    def _commit(self, items: list[_Item]) -> list[_Item]:
        """Book them; gives back the settlements that have to wait for the ledger."""
        if not items:
            return []
        try:
            outcomes = book(self._ledger, [entry for entry, _ in items])
        except StoreError as error:
            self._say(f"budgets cannot be booked: {error}")
            for _, tell in items:
                if tell is not None:
                    tell(error)
            return [item for item in items if item[1] is None]
        for (_, tell), outcome in zip(items, outcomes, strict=True):
            if tell is not None:
                tell(outcome)
        return []
