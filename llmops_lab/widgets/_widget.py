"""A view as a widget: custom messages in, answers and events out. Nothing of the data is kept in the widget's synced state.

Wire: ``{"id", "method", "params"}`` in; ``{"id", "ok": true, "data", "threaded"}`` and buffers, or ``{"id", "ok": false, "error":
{"type", "message"}, "threaded"}``, out; live events are ``{"event": {...}}``. A call may come in several copies; one is answered.
"""

from __future__ import annotations

import functools
import getpass
import importlib
import threading
from collections.abc import Callable
from typing import Any

import anywidget

from llmops_lab.api.views._view import Answer, View
from llmops_lab.errors import BadInput, LabError
from llmops_lab.redact import redact
from llmops_lab.widgets import STATIC

_REMEMBERED = 10_000  # calls by number, of one widget: a copy waits no longer than a cell runs


def widget_for(view: View) -> ViewWidget:
    """A live widget of this view."""
    return _kind(view.name)(view)


class ViewWidget(anywidget.AnyWidget):
    """Carries the calls of a view's browser side to the view."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None
        self._taken: dict[int, None] = {}
        # A view answers beside the cells. Were it the first to load pandas, a cell that draws with plotly meanwhile would fail: plotly
        # takes it from the loaded modules though it is loaded in part only. So it is loaded here, before the next cell begins.
        importlib.import_module("pandas")
        super().__init__()
        # JupyterLab sends a widget's messages to a subshell, so that they are served beside a busy cell. ipykernel 7.4 sends them to the
        # thread instead that sent last: the cell's, which is busy. Without this hook it leaves them where JupyterLab sent them.
        self.comm._reply_subshell_for = None
        self.on_msg(_received)

    def listen(self) -> None:
        """Pass the view's live events on; asked again, does nothing."""
        with self._lock:
            if self._stop is None:
                self._stop = self._view.listen(lambda event: self.send({"event": event}))

    def answer(self, asked: Any) -> None:
        """Serve one message. Whatever happens, there is an answer; to the copy of a call that came before there is none."""
        if self._known(asked):
            return
        told: dict[str, Any] = {"id": asked.get("id") if isinstance(asked, dict) else None}
        told["threaded"] = threading.current_thread() is not threading.main_thread()
        buffers: tuple[bytes, ...] = ()
        try:
            self.listen()
            answer = _call(self._view, asked)
            told |= {"ok": True, "data": answer.data}
            buffers = answer.buffers
        except LabError as error:
            told |= {"ok": False, "error": {"type": type(error).__name__, "message": str(error)}}
        except Exception as error:  # a fault of ours: said in the view, where somebody waits for an answer
            told |= {"ok": False, "error": {"type": type(error).__name__, "message": redact(f"{type(error).__name__}: {error}")}}
        self.send(told, buffers=list(buffers))

    def _known(self, asked: Any) -> bool:
        number = asked.get("id") if isinstance(asked, dict) else None
        if not isinstance(number, int):
            return False
        with self._lock:
            if number in self._taken:
                return True
            self._taken[number] = None
            if len(self._taken) > _REMEMBERED:
                del self._taken[next(iter(self._taken))]
        return False

    def close(self) -> None:
        """End the widget and its live events."""
        with self._lock:
            stop, self._stop = self._stop, None
        if stop is not None:
            stop()
        super().close()


def _received(widget: ViewWidget, content: Any, _buffers: Any) -> None:
    widget.answer(content)


def _call(view: View, asked: Any) -> Answer:
    if not isinstance(asked, dict) or not isinstance(asked.get("method"), str) or not isinstance(asked.get("params", {}), dict):
        raise BadInput('A call is {"id": ..., "method": "name", "params": {...}}.')
    return view.call(asked["method"], asked.get("params", {}), user=getpass.getuser())


@functools.cache
def _kind(name: str) -> type[ViewWidget]:
    """The widget's class for one bundle. A class each: in the page anywidget keeps one style sheet a class."""
    style = STATIC / f"{name}.css"
    texts = {"_esm": (STATIC / f"{name}.js").read_text("utf-8"), "_css": style.read_text("utf-8") if style.is_file() else ""}
    return type(f"{name.title()}Widget", (ViewWidget,), texts)
