"""What the local providers share: collecting concurrent requests into batches, sampling, stopping and streaming.

A local provider hands ``Batcher`` a function that opens its ``Engine``. All work is done in one worker thread:

    ask() -> Job -> [worker] prepare -> Draft -> write(batch of drafts) -> Reply

What has queued while the last batch ran is taken together, sorted by length and cut into padded batches. A draft depends on
its own request only: its random numbers come from its own seed, so that the company it is in changes nothing but rounding.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llmops_lab.errors import ProviderFault
from llmops_lab.records import Reply, Request, Usage, content_text

if TYPE_CHECKING:
    import numpy as np

PARAMS = ("temperature", "max_tokens", "top_p", "seed", "stop", "logprobs")
MAX_TOKENS = 256
BATCH = 32
IN_FLIGHT = 2 * BATCH
"""So many requests a local provider wants at once: a full batch waits while the one before it runs."""
_LINGER_S = 0.002  # lets requests that were sent together arrive together


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens. ``temperature`` 0 (the default here) is greedy; ``seed`` None draws anew each time."""

    temperature: float = 0.0
    max_tokens: int = MAX_TOKENS
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False


@dataclass(slots=True)
class Job:
    """One request on its way through the worker. ``settle`` hands the outcome to the caller's loop; ``lane`` is the engine's to read."""

    request: Request
    timeout: float
    settle: Callable[[Reply | BaseException], None]
    tell: Callable[[str], None] | None
    lane: str = ""
    began: float = field(default_factory=time.perf_counter)
    abandoned: bool = False


class Draft:
    """A reply in the making: the tokens so far and why it ended (``finish``), or what went wrong (``fault``).

    ``ids`` are the prompt's tokens; ``room`` is how many more the model's context can take.
    """

    def __init__(self, job: Job, ids: Sequence[int], room: int, *, decode: Callable[[list[int]], str], ends: frozenset[int]) -> None:
        if room < 1:
            raise _bad_request(f"the prompt has {len(ids)} tokens and fills the model's context of {len(ids) + room}. Shorten the prompt.")
        self.job, self.ids, self.sampling = job, list(ids), sampling_of(job.request)
        self.limit = min(self.sampling.max_tokens, room)
        self.tokens: list[int] = []
        self.text, self.finish = "", ""
        self.fault: ProviderFault | None = None
        self.logprobs: list[float] = []
        self.deadline: float | None = None
        self.ended: Callable[[Draft], None] | None = None
        self._decode, self._ends = decode, ends
        self._told, self._first_at, self._ended_at = 0, 0.0, 0.0
        self._random: np.random.Generator | None = None

    @property
    def done(self) -> bool:
        """True once no further token is wanted."""
        return bool(self.finish or self.fault)

    @property
    def greedy(self) -> bool:
        """True when the most likely token is all that is needed of the logits."""
        return self.sampling.temperature == 0 and not self.sampling.logprobs

    def choose(self, logits: np.ndarray[Any, Any]) -> int:
        """The next token, from the model's float32 logits (vocabulary,). The first of equals wins."""
        if self.sampling.temperature == 0:
            token = int(logits.argmax())
        else:
            token = self._draw(logits)
        if self.sampling.logprobs and token not in self._ends:
            self.logprobs.append(_log_share(logits, token))
        return token

    def _draw(self, logits: np.ndarray[Any, Any]) -> int:
        import numpy as np

        self._random = self._random or np.random.default_rng(self.sampling.seed)
        scaled = logits.astype(np.float64) / self.sampling.temperature
        share = np.exp(scaled - scaled.max())
        order = np.argsort(-share, kind="stable")
        heap = np.cumsum(share[order] / share.sum())
        # The nucleus: the fewest most likely tokens that hold top_p of the mass (Holtzman et al. 2020).
        kept = min(int(np.searchsorted(heap, self.sampling.top_p)) + 1, len(heap))
        at = int(np.searchsorted(heap[:kept], self._random.random() * heap[kept - 1], side="right"))
        return int(order[min(at, kept - 1)])

    def add(self, token: int) -> None:
        """Take one token in: ends the draft at an end token, a stop string, its limit or its deadline."""
        now = time.perf_counter()
        if self.job.abandoned or (self.deadline is not None and now > self.deadline):
            message = f"no whole reply within {self.job.timeout:g} s ({len(self.tokens)} tokens so far). Raise timeout or lower max_tokens."
            self.fault = ProviderFault("timeout", message, answered=True)
        else:
            self._take(token, now)
        if self.done and self.ended is not None:
            self.ended(self)

    def _take(self, token: int, now: float) -> None:
        if token in self._ends:
            self.finish = "stop"
        else:
            self.tokens.append(token)
            self._first_at = self._first_at or now
            if len(self.tokens) >= self.limit:
                self.finish = "length"
        if self.finish or self.sampling.stop or self.job.tell:
            self._read()
        if self.finish:
            self._ended_at = time.perf_counter()

    def _read(self) -> None:
        text = self._decode(self.tokens)
        cuts = [at for stop in self.sampling.stop if (at := text.find(stop)) >= 0]
        if cuts:
            text, self.finish = text[: min(cuts)], "stop"
        self.text = text
        if self.job.tell is None:
            return
        safe = len(text) if self.finish else len(text) - _unsettled(text, self.sampling.stop)
        if safe > self._told:
            self.job.tell(text[self._told : safe])
            self._told = safe

    def reply(self, model: str) -> Reply:
        """The finished reply. ``latency_s`` counts from the call of ``ask``: with the wait for the batch before, without loading."""
        began = self.job.began
        return Reply(
            text=self.text,
            finish_reason=self.finish,
            usage=Usage(len(self.ids), len(self.tokens)),
            latency_s=self._ended_at - began,
            ttft_s=(self._first_at or self._ended_at) - began if self.job.tell else None,
            model=model,
            logprobs=tuple(self.logprobs) if self.sampling.logprobs else None,
        )


