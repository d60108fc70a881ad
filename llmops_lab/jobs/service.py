"""The service of a project: one process that starts jobs, alone by a file lock, woken through a socket, gone when nothing is left to do."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmops_lab.jobs.process import readable

_IDLE_TICK = 10.0  # seconds after which a service that has nothing to do notices that its home was deleted
TICK = 1.0
"""Seconds between two looks at the queue while anything waits or runs; the end of a job, or a knock, is noticed at once."""
_LONGEST_ADDRESS = 100  # of a socket in the file system; Linux takes 107 characters, macOS 103
_PATIENCE = 5.0
_LOG_BYTES = 1_000_000


@dataclass(frozen=True)
class Place:
    """Where the service of a ledger has its lock, its socket and its log."""

    home: Path
    ledger: str = ""
    """The address of a ledger that does not lie in the home."""

    @property
    def lock(self) -> Path:
        """The file that the service keeps locked."""
        return self._file("lock")

    @property
    def log(self) -> Path:
        """What the service, and processes that it started, had to say."""
        return self._file("log")

    @property
    def socket(self) -> str:
        """Its address; a path that is short enough."""
        path = str(self._file("sock"))
        if len(path) <= _LONGEST_ADDRESS:
            return path
        return str(Path(tempfile.gettempdir()) / f"llmops_lab-{os.getuid()}-{_digest(path)}.sock")

    def _file(self, ending: str) -> Path:
        return self.home / f"service{'-' + _digest(self.ledger) if self.ledger else ''}.{ending}"


@dataclass
class Door:
    """The service's side: the lock that it holds, and the socket at which others knock."""

    place: Place
    listening: socket.socket
    lock: int
    """The open, locked file."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    is_outdated: Callable[[], bool] = lambda: False
    """Whether who knocks had better find another service; this one then ends without an answer."""
    is_closed: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether the lock still lies where others look for it: a home that was deleted, and perhaps made anew, is not this service's."""
        try:
            return os.path.samestat(os.fstat(self.lock), os.stat(self.place.lock))
        except OSError:
            return False

    def wait(self, seconds: float, pids: Iterable[int] = (), files: Iterable[int] = ()) -> None:
        """Until somebody has knocked, one of these processes has ended, one of these files can be read, or the time is over."""
        watched: list[int] = [file for file in map(_watched, pids) if file is not None]
        try:
            ready = readable([self.listening.fileno(), *watched, *files], seconds)
        finally:
            for file in watched:
                os.close(file)
        if self.listening.fileno() in ready:
            self._answer()

    def _answer(self) -> None:
        if self.is_outdated():
            self.is_closed = True
            return
        with contextlib.suppress(OSError, ValueError):
            other, _ = self.listening.accept()
            with other:
                other.settimeout(_PATIENCE)
                said = json.loads(_all(other))
                if isinstance(said, dict):
                    self.messages.append(said)
                    other.sendall(b"heard")


@contextlib.contextmanager
def alone(place: Place) -> Iterator[Door | None]:
    """Be the service; None where another one is."""
    file = os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _locked(file):
            yield None
            return
        address = place.socket
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)  # a killed service leaves it
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            os.chmod(address, 0o600)
            listening.listen(64)
            door = Door(place, listening, file)
            try:
                yield door
            finally:
                if door.is_ours:
                    with contextlib.suppress(OSError):
                        os.unlink(address)
    finally:
        os.close(file)


@dataclass(frozen=True, slots=True)
class Busy:
    """What there is to wait for: processes that may end, files that may be read."""

    pids: Sequence[int] = ()
    files: Sequence[int] = ()


def keep(door: Door, turn: Callable[[list[dict[str, Any]]], Busy | None], idle: Callable[[], float]) -> None:
    """Take turns until there was nothing to do for so many seconds, or the home is gone.

    ``turn`` gets what was said at the door, and gives what to wait for, or None when nothing waits and nothing runs.
    """
    since = time.monotonic()
    while door.is_ours:
        messages, door.messages = door.messages, []
        busy = turn(messages)
        if busy is not None or messages:
            since = time.monotonic()
        left = since + idle() - time.monotonic()
        if left <= 0 or door.is_closed:
            return
        if busy is None:
            door.wait(min(left, _IDLE_TICK))
        else:
            door.wait(TICK, busy.pids, busy.files)


def knock(place: Place, message: Mapping[str, Any]) -> bool:
    """Tell the service something; whether it has heard. What it has heard it looks at before it ends."""
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_PATIENCE)
            line.connect(place.socket)
            line.sendall(json.dumps(message).encode())
            line.shutdown(socket.SHUT_WR)
            return _all(line) == b"heard"
    except OSError:
        return False


def is_there(place: Place) -> bool:
    """Whether a service has the lock."""
    try:
        file = os.open(place.lock, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _locked(file, tries=1)
    finally:
        os.close(file)


def spawn(place: Place, command: Sequence[str], environment: Mapping[str, str], cwd: str) -> subprocess.Popen[bytes]:
    """Start a service that outlives this process."""
    with contextlib.suppress(OSError):
        if place.log.stat().st_size > _LOG_BYTES:
            os.truncate(place.log, 0)
    with open(place.log, "ab") as log:
        return subprocess.Popen(  # noqa: S603
            list(command), env=dict(environment), cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _locked(file: int, tries: int = 20) -> bool:
    for number in range(tries):  # who only looks whether there is a service has the lock for a moment
        if number:
            time.sleep(0.05)
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def _watched(pid: int) -> int | None:
    """A file that can be read when the process has ended; None where there is no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _all(line: socket.socket) -> bytes:
    parts = []
    while part := line.recv(65536):
        parts.append(part)
    return b"".join(parts)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
