"""What a handle shows, in one HTML file to be read: without a kernel, a server or a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_lab.flows.export_page import export_page

if TYPE_CHECKING:
    from llmops_lab.flows.rate_item import OpenQueue

ENDINGS = (".html", ".htm")


def is_page(path: str | Path) -> bool:
    """Whether the file's ending asks for a page."""
    return Path(path).suffix.lower() in ENDINGS


def export_grid(view: Any, path: str | Path) -> Path:
    """Write a grid, by its view, as a page that sorts and filters by itself. Raises BadInput, also for one that is too large for a page."""
    answers, buffers = view.recorded()
    return export_page(path, view="grid", title=answers["open"]["data"]["name"], answers=answers, buffers=buffers, twin=view.page()[1])


def export_diff(view: Any, path: str | Path) -> Path:
    """Write variants side by side, by their view, as a page. Raises BadInput."""
    answers = {name: {"data": answer.data} for name, answer in view.recorded().items()}
    names = [str(each["name"]) for each in answers["open"]["data"]["variants"]]
    return export_page(path, view="diff", title=" | ".join(names), answers=answers, buffers=(), twin=view.page()[1])


def export_queue(opened: OpenQueue, path: str | Path, twin: Callable[[], tuple[str, str]]) -> Path:
    """Write a rating queue as a page; while it is open without names and without ratings. Raises BadInput."""
    from llmops_lab.flows.queue_page import readable_queue

    held: dict[str, Any] = readable_queue(opened)
    shown = twin()[1] if held["closed"] else ""  # the twin tells who has rated how much
    return export_page(path, view="queue", title=held["name"], answers={"open": {"data": held}}, buffers=(), twin=shown)
