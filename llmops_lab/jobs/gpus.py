"""GPUs are leased: a file lock each, machine-wide, that ends with the last process that holds it.

The lock is kept by whoever runs the job and by its kernel (an open file that the kernel inherits): a GPU is free again when both are
gone, however they went.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmops_lab.errors import BadInput, Cancelled
from llmops_lab.settings import Settings

_SECONDS_BETWEEN = 0.5
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_adopted: list[Held] = []


@dataclass(frozen=True, slots=True)
class Held:
    """GPUs that are held: their names as CUDA_VISIBLE_DEVICES takes them, and the open files that lock them."""

    devices: tuple[str, ...] = ()
    files: tuple[int, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """What a kernel's environment needs to see these GPUs and no others; nothing for a job that asked for none."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.devices)} if self.devices else {}

    def release(self) -> None:
        """Close the files; a GPU is free when no other process has them."""
        for file in self.files:
            with contextlib.suppress(OSError):
                os.close(file)


def devices(settings: Settings) -> tuple[str, ...]:
    """The GPUs that jobs may have: those of the setting ``gpus``, else of CUDA_VISIBLE_DEVICES, else what nvidia-smi counts."""
    declared = settings.gpus.strip() or os.environ.get("CUDA_VISIBLE_DEVICES")
    if declared is None:
        return _counted()
    names = () if declared.lower() in ("", "none", "-1") else tuple(part.strip() for part in declared.split(","))
    if "" in names or len(set(names)) != len(names):
        raise BadInput(f"gpus must be a list such as '0,1', each named once, or 'none'; it is {declared!r}.")
    return names


def check(count: int, settings: Settings) -> None:
    """Raises BadInput for a number that is none, or for more GPUs than there are."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise BadInput(f"gpus is a whole number of GPUs, 0 or more, not {count!r}.")
    there = devices(settings) if count else ()
    if count > len(there):
        have = f"there are {len(there)} ({', '.join(there)})" if there else "there is none"
        wanted = f"the job asks for {count} GPU{'s' if count > 1 else ''}"
        raise BadInput(f"{wanted}, and {have}. The setting gpus (LLMOPS_LAB_GPUS) names those that jobs may have.")


def take(count: int, settings: Settings) -> Held | None:
    """So many free GPUs, locked; None when fewer are free. Nobody is left holding a part. Raises BadInput."""
    check(count, settings)
    names, files = [], []
    for name in devices(settings) if count else ():
        file = _locked(name)
        if file is not None:
            names.append(name)
            files.append(file)
        if len(names) == count:
            return Held(tuple(names), tuple(files))
    held = Held(tuple(names), tuple(files))
    if count:
        held.release()
        return None
    return held


def adopt(held: Held) -> None:
    """What another process took and handed over: the next ``lease`` in this process is that."""
    _adopted.append(held)


@contextlib.contextmanager
def lease(count: int, settings: Settings, stopped: Callable[[], bool] | None = None) -> Iterator[Held]:
    """Hold so many GPUs; waits until they are free. Raises BadInput when there are too few, Cancelled once ``stopped`` says so."""
    held = _adopted.pop() if _adopted else _waited(count, settings, stopped)
    try:
        yield held
    finally:
        held.release()


def _waited(count: int, settings: Settings, stopped: Callable[[], bool] | None) -> Held:
    while (held := take(count, settings)) is None:
        if stopped is not None and stopped():
            raise Cancelled("the job was cancelled while it waited for a GPU.")
        time.sleep(_SECONDS_BETWEEN)
    return held


def _locked(name: str) -> int | None:
    """The open, locked file of a GPU; None when another has it."""
    path = _place() / f"{_UNSAFE.sub('_', name)}.lock"
    file = _opened(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _opened(path: Path) -> int:
    # Without O_CREAT first: in a folder that all may write to, Linux lets nobody "create" a file that is another user's.
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with contextlib.suppress(OSError):
            os.chmod(path, 0o666)  # noqa: S103 - a lock for all users of the machine; the umask took that away
        return file
    except OSError as error:
        raise BadInput(f"the lock of a GPU, {path}, cannot be opened: {error.strerror}.") from error


def _place() -> Path:
    """One folder for all projects and users of the machine."""
    folder = Path(tempfile.gettempdir()) / "llmops_lab-gpus"
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o1777)  # noqa: S103 - as /tmp itself
    return folder


def _counted() -> tuple[str, ...]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    words = [command, "--query-gpu=index", "--format=csv,noheader"]
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    return _numbers(told.stdout.splitlines())


def _numbers(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(line.strip() for line in lines if line.strip().isdigit())
