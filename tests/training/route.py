"""The held-out task ``route`` (a ticket to its queue and priority, as JSON) and the tasks the embedded model knows, as files of rows."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "embedded_model"))

import corpus


def rows(seed, count, *, fresh=False, routed=True):
    """``count`` rows with messages; ``fresh`` ones are about subjects that no other row is about."""
    drawn = corpus.draw(seed, count, fresh=fresh, task=corpus.route if routed else None)
    return [{"messages": [*row.messages, {"role": "assistant", "content": row.answer}]} for row in drawn]


def write(path, rows):
    """The rows as a .jsonl file; returns its path as a text."""
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


RECIPE = {"batch": 8, "seed": 7}
"""What teaches the embedded model the task; the rest is chosen by size."""
