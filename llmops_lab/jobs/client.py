"""Who talks to the kernel: nbclient's client, with streams put together as they come, no widget state, and a job's result picked up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

RESULT_MIME = "application/vnd.llmops_lab.result+json"
_SILENCE_S = 0.2  # nothing new for so long, and all that a dead kernel has sent is read


class _Client:
    """What is ours of it. ``on_output`` is told of each stream text; ``on_result`` of the value of ``lab.job_result``."""

    on_output: Callable[[int, str, str], object] = staticmethod(lambda cell, name, text: None)
    on_result: Callable[[Any], object] = staticmethod(lambda value: None)
    on_change: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, nb: Any, **options: Any) -> None:
        super().__init__(nb, store_widget_state=False, coalesce_streams=False, **options)  # type: ignore[call-arg]
        self._parts: dict[int, tuple[Any, list[str]]] = {}
        self._heard_all = True
        self._listens_for: tuple[Any, ...] = ()
        self.wants_exit = False

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        data = msg["content"].get("data")
        if isinstance(data, dict) and RESULT_MIME in data:
            self.on_result(data[RESULT_MIME])
        self.on_change()
        return super().process_message(msg, cell, cell_index)  # type: ignore[misc]

    def output(self, outs: Any, msg: Any, display_id: str | None, cell_index: int) -> Any:
        made = super().output(outs, msg, display_id, cell_index)  # type: ignore[misc]
        if made is None or made.get("output_type") != "stream":
            return made
        text = made["text"]
        self.on_output(cell_index, made["name"], text)
        for earlier in reversed(outs[:-1]):
            if earlier.get("output_type") != "stream":
                break
            if earlier["name"] == made["name"]:
                outs.pop()
                self._parts.setdefault(id(earlier), (earlier, []))[1].append(text)
                return earlier
        return made

    def flush(self) -> None:
        """Put what came of each stream since last time into its output. What a progress bar wrote over is left out."""
        for output, parts in self._parts.values():
            output["text"] = _as_seen(output["text"] + "".join(parts))
            parts.clear()

    async def async_execute_cell(self, cell: Any, cell_index: int, *args: Any, **options: Any) -> Any:
        from nbclient.exceptions import DeadKernelError

        self._parts, self._heard_all = {}, True
        try:
            done = await super().async_execute_cell(cell, cell_index, *args, **options)  # type: ignore[misc]
        except DeadKernelError:
            await self._hear_last_words()
            raise
        finally:
            self.flush()
        if not self._heard_all:
            from nbformat.v4 import new_output

            text = f"The cell has ended, and its last outputs did not arrive within {self.iopub_timeout} s: some are missing here.\n"  # type: ignore[attr-defined]
            cell.outputs.append(new_output("stream", name="stderr", text=text))
        return done

    async def _async_poll_output_msg(self, *args: Any) -> None:
        # nbclient gives this up, with no word in the notebook, when a cell's last outputs do not come.
        self._heard_all, self._listens_for = False, args
        await super()._async_poll_output_msg(*args)  # type: ignore[misc]
        self._heard_all = True

    async def _hear_last_words(self) -> None:
        # nbclient reads no more once a kernel is dead; what it had sent by then says best why.
        from queue import Empty

        from nbclient.exceptions import CellExecutionComplete

        asked, cell, cell_index = self._listens_for
        with suppress(Empty, CellExecutionComplete):
            while True:
                message = await self.kc.iopub_channel.get_msg(timeout=_SILENCE_S)  # type: ignore[attr-defined]
                if message["parent_header"].get("msg_id") == asked:
                    self.process_message(message, cell, cell_index)

    async def _check_raise_for_error(self, cell: Any, cell_index: int, exec_reply: Any) -> None:
        payload = (exec_reply or {}).get("content", {}).get("payload") or []
        self.wants_exit = any(each.get("source") == "ask_exit" for each in payload)  # exit() and quit() of IPython
        await super()._check_raise_for_error(cell, cell_index, exec_reply)  # type: ignore[misc]


def _as_seen(text: str) -> str:
    """What a terminal would show in the end: of a line that was written over, the last version."""
    if "\r" not in text:
        return text
    lines = text.split("\n")
    return "\n".join(line if "\r" not in (inner := line.rstrip("\r")) else line[inner.rindex("\r") + 1 :] for line in lines)


@cache
def client_class() -> Any:
    """The class; made when it is first needed, because nbclient is slow to import."""
    from nbclient import NotebookClient

    return type(NotebookClient)("Client", (_Client, NotebookClient), {})
