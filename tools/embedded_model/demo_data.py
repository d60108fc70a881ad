"""Write the demo's dataset: 200 tickets from the part of the corpus that no training row is about.

Type: python tools/embedded_model/demo_data.py llmops_lab/data/tickets.csv
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path
from random import Random

import corpus

ROWS, SEED = 200, 2024
COLUMNS = ("id", "ticket", "answer", "channel", "subjects")


def tickets() -> list[dict[str, str]]:
    """200 different tickets, as many of each intent as can be; ``subjects`` is 2 where another subject is mentioned in passing."""
    rng, made, seen = Random(SEED), [], set()
    left = Counter({name: -(-ROWS // len(corpus.w.INTENTS)) for name in corpus.w.INTENTS})
    while len(made) < ROWS:
        new = corpus.sided_ticket(rng, fresh=True)
        if left[new.intent] and new.text not in seen:
            left[new.intent] -= 1
            seen.add(new.text)
            made.append(dict(zip(COLUMNS[1:], (new.text, new.intent, new.channel, str(new.subjects)), strict=True)))
    return [{"id": f"T{number:03}", **row} for number, row in enumerate(made, 1)]


def main() -> None:
    with Path(sys.argv[1]).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(tickets())


if __name__ == "__main__":
    main()