class Engine(Protocol):
    """A loaded model. Used by the worker thread alone."""

    def prepare(self, job: Job) -> Draft:
        """Tokenise. Raises ProviderFault for a request that this model cannot take."""
        ...

    def write(self, drafts: list[Draft]) -> None:
        """Run one batch until every draft is done."""
        ...


class Batcher:
    """Runs concurrent requests through one engine, at most ``most`` at a time and ``room`` padded places in all.

    The engine is opened in the worker thread by the first request and dropped by ``close``.
    """

    def __init__(self, model: str, open_engine: Callable[[], Engine], *, most: int = BATCH, room: int = 65_536) -> None:
        self._model, self._open, self._most, self._room = model, open_engine, most, room
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    async def ask(self, request: Request, *, timeout: float, on_text: Callable[[str], None] | None = None, lane: str = "") -> Reply:
        """One reply. The timeout runs from the start of the request's batch; ``on_text`` is called on the caller's loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()

        def settle(outcome: Reply | BaseException) -> None:
            _on_loop(loop, lambda: _resolve(future, outcome))

        tell = None if on_text is None else lambda piece: _on_loop(loop, lambda: on_text(piece))
        job = Job(request, timeout, settle, tell, lane)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, args=(self._queue,), name=f"llmops_lab {self._model}", daemon=True)
                self._thread.start()
            self._queue.put(job)
        try:
            return await future
        finally:
            job.abandoned = not future.done() or future.cancelled()

    async def close(self) -> None:
        """Finish what is queued, end the thread and let go of the model. A later ``ask`` opens it again."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._queue.put(None)
            self._queue = queue.SimpleQueue()
        if thread is not None:
            await asyncio.to_thread(thread.join)

    def _work(self, inbox: queue.SimpleQueue[Job | None]) -> None:
        engine: Engine | None = None
        while jobs := _gather(inbox):
            try:
                if engine is None:
                    engine, ready = self._open(), time.perf_counter()
                for job in jobs:
                    job.began = max(job.began, ready)
                self._run(engine, jobs)
            except BaseException as error:  # a broken model must end its requests, not its thread
                fault = error if isinstance(error, ProviderFault) else _broke(error)
                for job in jobs:
                    job.settle(fault)

    def _run(self, engine: Engine, jobs: Iterable[Job]) -> None:
        drafts: list[Draft] = []
        for job in jobs:
            if job.abandoned:
                continue
            try:
                drafts.append(engine.prepare(job))
            except ProviderFault as fault:
                job.settle(fault)
        for batch in _batches(sorted(drafts, key=lambda draft: len(draft.ids)), self._most, self._room):
            began = time.perf_counter()
            for draft in batch:
                draft.deadline = began + draft.job.timeout
                draft.ended = self._settle  # at once: a short reply does not wait for the longest of its batch
            engine.write(batch)

    def _settle(self, draft: Draft) -> None:
        draft.job.settle(draft.fault or draft.reply(self._model))


