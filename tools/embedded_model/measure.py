"""Measure a model folder: greedy exact match per task on fresh rows, and per prompt wording on one set of tickets.

OMP_NUM_THREADS=1 python tools/embedded_model/measure.py llmops_lab/models/_tiny
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

import corpus

from llmops_lab.models._batch import Job
from llmops_lab.models.tiny import Onnx
from llmops_lab.records import Message, Request

FRESH_SEED, ROWS = 99, 1000
WORDINGS = {
    **corpus.INTENT_WORDINGS,
    "unseen": "What is this ticket about?\n{x}",
    "bare": "{x}",
}


def answers(engine: Onnx, chats: Sequence[Sequence[dict[str, str]]], max_tokens: int = 64) -> list[str]:
    """Greedy replies, 32 at a time."""
    drafts = []
    for chat in chats:
        request = Request(tuple(Message(turn["role"], turn["content"]) for turn in chat), {"max_tokens": max_tokens})
        drafts.append(engine.prepare(Job(request, 600, lambda _: None, None)))
    ordered = sorted(drafts, key=lambda draft: len(draft.ids))
    for start in range(0, len(ordered), 32):
        engine.write(ordered[start : start + 32])
    return [draft.text for draft in drafts]


def by_task(engine: Onnx, rows: Sequence[corpus.Row]) -> dict[str, tuple[float, int]]:
    """Exact match and number of rows of each task, and of ``overall``."""
    right = defaultdict(list)
    for row, text in zip(rows, answers(engine, [row.messages for row in rows]), strict=True):
        right[row.task].append(text == row.answer)
        right["overall"].append(text == row.answer)
    return {task: (sum(values) / len(values), len(values)) for task, values in sorted(right.items())}


def by_wording(engine: Onnx, tickets: Sequence[corpus.Ticket], wordings: dict[str, str]) -> dict[str, float]:
    """Exact match of each wording on the same tickets; ``{x}`` is the ticket."""
    shares = {}
    for name, wording in wordings.items():
        texts = answers(engine, [[{"role": "user", "content": wording.replace("{x}", ticket.text)}] for ticket in tickets])
        shares[name] = sum(text == ticket.intent for text, ticket in zip(texts, tickets, strict=True)) / len(tickets)
    return shares


def card(engine: Onnx, rows: int) -> dict[str, float]:
    """The figures of the model card: every task, ``overall``, the held-out ``route``, and the wordings on 60 tickets."""
    shares = by_task(engine, list(corpus.draw(FRESH_SEED, rows, fresh=True)))
    held_out = by_task(engine, list(corpus.draw(FRESH_SEED, 100, fresh=True, task=corpus.route)))
    rng = Random(FRESH_SEED)
    tickets = [corpus.sided_ticket(rng, fresh=True) for _ in range(60)]
    figures = {task: share for task, (share, _) in {**held_out, **shares}.items()}
    return figures | {f"wording {name}": share for name, share in by_wording(engine, tickets, WORDINGS).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    for name, share in card(Onnx(options.folder), options.rows).items():
        print(f"| {name} | {share:.2f} |")


if __name__ == "__main__":
    main()
