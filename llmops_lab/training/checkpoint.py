"""Checkpoints that are whole: a sealed one names the size of each of its files; one cut off in the writing is passed over."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from llmops_lab.errors import BadInput

_SEAL = "sealed.json"


def seal(folder: Path) -> None:
    """Mark a checkpoint as whole, once all its files are on disk."""
    sizes = {}
    for path in sorted(each for each in folder.iterdir() if each.is_file() and each.name != _SEAL):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        sizes[path.name] = path.stat().st_size
    new = folder / f"{_SEAL}.new"
    new.write_text(json.dumps(sizes))
    new.replace(folder / _SEAL)


def newest(work: Path) -> Path | None:
    """The newest whole checkpoint in a folder; None where there is none."""
    folders = sorted(work.glob("checkpoint-*"), key=step_of, reverse=True) if work.is_dir() else []
    return next((folder for folder in folders if _whole(folder)), None)


def step_of(folder: Path) -> int:
    """After how many steps a checkpoint was written."""
    return int(folder.name.rpartition("-")[2])


def _whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _SEAL).read_text())
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def alone(work: Path) -> Iterator[None]:
    """Hold the folder of checkpoints. Raises BadInput when another process trains the very same at this moment."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(f"the very same tuning is running in another process ({work}). Wait for it, or give another seed.") from error
        yield
