"""The embedded model: 0.9 M parameters on onnxruntime, one thread, no key, no network. A fixture for demos and tests."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_lab.errors import BadInput
from llmops_lab.models._batch import IN_FLIGHT, Batcher, Draft, Job, chat_of, digest_of
from llmops_lab.models._prices import price_of
from llmops_lab.models._provider import Price
from llmops_lab.records import Reply, Request
from llmops_lab.settings import Settings

if TYPE_CHECKING:
    import numpy as np

FOLDER = Path(__file__).parent / "_tiny"
_FILES = ("model.safetensors", "model.onnx", "config.json", "tokenizer.json", "chat_template.jinja")
_MASKED = -1e9  # finite, so that a padded place with nothing to look at does not become NaN
_BLOCK = 64  # the cache grows by so many places


def connect(target: str, *, settings: Settings) -> Tiny:
    """The embedded model; ``target`` must be empty. Nothing is loaded until the first request. Free unless settings price it."""
    if target:
        raise BadInput(f"'tiny' takes no target, got {target!r}. Type 'tiny'; for a model in a folder, 'hf:{target}'.")
    return Tiny(price_of("tiny", settings) or Price())


class Tiny:
    """Provider of the model in ``FOLDER``. Its greedy text equals that of ``hf:`` on the same folder."""

    pool = "tiny"
    local = True
    in_flight = IN_FLIGHT

    def __init__(self, price: Price) -> None:
        self.identity = f"tiny:{digest_of(FOLDER / name for name in _FILES)}"
        self.price: Price | None = price
        self._batcher = Batcher("tiny", lambda: Onnx(FOLDER))

    async def ask(self, request: Request, *, timeout: float, on_text: Callable[[str], None] | None = None) -> Reply:
        """One reply; streams token by token when ``on_text`` is given. Raises ProviderFault (bad_request, timeout)."""
        return await self._batcher.ask(request, timeout=timeout, on_text=on_text)

    async def close(self) -> None:
        """End the worker thread and let go of the model."""
        await self._batcher.close()


class Onnx:
    """The engine: left-padded batches through ``model.onnx``, with a cache that is kept here (see the graph's description).

    One thread: at this size a second one costs more in waiting than it computes.
    """

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime's wheel for Linux reports to its maker
        import onnxruntime
        from tokenizers import Tokenizer

        self._config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._template = _chat_template((folder / "chat_template.jinja").read_text("utf-8"))
        self._cache_names = [f"{kind}_{layer}" for layer in range(self._config["num_hidden_layers"]) for kind in "kv"]

    def prepare(self, job: Job) -> Draft:
        """Render the chat and tokenise it."""
        text = self._template(chat_of(job.request))
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        room = self._config["max_position_embeddings"] - len(ids)
        return Draft(job, ids, room, decode=self._tokenizer.decode, ends=frozenset({self._config["eos_token_id"]}))

    def write(self, drafts: list[Draft]) -> None:
        """Run the batch; rows that are done leave it once they are half of it."""
        import numpy as np

        width = max(len(draft.ids) for draft in drafts)
        ids = np.zeros((len(drafts), width), np.int64)
        real = np.zeros((len(drafts), width), bool)
        for row, draft in enumerate(drafts):
            ids[row, width - len(draft.ids) :] = draft.ids
            real[row, width - len(draft.ids) :] = True
        cache = _Cache(self._config, self._cache_names, len(drafts))
        positions = np.maximum(np.cumsum(real, axis=1) - 1, 0)
        while True:
            logits = self._step(cache, ids, positions, real)
            best = logits.argmax(axis=1)
            for row, draft in enumerate(drafts):
                if not draft.done:
                    draft.add(int(best[row]) if draft.greedy else draft.choose(logits[row]))
            going = [row for row, draft in enumerate(drafts) if not draft.done]
            if not going:
                return
            if 2 * len(going) <= len(drafts):
                drafts = [drafts[row] for row in going]
                positions = positions[going]
                cache.keep(going)
            # A finished row that has not left yet repeats a token that nobody reads.
            ids = np.array([[draft.tokens[-1] if draft.tokens else 0] for draft in drafts], np.int64)
            real = np.ones_like(ids, bool)
            positions = positions[:, -1:] + 1

    def _step(self, cache: _Cache, ids: np.ndarray[Any, Any], positions: np.ndarray[Any, Any], real: np.ndarray[Any, Any]) -> Any:
        feed = {"ids": ids, "positions": positions, "bias": cache.bias(real), **cache.tensors}
        logits, *new = self._session.run(None, feed)
        cache.append(new, real)
        return logits


class _Cache:
    """Keys and values of all places so far, (rows, heads, places, head_dim) each, grown in blocks; unused places are masked."""

    def __init__(self, config: dict[str, Any], names: list[str], rows: int) -> None:
        import numpy as np

        shape = (rows, config["num_attention_heads"], 1, config["head_dim"])
        self.tensors = {name: np.zeros(shape, np.float32) for name in names}
        # One column for each cached place, and at the end a zero for the new place of a single step.
        self._mask = np.array([[_MASKED, 0.0]] * rows, np.float32)
        self._used = 0

    def bias(self, real: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What is added to the scores of the new places, (rows, 1, new, cached + new): causal, and blind to padding."""
        import numpy as np

        rows, new = real.shape
        if new == 1:
            return self._mask[:, None, None, :]
        among_new = np.where(np.tri(new, dtype=bool)[None] & real[:, None, :], np.float32(0), np.float32(_MASKED))
        to_cached = np.broadcast_to(self._mask[:, None, :-1], (rows, new, self._mask.shape[1] - 1))
        return np.concatenate([to_cached, among_new], axis=2)[:, None]

    def append(self, new: list[np.ndarray[Any, Any]], real: np.ndarray[Any, Any]) -> None:
        """Take the keys and values of the new places in."""
        end = self._used + real.shape[1]
        if end >= self._mask.shape[1]:
            self._grow(-(-end // _BLOCK) * _BLOCK)
        for name, values in zip(self.tensors, new, strict=True):
            self.tensors[name][:, :, self._used : end] = values
        self._mask[:, self._used : end][real] = 0.0
        self._used = end

    def _grow(self, places: int) -> None:
        import numpy as np

        more = places + 1 - self._mask.shape[1]
        for name, old in self.tensors.items():
            self.tensors[name] = np.pad(old, ((0, 0), (0, 0), (0, more), (0, 0)))
        self._mask = np.pad(self._mask[:, :-1], ((0, 0), (0, more + 1)), constant_values=_MASKED)
        self._mask[:, -1] = 0.0

    def keep(self, rows: list[int]) -> None:
        """Drop all other rows."""
        import numpy as np

        self.tensors = {name: np.ascontiguousarray(values[rows]) for name, values in self.tensors.items()}
        self._mask = self._mask[rows]


def _chat_template(source: str) -> Callable[[list[dict[str, str]]], str]:
    """The folder's own chat template, as transformers renders it (its ``generation`` tags mark training spans and print nothing)."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    plain = re.sub(r"\b(end)?generation(?=\s*-?%\})", lambda tag: "endif" if tag[1] else "if true", source)
    template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(plain)
    return lambda messages: template.render(messages=messages, add_generation_prompt=True)