def _gather(inbox: queue.SimpleQueue[Job | None]) -> list[Job]:
    """Everything that waits; blocks for the first. Empty once the batcher is closed and nothing waits."""
    first = inbox.get()
    if first is None:
        return []
    time.sleep(_LINGER_S)
    jobs = [first]
    while not inbox.empty():
        job = inbox.get()
        if job is None:
            inbox.put(None)
            break
        jobs.append(job)
    return jobs


def _batches(drafts: list[Draft], most: int, room: int) -> Iterable[list[Draft]]:
    batch: list[Draft] = []
    width = 0
    for draft in drafts:
        width_with = max(width, len(draft.ids) + draft.limit)
        if batch and (len(batch) == most or width_with * (len(batch) + 1) > room):
            yield batch
            batch, width_with = [], len(draft.ids) + draft.limit
        batch.append(draft)
        width = width_with
    if batch:
        yield batch


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # the caller's loop is closed: nobody is waiting any more
        return


def _resolve(future: asyncio.Future[Reply], outcome: Reply | BaseException) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


# ---- requests


def sampling_of(request: Request) -> Sampling:
    """The request's parameters, checked. Raises ProviderFault ``bad_request`` and names the parameter."""
    params = {name: value for name, value in request.params.items() if value is not None}
    unknown = sorted(set(params) - set(PARAMS))
    if unknown:
        raise _bad_request(f"a local model does not know the parameter {', '.join(unknown)}. Known: {', '.join(PARAMS)}.")
    if isinstance(params.get("stop"), str):
        params["stop"] = (params["stop"],)
    for name, (holds, wanted) in _CHECKS.items():
        if name in params and not holds(params[name]):
            raise _bad_request(f"{name} must be {wanted}, not {params[name]!r}.")
    if "stop" in params:
        params["stop"] = tuple(params["stop"])
    return Sampling(**params)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (lambda v: _is_number(v) and 0 <= v < float("inf"), "a number of at least 0"),
    "max_tokens": (lambda v: _is_whole(v) and v >= 1, "a whole number of at least 1"),
    "top_p": (lambda v: _is_number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    "seed": (lambda v: _is_whole(v) and v >= 0, "a whole number of at least 0"),
    "stop": (lambda v: isinstance(v, list | tuple) and all(isinstance(s, str) and s for s in v), "a text or a list of texts, none empty"),
    "logprobs": (lambda v: isinstance(v, bool), "true or false"),
}


def chat_of(request: Request) -> list[dict[str, str]]:
    """The messages as a chat template takes them. Raises ProviderFault ``bad_request`` for what is not text, and for tools.

    A JSON schema is not enforced by a local model: score the reply with ``json_schema``.
    """
    if request.tools:
        raise _bad_request("a local model takes no tools. Ask a server that does (openai:NAME@BASE_URL).")
    if not request.messages:
        raise _bad_request("the request has no messages.")
    for message in request.messages:
        if not isinstance(message.content, str) and any(part.get("type") != "text" for part in message.content):
            raise _bad_request("a local model takes text only; a message holds an image or another part.")
    return [{"role": message.role, "content": content_text(message.content)} for message in request.messages]


def _bad_request(message: str) -> ProviderFault:
    return ProviderFault("bad_request", message)


def _broke(error: BaseException) -> ProviderFault:
    return ProviderFault("server_error", f"the local model broke: {type(error).__name__}: {error}", retryable=False)


def _log_share(logits: np.ndarray[Any, Any], token: int) -> float:
    """Natural log of the token's probability at temperature 1."""
    import numpy as np

    top = float(logits.max())
    return float(logits[token]) - top - float(np.log(np.exp(logits.astype(np.float64) - top).sum()))


def _unsettled(text: str, stops: tuple[str, ...]) -> int:
    """How many characters at the end may still change: half a character, or the beginning of a stop string."""
    half = len(text) - len(text.rstrip("\ufffd"))
    begun = (size for stop in stops for size in range(min(len(stop), len(text)), 0, -1) if text.endswith(stop[:size]))
    return max(half, max(begun, default=0))


# ---- weights


_digests: dict[tuple[str, int, int], str] = {}


def digest_of(files: Iterable[Path]) -> str:
    """SHA-256 (hex) over names and contents, in the order given. A file is read again only once its size or time has changed."""
    whole = sha256()
    for path in files:
        state = path.stat()
        key = (str(path), state.st_size, state.st_mtime_ns)
        if key not in _digests:
            with path.open("rb") as file:
                inner = sha256()
                while block := file.read(1 << 20):
                    inner.update(block)
            _digests[key] = inner.hexdigest()
        whole.update(f"{path.name} {_digests[key]}\n".encode())
    return whole.hexdigest()
