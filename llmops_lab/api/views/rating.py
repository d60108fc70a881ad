"""The rating panel's Python side: what one rater may see and say, whoever carries the calls. It never tells who made a side."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

from llmops_lab.api.display import literal
from llmops_lab.api.views._view import Answer
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.escapes import inert
from llmops_lab.flows.rate_item import rater_of
from llmops_lab.store import reviews

_SAID = ("value", "comment", "seconds", "flag", "skip", "correction")
_KEYS = {
    "single": "1-9 a level",
    "pairwise": "A or B is better, E tie, N both bad, D differences",
    "ranking": "1-9 the next side, = a tie, Backspace takes one out, Enter saves, D differences",
}
_ALWAYS = "J next, K before, U undo, S skip, F flag, C comment, R correction, V how texts are shown, X long texts, G guide, ? keys"


class Rating:
    """The panel of a queue. ``rater`` is who rates through it, the owner in a notebook; without one it is the user of each call."""

    name = "rating"

    def __init__(self, queue: Any, *, rater: str | None = None) -> None:
        self._queue, self._rater = queue, rater
        self._methods: dict[str, Callable[[str, Mapping[str, Any]], dict[str, Any]]] = {
            "open": self._open,
            "next": self._next,
            "task": self._task,
            "items": self._items,
            "submit": self._submit,
            "undo": self._undo,
            "close": self._close,
            "help": self._help,
        }

    def call(self, method: str, params: Mapping[str, Any], *, user: str) -> Answer:
        """Answer one call. Raises BadInput, UnknownName, Conflict or StoreError; a rating that was answered with a row is on disk."""
        if method not in self._methods:
            raise UnknownName("method of the rating view", method, self._methods)
        return Answer(self._methods[method](rater_of(self._queue.opened, self._rater or user), params))

    def listen(self, push: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """There are no live events: what others rate is none of a rater's business."""
        return lambda: None

    def page(self) -> tuple[str, str]:
        """How far the queue is, and what to type for the panel."""
        plain, page = self._queue.page()
        line = f"To rate, type: {self._again}"
        return f"{plain}\n{line}", literal(f"{page}<p>To rate, type: <code>{html.escape(inert(self._again))}</code></p>")

    @property
    def _again(self) -> str:
        return f"lab.queue({self._queue.name!r}).show()"

    def _open(self, rater: str, params: Mapping[str, Any]) -> dict[str, Any]:
        queue, rubric = self._queue, self._queue.rubric
        opened = queue.opened
        return {
            **self._next(rater, params),
            "queue": opened.queue,
            "name": queue.name,
            "rater": rater,
            "mode": queue.mode,
            "question": rubric.question,
            "levels": [{"value": level, "text": text} for level, text in rubric.levels.items()],
            "guide": rubric.guide,
            "examples": [{"text": text, "value": level} for text, level in rubric.examples],
            "owner": self._rater is not None,
            "again": self._again,
            **self._items(rater, params),
        }

    def _next(self, rater: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return self._with_progress(rater, self._queue.next(rater, params.get("after")))

    def _task(self, rater: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return self._with_progress(rater, self._queue.task(rater, params.get("item", "")))

    def _with_progress(self, rater: str, task: dict[str, Any] | None) -> dict[str, Any]:
        return {"task": task, "progress": self._queue.progress(rater)}

    def _items(self, rater: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"items": self._queue.items(rater)}

    def _submit(self, rater: str, params: Mapping[str, Any]) -> dict[str, Any]:
        said = {name: params[name] for name in _SAID if name in params}
        return self._saved(rater, params, self._queue.submit(rater=rater, **self._which(params), **said))

    def _undo(self, rater: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return self._saved(rater, params, self._queue.undo(rater=rater, **self._which(params)))

    def _which(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"item": params.get("item", ""), "id": params.get("id"), "expects": params.get("expects")}

    def _saved(self, rater: str, params: Mapping[str, Any], row: int) -> dict[str, Any]:
        """After the commit: the row, and when it was stored, which for a rating sent twice is the first time."""
        opened = self._queue.opened
        rows = reviews.history(opened.ledger, opened.queue, item=params["item"], rater=rater)
        return {"row": row, "saved_at": next(found.saved_at for found in rows if found.seq == row)}

    def _close(self, rater: str, params: Mapping[str, Any]) -> dict[str, Any]:
        if self._rater is None:
            raise BadInput(f"only the owner closes a queue, in a notebook: lab.queue({self._queue.name!r}).close()")
        self._queue.close()
        return {"closed": True}

    def _help(self, rater: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"keys": f"{_KEYS[self._queue.mode]}; {_ALWAYS}"}
