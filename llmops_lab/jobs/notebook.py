"""The notebook of a job on disk: valid at every moment, each cell marked with what became of it (papermill's marks, kept true).

``pending``: did not run. ``running``: runs. ``completed``: ran to its end. ``failed``: began and did not end well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.jobs.record import now, write_whole
from llmops_lab.jobs.teller import Room
from llmops_lab.redact import Redactor

PENDING, RUNNING, COMPLETED, FAILED = "pending", "running", "completed", "failed"
SKIPPED = "skip-execution"


def read(path: Path) -> Any:
    """A notebook in the form of version 4. Raises BadInput when it is none."""
    import nbformat
    from nbformat.v4.rwbase import rejoin_lines, strip_transient

    try:
        body = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(f"the notebook {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BadInput(f"{path} is no notebook: it is not JSON ({error}).") from error
    if not isinstance(body, dict) or not ("cells" in body or "worksheets" in body):
        raise BadInput(f"{path} is no notebook: it has no cells.")
    try:
        node = nbformat.from_dict(body)
        if node.get("nbformat") != 4:
            return nbformat.convert(node, 4)
        # As nbformat's reader does, without its check against a schema, which costs as much as the rest of a small job.
        return rejoin_lines(strip_transient(node))
    except Exception as error:  # nbformat raises KeyError, AttributeError and its own for what is no notebook
        raise BadInput(f"{path} is no notebook that can be read: {type(error).__name__}: {error}.") from error


def with_parameters(nb: Any, made: dict[str, Any]) -> Any:
    """The notebook with the cells that ``parameters.inject`` gave it."""
    nb["cells"] = [_node(cell) for cell in made["cells"]]
    return nb


def plain(nb: Any) -> Any:
    """A notebook that papermill has read, without the marks that it sets in place of an error."""
    nb.cells = [cell for cell in nb.cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    return nb


def runs(cell: Any) -> bool:
    """Whether a cell is one that the kernel gets."""
    return cell.cell_type == "code" and bool("".join(cell.source).strip()) and SKIPPED not in cell.metadata.get("tags", [])


def to_text(nb: Any) -> str:
    """As a file holds it."""
    from nbformat.v4.nbjson import JSONWriter

    text: str = JSONWriter().writes(nb)
    return text + "\n"


def digest_of(path: Path) -> str | None:
    """SHA-256 of a file; None when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


class Page:
    """The notebook while it runs; ``save`` puts what is known now on disk, masked, in one step. ``before`` may forbid that by raising."""

    def __init__(self, nb: Any, path: Path | None, room: Room | None = None, before: Callable[[], object] = lambda: None) -> None:
        self.nb, self.path, self._room, self._before = nb, path, room, before
        self.is_dirty = False
        self._redact = Redactor()

    def begin(self, about: dict[str, Any]) -> None:
        """Forget all outputs and marks of an earlier run, and mark every cell as pending."""
        mark = {"exception": None, "start_time": None, "end_time": None, "duration": None, "status": PENDING}
        for cell in self.nb.cells:
            cell.metadata["papermill"] = _node(dict(mark))
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        whole = self.nb.metadata.setdefault("papermill", _node({}))
        whole.update({"start_time": now(), "end_time": None, "duration": None, "exception": None})
        self.nb.metadata.pop("widgets", None)
        self.describe(about)
        self.save()

    def describe(self, about: dict[str, Any]) -> None:
        """Say in the notebook's own metadata what job it belongs to and how that stands."""
        self.nb.metadata["llmops_lab"] = _node({"job": self._redact.tree(about)})

    def mark(self, index: int, status: str) -> None:
        """Say of a cell what has become of it."""
        mark = self.nb.cells[index].metadata["papermill"]
        if status == RUNNING:
            mark["start_time"] = now()
        else:
            mark["end_time"] = now()
            mark["duration"] = _seconds(mark["start_time"], mark["end_time"])
        mark["status"] = status
        mark["exception"] = status == FAILED
        self.is_dirty = True

    def explain(self, index: int, error: dict[str, Any]) -> None:
        """Put an error into a cell that could not say so itself, because its kernel was gone or stopped."""
        output = {"output_type": "error", "ename": error["type"], "evalue": error["message"]}
        self.nb.cells[index].outputs.append(_node({**output, "traceback": [f"{error['type']}: {error['message']}"]}))
        self.is_dirty = True

    def end(self, about: dict[str, Any], *, went_well: bool) -> None:
        """The last word."""
        whole = self.nb.metadata["papermill"]
        whole.update({"end_time": now(), "exception": not went_well})
        whole["duration"] = _seconds(whole["start_time"], whole["end_time"])
        self.describe(about)
        self.save()

    def save(self) -> None:
        """Write it. Raises StoreError, and what lay there stays."""
        self._before()
        self.is_dirty = False
        if self.path is None:
            return
        for cell in self.nb.cells:
            if cell.cell_type == "code" and cell.outputs:
                cell.outputs = [_node(self._redact.tree(dict(each))) for each in cell.outputs]
        text = to_text(self.nb)
        if self._room is not None:
            self._room.keep(len(text.encode("utf-8", "backslashreplace")))
        write_whole(self.path, text)


def close(path: Path, about: dict[str, Any], error: dict[str, Any]) -> None:
    """Mark the notebook of a job whose process is gone: what ran then has failed. Raises BadInput or StoreError."""
    nb = read(path)
    page = Page(nb, path)
    for index, cell in enumerate(nb.cells):
        if cell.metadata.get("papermill", {}).get("status") == RUNNING:
            page.mark(index, FAILED)
            if cell.cell_type == "code":
                page.explain(index, error)
    nb.metadata.setdefault("papermill", _node({"start_time": None}))
    page.end(about, went_well=False)


def _node(value: dict[str, Any]) -> Any:
    from nbformat import from_dict

    return from_dict(value)


def _seconds(start: str | None, end: str) -> float | None:
    from datetime import datetime

    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() if start else None
