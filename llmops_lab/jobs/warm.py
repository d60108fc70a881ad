"""Warm starts: a process that has all imports behind it, from which each job's runner, and the runner's kernel, are forked.

    service -- nursery (single-threaded, so that it may fork) -- runner of a job (session of its own) -- kernel (session of its own)

The runner forks its kernel before it does anything else. That kernel waits for its orders (arguments, folder, environment), becomes an
ipykernel, and is used once. It is the runner's child as any other kernel would be.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_lab.jobs import gpus, lean
from llmops_lab.jobs.process import readable

_HEAD = struct.Struct("!I")
_DEATHS = 3
_MODULES = (
    *lean.NEEDED,
    "ipykernel.kernelapp",
    "ipykernel.kernelspec",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
    "IPython.core.magics",
)
# Read once, by libraries as they are loaded: a kernel that is to have another value is started cold.
_READ_AT_LOAD = ("PYTHON", "LD_", "MALLOC_", "OMP_", "MKL_", "OPENBLAS_", "VIRTUAL_ENV")
_ONE_THREAD = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # else pyarrow, which mlflow loads, starts one
Run = Callable[[Path, Any], int]
"""Runs the job in a folder, with this class of kernel manager (None: the kernel's own); gives the exit code."""


class Nursery:
    """The service's end: ask for a runner. It is started again when it has ended, or when something that it imported has changed."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._has_greeted = False
        self._deaths = 0

    def ready(self) -> bool:
        """Whether it has its imports behind it; started, when it is not there. Raises OSError when it cannot be had."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._begin()
        if not self._has_greeted and self._line is not None and readable([self._line.fileno()], 0):
            try:
                _receive(self._line)
                self._has_greeted, self._deaths = True, 0
            except (OSError, ValueError):
                self._died()
        return self._has_greeted

    def files(self) -> list[int]:
        """What can be read once it is ready; nothing when it is."""
        return [] if self._has_greeted or self._line is None else [self._line.fileno()]

    def start(self, folder: Path, *, environment: Mapping[str, str], cwd: str, held: gpus.Held) -> int | None:
        """Fork a runner for the job in ``folder``; its process number, or None while there is no nursery yet. Raises OSError."""
        if not self.ready() or self._line is None:
            return None
        order = {"folder": str(folder), "environment": dict(environment), "cwd": cwd, "devices": held.devices}
        try:
            _send(self._line, order, held.files)
            answer, _ = _receive(self._line)
            return int(answer["pid"])
        except (OSError, ValueError, KeyError):  # it has gone, or is out of date
            self._died()
            self.ready()
            return None

    def _begin(self) -> None:
        self._line, theirs = socket.socketpair()
        with theirs:
            words, alone = [*self._command, str(theirs.fileno())], os.environ | _ONE_THREAD
            self._process = subprocess.Popen(words, env=alone, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)  # noqa: S603

    def _died(self) -> None:
        self.close()
        self._deaths += 1
        if self._deaths >= _DEATHS:
            self._deaths = 0
            raise OSError("the process that starts jobs has ended again and again")

    def close(self) -> None:
        """End it; runners live on."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        self._process = self._line = None
        self._has_greeted = False


def nurse(file: int, run: Run, modules: Sequence[str] = ()) -> None:
    """The nursery's life: import, then fork a runner for each order that comes, until the service is gone.

    Of ``modules`` the first is needed by every runner; the others are imported when nobody waits.
    """
    line = socket.socket(fileno=file)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bell = _ring_for_children()
    missing = list(modules)
    seen = _imported([*_MODULES, *missing[:1]])
    _send(line, {"ready": True}, ())
    while True:
        ready = readable([line.fileno(), bell.fileno()], 0 if missing[1:] else None)
        if bell.fileno() in ready:
            _bury(bell)
        if line.fileno() in ready:
            if not _serve(line, bell, run, seen):
                return
        elif missing[1:]:
            seen = _imported([missing.pop(1)])


def _imported(names: Sequence[str]) -> dict[str, float]:
    """Import these; the files of all that is imported, with when they were changed."""
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child would otherwise copy every page
    return files_of_imports()


def _serve(line: socket.socket, bell: socket.socket, run: Run, seen: Mapping[str, float]) -> bool:
    """Fork a runner for the order that has come; False when there is nobody to serve, or something that was imported has changed."""
    try:
        order, files = _receive(line)
    except (OSError, ValueError):
        return False
    if seen != files_of_imports(seen):
        return False  # a package was changed or updated: the next nursery imports what is there now
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        line.close()
        bell.close()
        _be_runner(order, files, run)
    for each in files:
        os.close(each)
    _send(line, {"pid": pid}, ())
    return True


def _ring_for_children() -> socket.socket:
    """What can be read when a child has ended."""
    bell, clapper = socket.socketpair()
    bell.setblocking(False)
    clapper.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(clapper.detach(), warn_on_full_buffer=False)
    return bell


def _bury(bell: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while bell.recv(4096):
            pass
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _be_runner(order: dict[str, Any], files: list[int], run: Run) -> None:
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before = dict(os.environ)
        seed = Seed()  # while there is one thread
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["cwd"] if Path(order["cwd"]).is_dir() else order["folder"])
        gpus.adopt(gpus.Held(tuple(order["devices"]), tuple(files)))
        code = run(Path(order["folder"]), _manager(seed, before))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    _leave(code)


def _leave(code: int) -> None:
    """End a forked process as an ordinary one ends; nothing of the nursery's own stack is run."""
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


class Seed:
    """A process that waits to become a kernel; as ``jupyter_client`` knows a kernel's process (a Popen) once it has."""

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._writing)
            _be_kernel(reading)
        os.close(reading)
        self.is_used = False

    def grow(self, argv: Sequence[str], cwd: str | None, environment: Mapping[str, str]) -> None:
        """Become the kernel that this command would start."""
        self.is_used = True
        orders = {"argv": list(argv), "cwd": cwd or os.getcwd(), "environment": dict(environment)}
        with open(self._writing, "w", encoding="utf-8") as line:
            json.dump(orders, line)

    def drop(self) -> None:
        """It is not needed."""
        if not self.is_used:
            self.is_used = True
            os.close(self._writing)
            self.wait()

    def poll(self) -> int | None:
        """Its exit status, or None while it lives."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has looked: how it ended is not known any more
                self.returncode = 255
                return self.returncode
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("kernel", timeout or 0.0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


def _be_kernel(reading: int) -> None:
    try:
        os.setsid()
        with open(reading, encoding="utf-8") as line:
            said = line.read()
        if not said:
            os._exit(0)  # not needed, or the runner has died
        orders = json.loads(said)
        os.environ.clear()
        os.environ.update(orders["environment"])
        os.chdir(orders["cwd"])
        random.seed()
        _see_the_folder()
        sys.argv = orders["argv"][2:]
        from ipykernel.kernelapp import IPKernelApp

        IPKernelApp.launch_instance(argv=[*orders["argv"][3:], f"--IPKernelApp.parent_handle={os.getppid()}"])
    except SystemExit as end:
        _leave(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BaseException:
        traceback.print_exc()
        _leave(1)
    _leave(0)


def _see_the_folder() -> None:
    """IPython does so itself, unless Python was told to keep the working folder out; here only the nursery was."""
    if "" not in sys.path and not os.environ.get("PYTHONSAFEPATH"):
        places = [number for number, place in enumerate(sys.path) if os.path.basename(place) in ("site-packages", "dist-packages")]
        sys.path.insert(places[0] if places else 0, "")


def _manager(seed: Seed, before: Mapping[str, str]) -> type[Any]:
    """A kernel manager's class whose first kernel is the seed where that is the same as starting it; all others start cold."""
    from jupyter_client import AsyncKernelManager
    from jupyter_client.provisioning.local_provisioner import LocalProvisioner

    class Forked(LocalProvisioner):  # type: ignore[misc]
        async def launch_kernel(self, cmd: list[str], **given: Any) -> Any:
            environment = given.get("env") or dict(os.environ)
            if seed.is_used or not _is_ours(cmd) or not _same(environment, before):
                seed.drop()
                return await super().launch_kernel(cmd, **given)
            environment = {**environment, "JPY_PARENT_PID": str(os.getpid())}
            seed.grow(cmd, given.get("cwd"), environment)
            self.process = seed
            self.pid = self.pgid = seed.pid
            self.cwd = given.get("cwd") or os.getcwd()
            return self.connection_info

    class Manager(AsyncKernelManager):  # type: ignore[misc]
        kernel_id: Any
        provisioner: Any

        async def _async_pre_start_kernel(self, **given: Any) -> Any:
            named = (self.kernel_spec.metadata or {}).get("kernel_provisioner") if self.kernel_spec else None
            if self.provisioner is None and not named:
                self.kernel_id = self.kernel_id or given.pop("kernel_id", None) or os.urandom(16).hex()
                self.provisioner = Forked(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
            return await super()._async_pre_start_kernel(**given)

    return Manager


def _is_ours(command: Sequence[str]) -> bool:
    """Whether this is the kernel of this very Python."""
    if len(command) < 4 or list(command[1:3]) != ["-m", "ipykernel_launcher"]:
        return False
    return os.path.abspath(command[0]) == os.path.abspath(sys.executable)


def _same(environment: Mapping[str, str], before: Mapping[str, str]) -> bool:
    def read(names: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in names.items() if name.startswith(_READ_AT_LOAD)}

    return read(environment) == read(before)


def files_of_imports(names: Mapping[str, float] | None = None) -> dict[str, float]:
    """File -> when it was changed, of all that is imported (or of these); 0 for one that is gone."""
    if names is None:
        found = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        names = dict.fromkeys((file for file in found if file), 0.0)
    return {file: _changed(file) for file in names}


def _changed(file: str) -> float:
    try:
        return os.stat(file).st_mtime
    except OSError:
        return 0.0


def _send(line: socket.socket, message: Mapping[str, Any], files: Sequence[int]) -> None:
    body = json.dumps(message).encode()
    socket.send_fds(line, [_HEAD.pack(len(body))], list(files))
    line.sendall(body)


def _receive(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    head, files, _, _ = socket.recv_fds(line, _HEAD.size, 64)
    read = functools.partial(_exactly, line)
    head += read(_HEAD.size - len(head))
    return json.loads(read(_HEAD.unpack(head)[0])), list(files)


def _exactly(line: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = line.recv(size - len(parts))
        if not part:
            raise OSError("the other side has gone")
        parts += part
    return parts
