"""How an attempt ended: from what was seen (an error's name, a kernel's exit status, a wish to stop) to a state and an exit code."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmops_lab import errors
from llmops_lab.errors import ExitCode, LabError, clipped
from llmops_lab.jobs.record import CODES

_MEMORY = ("MemoryError", "OutOfMemoryError", "torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError", "_ArrayMemoryError")
_MEMORY_WORDS = ("CUDA out of memory", "CUDA error: out of memory", "Cannot allocate memory", "can't allocate memory")
_KNOWN: Final = {name: kind.exit_code for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, LabError)}
_TOLD = ("verdict", "verdicts", "forgetting", "url")
_LONGEST_LINE, _MOST_LINES = 400, 8
_MOST = 4000  # characters of a message; the whole of it stands in the notebook


@dataclass(frozen=True, slots=True)
class Outcome:
    """One end. ``error`` is ``{"type", "message", "cell"}``, None when it went well."""

    state: str
    exit_code: int
    error: dict[str, Any] | None = None

    @property
    def may_be_retried(self) -> bool:
        """Whether another attempt could end otherwise: not after a gate's no, a wish to stop, wrong use or a spent budget."""
        lasting = (ExitCode.WRONG_USE, ExitCode.BUDGET)
        return self.state in ("dead_kernel", "out_of_memory", "timeout") or (self.state == "failed" and self.exit_code not in lasting)


SUCCEEDED = Outcome("succeeded", int(ExitCode.DONE))


def failed(kind: str, message: str, cell: int | None = None, *, state: str = "failed", code: int | None = None) -> Outcome:
    """An end that is not well."""
    error = {"type": kind, "message": message[:_MOST], "cell": cell}
    return Outcome(state, int(CODES[state] if code is None else code), error)


def of_error(kind: str, message: str, cell: int) -> Outcome:
    """A cell raised an error of this name."""
    if kind == "SystemExit":
        if message.strip() in ("", "0", "None", "False"):
            return SUCCEEDED
        return failed(kind, f"the notebook left with sys.exit({message})", cell)
    if kind in _MEMORY or any(words in message for words in _MEMORY_WORDS):
        return failed(kind, message, cell, state="out_of_memory")
    code = _KNOWN.get(kind)
    if code == ExitCode.GATE_FAILED:
        return failed(kind, message, cell, state="gate_failed")
    if code == ExitCode.CANCELLED:
        return failed(kind, message, cell, state="cancelled")
    return failed(kind, message, cell, code=code)


def of_dead_kernel(status: int | None, cell: int | None, *, starved: bool) -> Outcome:
    """The kernel is gone; ``status`` is its exit status where it is known, ``starved`` that the system killed for memory meanwhile."""
    if starved and status in (None, -signal.SIGKILL):
        return failed("OutOfMemory", "the system killed the kernel because memory ran out", cell, state="out_of_memory")
    how = "before it could say why"
    if status is not None and status < 0:
        how = f"by signal {-status} ({signal.Signals(-status).name})" if -status in set(signal.Signals) else f"by signal {-status}"
    elif status is not None:
        how = f"with exit status {status}"
    return failed("DeadKernelError", f"the kernel died {how}", cell, state="dead_kernel")


def of_exception(error: Exception, cell: int | None) -> Outcome:
    """Something went wrong around the cells: a full disk, a kernel that does not start, a fault in this package."""
    code = error.exit_code if isinstance(error, LabError) else ExitCode.FAILED
    return failed(type(error).__name__, str(error) or type(error).__name__, cell, code=int(code))


def oom_kills(pid: int | None) -> int:
    """How often the system has killed for memory in the control group of this process; 0 where it does not say."""
    count = 0
    for path in _counters(pid):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        count += sum(int(number) for name, _, number in (line.partition(" ") for line in lines) if name == "oom_kill")
    return count


def _counters(pid: int | None) -> list[Path]:
    try:
        groups = Path(f"/proc/{pid or 'self'}/cgroup").read_text().splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in groups:
        _, kinds, place = line.split(":", 2)
        if kinds == "":
            found += [Path(f"/sys/fs/cgroup{place}/memory.events"), Path("/sys/fs/cgroup/memory.events")]
        elif "memory" in kinds.split(","):
            found += [Path(f"/sys/fs/cgroup/memory{place}/memory.oom_control"), Path("/sys/fs/cgroup/memory/memory.oom_control")]
    return [path for path in dict.fromkeys(found) if path.is_file()][:1]


def sentence(record: Mapping[str, Any]) -> str:
    """One line that says how a job stands, for a person."""
    error = record.get("error") or {}
    # People are told the cells as they are counted for them; error["cell"] is the position in the notebook, texts included, from 0.
    cell = f" in cell {record['cells_done'] + 1}" if error.get("cell") is not None else ""
    why = f": {error['type']}{cell}: {error['message'].splitlines()[0] if error.get('message') else ''}" if error else ""
    return f"{record['state']}, {record['cells_done']} of {record['cells_total']} cells{why}"


def told(result: Any) -> list[tuple[str, str]]:
    """What of a job's result is said to whoever waits for its end: (key, one line) of its verdicts, and the URL where it serves."""
    found: list[tuple[str, str]] = []
    for name in _TOLD if isinstance(result, dict) else ():
        several = result.get(name)
        for each in several if isinstance(several, list) else [several]:
            line = each.get("sentence") if isinstance(each, dict) else each
            if isinstance(line, str) and line.strip():
                found.append((name.rstrip("s"), clipped(" ".join(line.split()), _LONGEST_LINE)))
    return list(dict.fromkeys(found))[:_MOST_LINES]
