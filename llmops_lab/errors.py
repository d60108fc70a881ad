"""Every error that a user can meet, and the one table of exit codes.

LabError                     1   something failed; the message says what to do next
├── BadInput                 2   known to be wrong before the first call
│   ├── UnknownName          2   a model, scorer, prompt, ... that does not exist (close matches named)
│   ├── MissingExtra         2   an optional dependency is not installed (the pip command is named)
│   ├── DoesNotPair          2   two sets of scores that cannot be compared row by row
│   └── Conflict             2   somebody rated the same item, or moved the same alias, in between; nothing was overwritten
├── BudgetReached            3   the spend cap stopped the work; what is done is kept
├── Unreachable              4   no HTTP answer came back from any call; resumable
├── ProviderFault            1   one call failed (``kind`` says how); becomes a failed cell in a grid
├── StoreError               1   the ledger could not be written or opened (``path`` says where)
├── TamperedPrompt           1   a prompt version whose text no longer matches its recorded hash
├── TamperedRelease          1   a released version, or a part of it, is no longer what it was when it was registered
├── GateFailed               5   a candidate did not pass its gate; the reasons are named
├── JobFailed             (its)  a job ended otherwise than well; carries its state, and ends with its exit code
└── Cancelled              130   stopped by the user; what is done is kept
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means. The only such table in the project."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    BUDGET = 3
    UNREACHABLE = 4
    GATE_FAILED = 5
    TIMEOUT = 124
    CANCELLED = 130
    KILLED = 137  # out of memory, or killed from outside
    DEAD_KERNEL = 138


masks: list[Callable[[str], str]] = []
"""What every message passes through when it is shown; ``redact`` puts itself here, so that no error tells a secret."""


def meant(name: str, known: Iterable[str]) -> str:
    """``" Did you mean A or B?"``, to be put into a message; empty where nothing is close."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def clipped(text: str, most: int = 60) -> str:
    """A text in a message: its beginning, where it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


class LabError(Exception):
    """The root of the tree. Shows as one line in a notebook cell, and as an ``error`` output for papermill and nbval."""

    exit_code = ExitCode.FAILED

    def __str__(self) -> str:
        text = super().__str__()
        for mask in masks:
            text = mask(text)
        return text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _render_traceback_(self) -> list[str]:
        # IPython calls this in place of its own traceback; the cell still ends with an ``error`` output.
        return [f"{type(self).__name__}: {self}"]


class BadInput(LabError):
    """Wrong use that is known before the first call is sent."""

    exit_code = ExitCode.WRONG_USE


class UnknownName(BadInput):
    """A name that is not there. Carries ``kind``, ``name`` and ``known``; the message lists close matches."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        known_text = ", ".join(self.known) if self.known else "none"
        super().__init__(f"no {kind} called {name!r}.{meant(name, self.known)} Known: {known_text}.{' ' + hint if hint else ''}")


class MissingExtra(BadInput):
    """An optional dependency is missing. Carries ``package`` and ``extra``."""

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"{package} is not installed. Type: pip install 'llmops-lab[{extra}]'")


class DoesNotPair(BadInput):
    """Two sets of scores share too few rows, or differ in what was asked, so a paired comparison would be false."""


class Conflict(BadInput):
    """A rating or an alias is not what the writer believed it to be, so nothing was written over it. Carries ``current``: what it is."""

    def __init__(self, message: str, current: dict[str, object] | None) -> None:
        self.current = current
        super().__init__(message)


class BudgetReached(LabError):
    """The next call might have passed the spend cap, so it was not sent."""

    exit_code = ExitCode.BUDGET


class Unreachable(LabError):
    """No call got an HTTP answer. Nothing is lost: run the same again to resume."""

    exit_code = ExitCode.UNREACHABLE


class Cancelled(LabError):
    """Stopped by the user. Nothing is lost: run the same again to resume."""

    exit_code = ExitCode.CANCELLED


class StoreError(LabError):
    """The ledger cannot be opened or written. Carries ``path``."""

    def __init__(self, message: str, path: str) -> None:
        self.path = path
        super().__init__(message)


class TamperedPrompt(LabError):
    """A stored prompt version no longer has the content hash it was registered with."""


class TamperedRelease(LabError):
    """A model, a bundle or a part that it pins no longer has the digest that it was registered with, so it is not used."""


class GateFailed(LabError):
    """A candidate did not pass its gate, so it goes no further. The message names each reason."""

    exit_code = ExitCode.GATE_FAILED


class JobFailed(LabError):
    """A job ended otherwise than well. Carries ``state``, one of the job states, and the ``exit_code`` that goes with it."""

    def __init__(self, message: str, state: str, exit_code: ExitCode) -> None:
        self.state, self.exit_code = state, exit_code
        super().__init__(message)


class ProviderFault(LabError):
    """One model call went wrong.

    ``kind`` is one of ``FAULT_KINDS``; ``retryable`` says whether another try can help; ``retry_after`` is the
    provider's own wish in seconds; ``answered`` is True when any HTTP answer came back; ``in_doubt`` is True when the
    request had been sent and no whole answer came, so that it may have been paid for. ``usage``: input and output tokens that
    the provider reported although the reply cannot be used; it then bills them, ``cost_usd`` where a price is known.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        status: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        answered: bool | None = None,
        in_doubt: bool = False,
        usage: tuple[int | None, int | None] | None = None,
    ) -> None:
        self.kind, self.status, self.retry_after, self.in_doubt = kind, status, retry_after, in_doubt
        self.usage = usage
        self.cost_usd: float | None = None
        self.retryable = kind in RETRYABLE_KINDS if retryable is None else retryable
        self.answered = kind not in ("timeout", "connection") if answered is None else answered
        super().__init__(message)


FAULT_KINDS = (
    "rate_limited",
    "server_error",
    "timeout",
    "connection",
    "incomplete",
    "empty",
    "malformed",
    "unauthorized",
    "not_found",
    "bad_request",
    "content_filter",
    "budget",
    "template",
)
RETRYABLE_KINDS = frozenset({"rate_limited", "server_error", "timeout", "connection", "incomplete", "empty", "malformed"})
