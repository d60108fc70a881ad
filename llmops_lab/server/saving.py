"""A notebook is saved without the live half of our views: what reopens it, trusted or not, shows the readable table in the same output.

A view's output holds a live widget, whose model lives in the kernel and nowhere else, and its static twin. JupyterLab prefers the widget,
and shows "model not found" in its place once the kernel has gone; without the widget it shows the twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"
OURS = "llmops_lab"


def readable_views(model: dict[str, Any], **_: Any) -> None:
    """Take the widget out of every output that is marked as a view of ours and has a twin; a contents manager's ``pre_save_hook``.

    Changes ``model`` in place. Whatever does not look as expected is left as it is: a save never fails because of us.
    """
    if model.get("type") != "notebook":
        return
    for output in _outputs(model.get("content")):
        data, metadata = output.get("data"), output.get("metadata")
        if isinstance(data, dict) and isinstance(metadata, dict) and _is_view(metadata) and "text/html" in data:
            data.pop(WIDGET, None)


def _is_view(metadata: dict[str, Any]) -> bool:
    mark = metadata.get(OURS)
    return isinstance(mark, dict) and "view" in mark


def _outputs(content: Any) -> Iterator[dict[str, Any]]:
    cells = content.get("cells") if isinstance(content, dict) else None
    for cell in cells if isinstance(cells, list) else ():
        outputs = cell.get("outputs") if isinstance(cell, dict) else None
        yield from (output for output in outputs if isinstance(output, dict)) if isinstance(outputs, list) else ()
