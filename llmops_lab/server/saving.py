"""A notebook is saved without the live half of our views: what reopens it, trusted or not, shows the readable table in the same output.

A view's output holds a live widget, whose model lives in the kernel and nowhere else, and its static twin. JupyterLab prefers the widget,
and shows "model not found" in its place once the kernel has gone; without the widget it shows the twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


def readable_views(model: dict[str, Any], **_: Any) -> None:
    """Take the widget out of every output that is marked as a view of ours and has a twin; a contents manager's ``pre_save_hook``.

    Changes ``model`` in place. What does not look as expected is left as it is, and other people's widgets are.
    """
    content = model.get("content") if model.get("type") == "notebook" else None
    if not isinstance(content, dict):
        return
    gone = {_model_id(output["data"].pop(WIDGET)) for output in _outputs(content) if _is_our_view(output)}
    state = _at(content, "metadata", "widgets", STATE, "state")
    kept = {_model_id(output["data"].get(WIDGET)) for output in _outputs(content)}
    for name in gone - kept:
        state.pop(name, None)  # each holds the whole script once more


def _is_our_view(output: dict[str, Any]) -> bool:
    mark = _at(output, "metadata", "llmops_lab").get("view")
    return isinstance(mark, str) and {WIDGET, "text/html"} <= set(output["data"])


def _outputs(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for cell in _list(content, "cells"):
        yield from (output for output in _list(cell, "outputs") if isinstance(output, dict) and isinstance(output.get("data"), dict))


def _list(holder: Any, name: str) -> list[Any]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, list) else []


def _at(holder: Any, *names: str) -> dict[str, Any]:
    for name in names:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return holder if isinstance(holder, dict) else {}


def _model_id(view: Any) -> str:
    return str(view.get("model_id", "")) if isinstance(view, dict) else ""
