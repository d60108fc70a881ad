"""What is remembered of each request: a row in the ledger, a line for Prometheus, and for a share of them a trace in MLflow.

Nothing here waits on the event loop: rows go through the ledger's writer, traces through a thread of their own that takes what has
gathered. What was said stands in the traces alone, masked.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from llmops_lab.records import Message, Relayed, Reply, Request, Turn, Usage, canonical
from llmops_lab.serving.metrics import Call, Metrics
from llmops_lab.serving.release import Release
from llmops_lab.store._writer import Write
from llmops_lab.store.ledger import Ledger
from llmops_lab.store.served import request_row

_GATHER_S = 1.0
_ROWS_S = 0.2
"""Rows of requests wait so long for each other: a commit for each would cost more than the request."""
_MOST_WAITING = 1000
_FAILED_A_MINUTE = 20
_REMEMBERED = 4096


class Journal:
    """``share`` of the good requests are traced, and of the failed ones up to 20 a minute. ``trace`` writes a batch; it may be slow."""

    def __init__(
        self, ledger: Ledger, metrics: Metrics, *, share: float, trace: Callable[[list[dict[str, Any]]], None], say: Callable[[str], None]
    ) -> None:
        self._ledger, self._metrics, self._share, self._trace, self._say = ledger, metrics, share, trace, say
        self._failed: deque[float] = deque()
        self._rows: list[Write] = []
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._recent: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._thread = threading.Thread(target=self._work, name="llmops_lab-traces", daemon=True)
        self._thread.start()

    def add(self, call: Call, release: Release | None, request: Request | None) -> None:
        """A request has ended."""
        call.seconds = time.perf_counter() - call.began
        self._metrics.done(call)
        traced = release is not None and request is not None and self._is_sampled(call)
        facts = _facts(call, traced)
        self._recent[call.id] = {"api_key": call.key_id, "release": call.release, "traced": traced}
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        row = request_row(call.id, api_key=call.key_id, release=call.release, version=call.version, status=call.status, facts=facts)
        self._rows.append(row)
        if len(self._rows) == 1:  # the first since the last time: all that come until then go together
            asyncio.get_running_loop().call_later(_ROWS_S, self._flush)
        if release is not None and request is not None and traced:
            self._queue.put(_payload(call, release, request))

    def recent(self, ident: str) -> dict[str, Any] | None:
        """What is known of a request that ended a moment ago, whose row may still be on its way."""
        return self._recent.get(ident)

    def pass_on(self, payload: dict[str, Any]) -> None:
        """Something else that MLflow shall hear of, behind the traces that are on their way."""
        self._queue.put(payload)

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            self._ledger.put(rows, self._written)

    def close(self) -> None:
        """Hand over what waits."""
        self._flush()
        self._queue.put(None)
        self._thread.join(20)

    def _is_sampled(self, call: Call) -> bool:
        if call.status == "ok":
            sampled = random.random() < self._share  # noqa: S311 - a sample, not a secret
        else:
            while self._failed and self._failed[0] < call.began - 60:
                self._failed.popleft()
            sampled = len(self._failed) < _FAILED_A_MINUTE
            self._failed.extend([call.began] if sampled else [])
        return sampled and self._queue.qsize() < _MOST_WAITING

    def _written(self, error: Exception | None) -> None:
        if error is not None:
            self._say(f"requests cannot be recorded: {error}")

    def _work(self) -> None:
        going = True
        while going:
            first = self._queue.get()
            if first is not None:
                time.sleep(_GATHER_S if self._queue.empty() else 0)
            batch, going = ([first], True) if first is not None else ([], False)
            while not self._queue.empty():
                item = self._queue.get()
                going = going and item is not None
                batch += [item] if item is not None else []
            if batch:
                try:
                    self._trace(batch)
                except Exception as error:  # whatever MLflow or the ledger throws: requests go on
                    self._say(f"traces are not recorded: {type(error).__name__}: {error}")


def _facts(call: Call, traced: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {"seconds": round(call.seconds, 6), "cache": call.cache, "cost_usd": call.cost_usd, "traced": traced}
    if call.ttft_s is not None:
        facts["ttft_s"] = round(call.ttft_s, 6)
    return facts | _usage(call) | ({"guessed": True} if call.guessed else {})


def _usage(call: Call) -> dict[str, Any]:
    found = call.reply.usage if call.cache == "hit" and call.reply else call.usage
    return {} if found == Usage() else {"input_tokens": found.input_tokens, "output_tokens": found.output_tokens}


def _said(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content, **(message.more if isinstance(message, Turn) else {})}


def _text(reply: Reply | None) -> str | None:
    """What was answered: the text, and where there was more than one text, all of it as JSON."""
    if isinstance(reply, Relayed) and (len(reply.choices) > 1 or reply.tool_calls):
        return canonical([choice["message"] for choice in reply.choices])
    return reply.text if reply else None


def _payload(call: Call, release: Release, request: Request) -> dict[str, Any]:
    reply = call.reply
    return {
        "kind": "served",
        "id": call.id,
        "name": release.name,
        "started": call.at,
        "ended": call.at + call.seconds,
        "inputs": [_said(message) for message in request.messages],
        "params": {**request.params, **({"tools": request.tools} if request.tools else {})},
        "output": _text(reply),
        "finish_reason": reply.finish_reason if reply else None,
        "model": release.model,
        "usage": _usage(call),
        "cost_usd": call.cost_usd if reply and reply.cost_usd is not None else None,
        "ttft_s": call.ttft_s,
        "status": "ok" if call.status == "ok" else "failed",
        "error": "" if call.status == "ok" else call.status,
        "message": call.message,
        "release": {"name": release.name, "version": release.version, "digest": release.digest, **release.links},
        "key": call.key_name,
        "cache": call.cache,
    }
