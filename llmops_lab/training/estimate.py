"""What a tuning will take, before it starts: memory by a formula that is told, time by a few steps that are measured.

Memory in bytes, ``w`` for a weight (4; 2 on a GPU unless all are trained; ``qlora``: 9 / 16 for the linear layers, scales included):

    weights       parameters x w
    trained       trained parameters x (gradient + two moments of Adam = 12, and 4 for an adapter's own weights)
    activations   a layer: tokens of the largest batch x hidden x (34 + 5 x heads x length / hidden) x w / 2
                  (Korthikanti et al. 2022, equation 2), times layers; on a GPU, where each layer is computed anew on the way back,
                  two bytes x tokens x hidden for each layer and one layer in full
    logits        tokens of the largest batch x vocabulary x 4 x 2

and 640 MB for torch and what is imported with it. On random models of 0.9, 21 and 82 million parameters, on a CPU, the sum was 0.93 to
1.04 of the peak that was measured (docs/benchmarks.md). On a GPU the longest batch is run as well, and what it took counts where it is
more.
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab.training import sft
from llmops_lab.training.sft import Recipe
from llmops_lab.training.tokens import Encoded

_TORCH = 640 << 20
_STEPS = 3
_TIGHT = "  It will probably NOT fit: lower batch, max_length or rank, or use qlora."


@dataclass(frozen=True)
class Estimate:
    """Steps, tokens and seconds to come, and bytes of memory at the peak (``parts`` says for what) beside those that are free.

    ``free`` is None where the system does not say; the limit of a container counts.
    """

    steps: int
    tokens: int
    seconds: float
    memory: int
    parts: dict[str, int]
    free: int | None
    device: str

    def __str__(self) -> str:
        fits = "" if self.free is None or self.memory <= self.free else _TIGHT
        free = "nobody knows how much is" if self.free is None else in_words(self.free)
        parts = ", ".join(f"{name} {in_words(size)}" for name, size in self.parts.items())
        return (
            f"{self.steps:,} steps, {self.tokens:,} tokens, about {_seconds(self.seconds)} on {self.device}; "
            f"about {in_words(self.memory)} of memory ({parts}), {free} free.{fits}"
        )


def estimate(base: Path, rows: Sequence[Encoded], validation: Sequence[Encoded], recipe: Recipe) -> Estimate:
    """Measure a few steps on a copy of the model that is thrown away, and work out the memory. Training is not touched by it."""
    device, free = _device()
    width = 2 if device == "cuda" and recipe.method != "full" else 4
    tokens = max(_padded(batch) for batch in batches_of(rows, recipe))
    longest = max(len(each.ids) for each in rows)
    steps = math.ceil(sft.steps_an_epoch(rows, recipe) * recipe.epochs)
    in_all = round(sum(_padded(batch) for batch in batches_of(rows, recipe)) * recipe.epochs)
    parts = _parts(base, _config(base), recipe, width, tokens, longest, checkpointed=device == "cuda")
    a_token, peak = _measured(base, rows, recipe)
    checks = (steps // max(1, min(500, sft.steps_an_epoch(rows, recipe)))) * sum(len(each.ids) for each in validation)
    seconds = a_token * (in_all + checks / 3)  # without the way back, a third
    return Estimate(steps, in_all, seconds, max(sum(parts.values()), peak), parts, free, device)


def weights_of(base: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a folder's safetensors files, from their headers alone."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(base.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        found |= {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
    return found


def size_of(base: Path) -> int:
    """Parameters of the model in a folder."""
    return sum(map(_size, weights_of(base).values()))


def context_of(base: Path) -> int:
    """The most tokens that a model can take, as its config says."""
    return int(_config(base).get("max_position_embeddings") or 1 << 30)


def disk(base: Path, recipes: Sequence[Recipe]) -> int:
    """Bytes of disk that tunings take, one after another: two checkpoints and one in the making; what comes out of each, and its copy
    in MLflow.
    """
    trained = [size_of(base) if each.method == "full" else _adapter(weights_of(base), each) for each in recipes]
    return 3 * max(trained) * (4 + 8) + 2 * sum(trained) * 4


def _config(base: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((base / "config.json").read_text("utf-8"))
    return {**config, **(config.get("text_config") or {})}


def _parts(
    base: Path, config: dict[str, Any], recipe: Recipe, width: int, tokens: int, length: int, *, checkpointed: bool
) -> dict[str, int]:
    shapes = weights_of(base)
    linear = _linear(shapes)
    whole = sum(_size(shape) for shape in shapes.values())
    inner = sum(_size(shape) for shape in linear.values())
    packed = round(inner * (0.5 + 4 / 64)) if recipe.method == "qlora" else inner * width
    adapter = _adapter(shapes, recipe)
    trained = whole * 12 if recipe.method == "full" else adapter * 16
    hidden, heads, layers = (int(config.get(name) or 1) for name in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    layer = round(tokens * hidden * (34 + 5 * heads * length / hidden) * width / 2)
    activations = layer + layers * tokens * hidden * 2 if checkpointed else layer * layers
    return {
        "weights": (whole - inner) * width + packed,
        "trained": trained,
        "activations": activations,
        "logits": tokens * int(config.get("vocab_size") or 1) * 8,
        "torch": _TORCH,
    }


def _linear(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    outside = ("embed", "lm_head")
    return {name: shape for name, shape in shapes.items() if len(shape) == 2 and not any(part in name for part in outside)}


def _adapter(shapes: dict[str, tuple[int, ...]], recipe: Recipe) -> int:
    return sum(recipe.rank * sum(shape) for shape in _linear(shapes).values())


def _measured(base: Path, rows: Sequence[Encoded], recipe: Recipe) -> tuple[float, int]:
    """(seconds a token, bytes at the peak on a GPU or 0), from a few steps; on a GPU the longest batch is one of them."""
    import torch

    with sft.quiet(), sft.random_as_before():
        model = sft.adapted(sft.load(base, recipe.method), rows, recipe)
    device = model.device
    optimiser = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.0)
    batches = batches_of(rows, recipe)
    chosen = [batches[len(batches) * place // (_STEPS + 1)] for place in range(1, _STEPS + 1)]
    warm = max(batches, key=_padded) if device.type == "cuda" else chosen[0]
    with sft.threads_for(model), sft.random_as_before():
        if device.type == "cuda":
            model.gradient_checkpointing_enable()  # as the trainer does; then something that is trained must come before the layers
            model.enable_input_require_grads()
            torch.cuda.reset_peak_memory_stats()
        bare_step(model, optimiser, warm)
        began = time.perf_counter()
        for batch in chosen:
            bare_step(model, optimiser, batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
    spent = (time.perf_counter() - began) / sum(map(_padded, chosen))
    if device.type != "cuda":
        return spent, 0
    peak = int(torch.cuda.max_memory_allocated())
    del model, optimiser
    torch.cuda.empty_cache()
    return spent, peak


def bare_step(model: Any, optimiser: Any, batch: Sequence[Encoded]) -> Any:
    """One step as a plain PyTorch loop does it: pad, forward with labels, backward, clip, step. Returns the loss."""
    import torch

    width = max(len(each.ids) for each in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    labels = torch.full((len(batch), width), -100)
    mask = torch.zeros(len(batch), width, dtype=torch.long)
    for row, each in enumerate(batch):
        ids[row, : len(each.ids)] = torch.tensor(each.ids)
        labels[row, : len(each.ids)] = torch.tensor(each.labels)
        mask[row, : len(each.ids)] = 1
    there = model.device
    with torch.autocast(there.type, torch.bfloat16, enabled=there.type == "cuda"):
        loss = model(input_ids=ids.to(there), attention_mask=mask.to(there), labels=labels.to(there), use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_((each for each in model.parameters() if each.requires_grad), 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return loss


def batches_of(rows: Sequence[Encoded], recipe: Recipe) -> list[Sequence[Encoded]]:
    """The rows as batches, in their order."""
    return [rows[at : at + recipe.batch] for at in range(0, len(rows), recipe.batch)]


def _padded(batch: Sequence[Encoded]) -> int:
    return len(batch) * max(len(each.ids) for each in batch)


def _size(shape: Sequence[int]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _device() -> tuple[str, int | None]:
    import torch

    return ("cuda", int(torch.cuda.mem_get_info()[0])) if torch.cuda.is_available() else ("cpu", free_memory())


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still have: of the machine, or of a container that holds it (cgroup v2); None where nobody says."""
    try:
        lines = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text().splitlines())
        found = [int(lines["MemAvailable"].split()[0]) * 1024]
        groups = next((line[3:] for line in (root / "proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), "/")
    except (OSError, KeyError, ValueError):
        return None
    place = Path(groups.lstrip("/"))
    for folder in (root / "sys/fs/cgroup" / each for each in (place, *place.parents)):
        with contextlib.suppress(OSError, ValueError, KeyError):  # no such file, or "max": no limit there
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            limit, used = (int((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
            found.append(max(0, limit - used + int(stat["inactive_file"])))
    return min(found)


def in_words(count: float) -> str:
    """Bytes as people say them."""
    return f"{count / (1 << 30):.1f} GB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MB"


def _seconds(count: float) -> str:
    return f"{count:.0f} s" if count < 120 else f"{count / 60:.0f} min" if count < 7200 else f"{count / 3600:.1f} h"
