"""The model card that lies beside an adapter: what it is, what it learnt from, how it did, and what nobody checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write(folder: Path, tuned: Mapping[str, Any], *, verdicts: Sequence[tuple[str, str]], leaks: Sequence[str], note: str = "") -> Path:
    """Write ``README.md`` into the adapter's folder. ``verdicts`` are (what was asked, the verdict in words); returns the file."""
    path = path_of(folder)
    path.write_text(text(tuned, verdicts=verdicts, leaks=leaks, note=note), "utf-8")
    return path


def path_of(folder: Path) -> Path:
    """Where the card of a tuned model lies."""
    return folder / "README.md"


def text(tuned: Mapping[str, Any], *, verdicts: Sequence[tuple[str, str]], leaks: Sequence[str], note: str = "") -> str:
    """The card as Markdown, with the front matter that model hubs and peft read. ``tuned`` is the record of a tuning."""
    recipe = tuned["recipe"]
    method = recipe["method"]
    front = {"base_model": tuned["base"], "library_name": "transformers" if method == "full" else "peft", "tags": [method, "sft", "trl"]}
    kind = "All weights" if method == "full" else f"A {method.replace('lora', 'LoRA').replace('qLoRA', 'QLoRA')} adapter"
    ended = ", stopped early: the validation loss had ceased to fall" if tuned["stopped_early"] else ""
    loss = "none was measured" if tuned["validation_loss"] is None else f"{tuned['validation_loss']:.4f} at its best"
    named = [f"{name}: {each['rows']:,} rows, digest `{each['digest'][:16]}`, {each['source']}" for name, each in tuned["sets"].items()]
    spent = f"{tuned['seconds']:.0f} s, {tuned['cpu_seconds']:.0f} s of CPU, {tuned['peak_memory'] >> 20} MB at the peak"
    lines = [
        "---",
        *(f"{name}: {json.dumps(value)}" for name, value in front.items()),
        "---",
        "",
        f"# {tuned['base']}, tuned",
        "",
        *([note, ""] if note else []),
        f"{kind} on `{tuned['base']}`, trained with llmops_lab. Ask it as `{tuned['model']}`.",
        "",
        "## How it did",
        "",
        *(f"- {asked}: **{verdict}**" for asked, verdict in verdicts or [("Nothing was compared", "its quality is not known")]),
        f"- Validation loss: {loss}.",
        "",
        "## What it learnt from",
        "",
        *(f"- {each}" for each in named),
        f"- trained on: {tuned['train_rows']:,} rows, replay included and mixed, digest `{tuned['train_digest'][:16]}`",
        *(f"- leak check, {each}" for each in leaks),
        "",
        "## How it was trained",
        "",
        f"{tuned['steps']} steps{ended}; {spent}.",
        "Only the answers' tokens counted.",
        "",
        *(f"- {name.replace('_', ' ')}: {value}" for name, value in recipe.items()),
        "",
        "## What names it",
        "",
        f"- weights: `{tuned['digest']}`",
        f"- base: `{tuned['base_digest']}`",
        "",
        "## Limits",
        "",
        "What the rows above do not show was not checked: other tasks, other languages, safety. A base model's limits stay.",
        "The licence is not known: nobody recorded one. Those of the base and of the rows hold; ask where they came from.",
        "",
    ]
    return "\n".join(lines)
