"""One attempt at a notebook on a kernel: what ends it is decided in one place, and its processes are gone when it returns.

It ends by a wish to stop, by the time that is over, by an error of a cell, by a kernel that is gone, by a file that cannot be
written, or after the last cell. Each cell is executed by nbclient.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab.errors import UnknownName
from llmops_lab.jobs import notebook, outcome, process
from llmops_lab.jobs.client import client_class
from llmops_lab.jobs.outcome import Outcome

SAVE_SECONDS = 2.0
_GRACE = 3.0  # what an interrupted cell gets to end by itself, so that its last words are kept
_START_SECONDS = 120
_LAST_WORDS = 120  # seconds that the last outputs of a cell that has ended may take; what is still missing then is said in the notebook


@dataclass
class Plan:
    """What to run, and how."""

    job: str
    page: notebook.Page
    kernel: str | None
    cwd: Path
    environment: dict[str, str]
    timeout: float | None
    stop: process.Stop
    manager: tuple[Any, str | None] | None = None
    """What starts the kernel, as ``jobs.kernels.manager_for`` gives it."""
    earlier: frozenset[int] | None = None
    """The children that this process had before; None: not each of its later children is the job's."""


@dataclass
class Progress:
    """How far an attempt is; ``text`` is what came last, as (cell, stream, text)."""

    done: int = 0
    total: int = 0
    cell: int | None = None
    kernel: str | None = None
    kernel_pid: int | None = None
    result: Any = None
    text: tuple[int, str, str] | None = None


Told = Callable[[str, Progress], object]


def execute(plan: Plan, tell: Told) -> tuple[Outcome, Progress]:
    """Run it to its end. ``tell(kind, progress)`` hears of ``kernel``, ``cell``, ``output`` and ``result``."""
    return asyncio.run(_Attempt(plan, tell).run())


