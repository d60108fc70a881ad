"""Which folder below the server's root a request means, and which queue of the project there."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.errors import BadInput, UnknownName


def folder_below(root: str, project: str) -> Path:
    """The folder that ``project``, relative and with slashes, names below the server's root.

    Raises BadInput when it would lead out of the root, through ``..``, an absolute path or a link; UnknownName when it is not there.
    """
    path, base = PurePosixPath(project), Path(root).resolve()
    if path.is_absolute() or ".." in path.parts:
        raise BadInput(f"the project {project!r} leads out of the server's root. Name a folder as the file browser does: ?project=a/b.")
    folder = base
    for part in path.parts:
        folder = folder / part
        if folder.is_symlink():
            raise BadInput(f"the project {project!r} leads through a link, which may point anywhere. Name the folder itself.")
    if not folder.resolve().is_relative_to(base):  # what another system takes for a way out: a drive, a backslash
        raise BadInput(f"the project {project!r} leads out of the server's root. Name a folder as the file browser does: ?project=a/b.")
    if not folder.is_dir():
        raise BadInput(f"there is no folder {project!r} below the server's root. Name the queue's project: ?project=a/b.")
    return folder


def rating_view(queue: str) -> Any:
    """The rating view of a queue of the project whose settings are in force. Raises UnknownName or StoreError."""
    from llmops_lab.api.queue import queue as open_queue
    from llmops_lab.api.views.rating import Rating

    found = _settings.load()
    if not found.ledger and not (_settings.home_path(found) / "lab.db").is_file():
        # Opening it would make one, in whatever folder somebody names.
        raise UnknownName("rating queue", queue, [], "There is no ledger here. Name the queue's project, as in ?project=a/b.")
    return Rating(open_queue(queue))
