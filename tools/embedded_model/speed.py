"""Tokens per CPU second of ``tiny`` and ``hf`` on the same folder, one by one and in batches of 32. Ratios are what counts.

Type: OMP_NUM_THREADS=1 python tools/embedded_model/speed.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import corpus

from llmops_lab.models._batch import Job
from llmops_lab.models.hf import Place, _Torch
from llmops_lab.models.tiny import FOLDER, Onnx
from llmops_lab.records import Message, Request


def spent(engine: Any, requests: list[Request], size: int) -> tuple[float, list[str]]:
    """Output tokens per CPU second, and the texts."""
    drafts = [engine.prepare(Job(request, 600, lambda _: None, None)) for request in requests]
    ordered = sorted(drafts, key=lambda draft: len(draft.ids))
    began = time.process_time()
    for start in range(0, len(ordered), size):
        engine.write(ordered[start : start + size])
    seconds = time.process_time() - began
    return sum(len(draft.tokens) for draft in drafts) / seconds, [draft.text for draft in drafts]


def main() -> None:
    rows = corpus.draw(11, 128, fresh=True)
    requests = [Request(tuple(Message(*turn) for turn in row.turns), {"max_tokens": 40}) for row in rows]
    for name, engine in (("tiny", Onnx(FOLDER)), ("hf", _Torch(Place(FOLDER)))):
        rounds = [(spent(engine, requests, 1), spent(engine, requests, 32)) for _ in range(3)]
        one, many = median(pair[0][0] for pair in rounds), median(pair[1][0] for pair in rounds)
        same = all(pair[0][1] == pair[1][1] for pair in rounds)
        print(f"{name:5} one by one {one:7,.0f}  in batches {many:7,.0f} tokens/CPU-s  {many / one:5.1f}x  equal text: {same}")


if __name__ == "__main__":
    main()
