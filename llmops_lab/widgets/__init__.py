"""The notebook's face of the views: one anywidget for any of them.

A view is shown live where somebody watches and the bundle is there; everywhere else its static twin is all there is, so that nothing but
text and HTML gets into a notebook that papermill or nbval has run.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmops_lab.api.display import note
from llmops_lab.api.shown import is_live
from llmops_lab.api.views._view import View

STATIC = Path(__file__).parent / "static"
"""Where the build of the front end puts its bundles."""

_TWIN = "As it stood when the cell ran. For the live view, run the cell again"


def bundle(view: View) -> tuple[dict[str, Any], dict[str, Any]]:
    """(data, metadata) of a view for the cell that runs."""
    plain, page = view.page()
    data: dict[str, Any] = {"text/plain": plain, "text/html": page}
    if not watched():
        return data, {}
    missing = _missing(view.name)
    if missing:
        return {"text/plain": f"{plain}\n{missing}", "text/html": page + note([missing])}, {}
    from llmops_lab.widgets._widget import widget_for

    made = widget_for(view)
    data["text/html"] = page + note([_TWIN])  # shown once the kernel has gone: the server saves an output without its widget
    data["application/vnd.jupyter.widget-view+json"] = {"version_major": 2, "version_minor": 0, "model_id": made.model_id}
    return data, {"llmops_lab": {"view": view.name}}


def watched() -> bool:
    """Whether a person sees this notebook, so that what is live can be shown."""
    from IPython import get_ipython

    return is_live(get_ipython()) and os.environ.get("LLMOPS_LAB_STATIC", "") != "1"


def _missing(name: str) -> str:
    """What keeps the live view from being shown, with what to type; "" where nothing does."""
    if find_spec("anywidget") is None:
        return "The static view: anywidget is not installed. For the live one, type: pip install 'llmops-lab[lab]' and restart the kernel"
    if not (STATIC / f"{name}.js").is_file():
        return "The static view: its bundle was not built, as node was not there. For the live one, install node and type: make front"
    return ""
