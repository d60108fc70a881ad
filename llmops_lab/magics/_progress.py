"""The bar of a running grid in a notebook: one output, drawn anew in its place, left as one line when the grid has ended."""

from __future__ import annotations

import html
import time
import uuid

from llmops_lab.api.progress import SECONDS_BETWEEN, final_text, live_text, share
from llmops_lab.api.shown import is_live
from llmops_lab.grids.run import Progress
from llmops_lab.magics import _show


class Bar:
    """Draws while a person watches; a batch run (papermill, nbval) gets the last line alone, as one output."""

    def __init__(self) -> None:
        from IPython import get_ipython

        self._handle = uuid.uuid4().hex if is_live(get_ipython()) else ""
        self._begun, self._drawn = False, 0.0

    def show(self, progress: Progress) -> None:
        """Draw the bar where the last one stood."""
        now = time.monotonic()
        if self._handle and now - self._drawn >= SECONDS_BETWEEN:
            self._drawn = now
            text = live_text(progress)
            bar = f'<progress max="1" value="{share(progress):.4f}"></progress>'
            self._put({"text/plain": text, "text/html": f"<div>{bar} {html.escape(text.partition(']')[2].strip())}</div>"})

    def close(self, progress: Progress) -> None:
        """Leave one line."""
        self._put(_show.said(final_text(progress)))

    def _put(self, bundle: _show.Bundle) -> None:
        _show.show(bundle, handle=self._handle, update=self._begun)
        self._begun = bool(self._handle)