class _Attempt:
    def __init__(self, plan: Plan, tell: Told) -> None:
        self._plan, self._tell = plan, tell
        nb = plan.page.nb
        self._progress = Progress(total=sum(map(notebook.runs, nb.cells)), kernel=plan.kernel)
        manager, name = plan.manager or (None, plan.kernel)
        options = {**({"kernel_manager_class": manager} if manager else {}), **({"kernel_name": name} if name else {})}
        self._client = client_class()(nb, startup_timeout=_START_SECONDS, iopub_timeout=_LAST_WORDS, **options)
        self._client.on_change, self._client.on_result, self._client.on_output = self._changed, self._resulted, self._wrote
        self._oom_kills = outcome.oom_kills(None)
        self._halting = False

    async def run(self) -> tuple[Outcome, Progress]:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        self._plan.stop.ring(lambda: loop.call_soon_threadsafe(stopped.set))
        work = asyncio.ensure_future(self._work())
        bell = asyncio.ensure_future(stopped.wait())
        saver = asyncio.ensure_future(self._save_now_and_then())
        ended = outcome.SUCCEEDED
        try:
            await asyncio.wait({work, bell, saver}, timeout=self._plan.timeout, return_when=asyncio.FIRST_COMPLETED)
            ended = work.result() if work.done() else self._cut_short(saver)
            if not work.done():
                await self._interrupt(work)
            self._mark(ended)
            return ended, self._progress
        finally:
            self._plan.stop.ring(lambda: None)
            for task in (work, bell, saver):
                task.cancel()
            await asyncio.gather(work, bell, saver, return_exceptions=True)
            await self._end_processes(gently=ended.error is None)

    # -- what ends it ------------------------------------------------------------------------------------------------------
    def _cut_short(self, saver: asyncio.Future[None]) -> Outcome:
        cell = self._progress.cell
        if self._plan.stop.reason:
            return outcome.failed("Cancelled", f"stopped by {self._plan.stop.reason}", cell, state="cancelled")
        trouble = saver.exception() if saver.done() else None
        if isinstance(trouble, Exception):
            return outcome.of_exception(trouble, cell)
        return outcome.failed("Timeout", f"it took longer than {self._plan.timeout:g} s (--timeout)", cell, state="timeout")

    async def _work(self) -> Outcome:
        from nbclient.exceptions import CellExecutionError, DeadKernelError

        try:
            await self._start()
            for index, cell in enumerate(self._plan.page.nb.cells):
                if self._halting or self._client.wants_exit:
                    break
                await self._one(index, cell)
            return outcome.SUCCEEDED
        except CellExecutionError as error:
            return outcome.of_error(error.ename, error.evalue, self._progress.cell or 0)
        except DeadKernelError:
            starved = outcome.oom_kills(None) > self._oom_kills
            return outcome.of_dead_kernel(self._exit_status(), self._progress.cell, starved=starved)
        except Exception as error:  # whatever goes wrong around the cells is how the job ended
            if isinstance(error, RuntimeError) and "Kernel died" in str(error):  # jupyter_client, of one that died before it said anything
                return outcome.of_dead_kernel(self._exit_status(), self._progress.cell, starved=False)
            return outcome.of_exception(error, self._progress.cell)

    async def _one(self, index: int, cell: Any) -> None:
        page, progress = self._plan.page, self._progress
        if not notebook.runs(cell):
            page.mark(index, notebook.COMPLETED)
            return
        progress.cell = index
        page.mark(index, notebook.RUNNING)
        page.save()
        self._tell("cell", progress)
        await self._client.async_execute_cell(cell, index)
        page.mark(index, notebook.COMPLETED)
        progress.done += 1
        page.save()
        self._tell("cell", progress)

    def _mark(self, ended: Outcome) -> None:
        page, index = self._plan.page, self._progress.cell
        self._client.flush()
        if index is None or page.nb.cells[index].metadata["papermill"]["status"] != notebook.RUNNING:
            return
        if ended.error is None:  # sys.exit(0) in this cell
            page.mark(index, notebook.COMPLETED)
            self._progress.done += 1
            return
        page.mark(index, notebook.FAILED)
        said = [each.get("ename") for each in page.nb.cells[index].outputs]
        if ended.error["type"] not in said:
            page.explain(index, ended.error)

    async def _interrupt(self, work: asyncio.Future[Outcome]) -> None:
        self._halting = True
        deadline = time.monotonic() + _GRACE
        with suppress(Exception):  # a kernel that is not there yet, or gone, has nothing to say
            await asyncio.wait_for(self._client.km.interrupt_kernel(), 1.0)
            while not work.done() and time.monotonic() < deadline and not self._plan.stop.is_urgent:
                await asyncio.sleep(0.05)

    # -- the kernel --------------------------------------------------------------------------------------------------------
    async def _start(self) -> None:
        from jupyter_client.kernelspec import NoSuchKernel

        client, plan, progress = self._client, self._plan, self._progress
        try:
            client.create_kernel_manager()
            _encrypt(client.km)
            if client.km.ipykernel:  # it would warn of its own transport in every job's log
                client.extra_arguments = ["--IPKernelApp.log_level=40"]
            await client.async_start_new_kernel(env=plan.environment, cwd=str(plan.cwd))
        except NoSuchKernel as error:
            from jupyter_client.kernelspec import KernelSpecManager

            raise UnknownName("kernel", error.name, KernelSpecManager().find_kernel_specs()) from error
        progress.kernel = progress.kernel or client.km.kernel_name
        progress.kernel_pid = self._pid()
        self._tell("kernel", progress)
        _keep_all(client.km)
        await client.async_start_new_kernel_client()
        about = await client.async_wait_for_reply(client.kc.kernel_info())
        plan.page.nb.metadata["language_info"] = about["content"]["language_info"]

    def _pid(self) -> int | None:
        # A kernel on another machine has none here.
        return getattr(getattr(self._client.km, "provisioner", None), "pid", None)

    def _exit_status(self) -> int | None:
        child = getattr(getattr(self._client.km, "provisioner", None), "process", None)
        status = child.poll() if child is not None else None
        return int(status) if status is not None else None

    async def _end_processes(self, *, gently: bool) -> None:
        plan, client = self._plan, self._client
        pid = self._pid() or self._progress.kernel_pid

        def find() -> set[int]:
            return process.of_job(plan.job, pid, plan.earlier)

        before = await asyncio.to_thread(find)  # what cut all ties but that to its parent is lost when the kernel goes first
        if client.km is not None:
            client.shutdown_kernel = "graceful" if gently else "immediate"
            with suppress(Exception):  # it is ended below if this does not end it
                await asyncio.wait_for(client._async_cleanup_kernel(), 10.0)
        await asyncio.to_thread(process.end, lambda: find() | process.alive(before))

    # -- what it says ------------------------------------------------------------------------------------------------------
    async def _save_now_and_then(self) -> None:
        pause = SAVE_SECONDS
        while True:
            await asyncio.sleep(pause)
            if self._plan.page.is_dirty:
                started = time.monotonic()
                self._client.flush()
                self._plan.page.save()
                pause = max(SAVE_SECONDS, 4 * (time.monotonic() - started))  # a large notebook is saved less often

    def _changed(self) -> None:
        self._plan.page.is_dirty = True

    def _resulted(self, value: Any) -> None:
        self._progress.result = value
        self._tell("result", self._progress)

    def _wrote(self, cell: int, stream: str, text: str) -> None:
        self._progress.text = (cell, stream, text)
        self._tell("output", self._progress)


def _keep_all(manager: Any) -> None:
    # ZeroMQ drops what a kernel prints once 1,000 messages wait for who reads them; here as many wait as there are.
    import zmq

    connect = manager.client

    def client(**options: Any) -> Any:
        made = connect(**options)
        made.context.setsockopt(zmq.RCVHWM, 0)
        return made

    manager.client = client


def _encrypt(manager: Any) -> None:
    # Else other users of this machine could listen to the cells and what they print, and the kernel warns of that in every job's output.
    import zmq

    if zmq.has("curve") and hasattr(manager, "transport_encryption"):
        manager.transport_encryption = "auto"
