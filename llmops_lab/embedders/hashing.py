"""Words and letter groups hashed into 1,024 signed buckets: no model, no download, the same on every machine.

A text's features are its words, pairs of neighbouring words, and the groups of 3 to 5 letters inside each word, so that spelling
variants are near each other. Each goes by BLAKE2 to a bucket and a sign (Weinberger et al. 2009, arXiv:0902.2206), with weight
1 + ln(count); words weigh twice as much as the rest. This is likeness of wording, not of meaning.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llmops_lab.errors import BadInput
from llmops_lab.settings import Settings

if TYPE_CHECKING:
    import numpy as np

DIMENSIONS = 1024
_WORD = re.compile(r"\w+")
_LONGEST_WORD = 64  # what is longer is data, not language; its first letters still count


def connect(target: str, *, settings: Settings) -> Callable[[list[str]], np.ndarray[Any, Any]]:
    """The embedder. ``target`` must be empty: there is nothing to choose."""
    if target:
        raise BadInput(f"the embedder hashing takes no target, and {target!r} was given. Write: hashing")
    return embed


def embed(texts: list[str]) -> np.ndarray[Any, Any]:
    """Turn n texts into an (n, 1024) float32 array; rows have length 1, or 0 for a text without letters or digits."""
    import numpy as np

    rows = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for feature, count in Counter(_features(text)).items():
            bucket, weight = _place(feature)
            row[bucket] += weight * (1.0 + math.log(count))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray[Any, Any] = np.divide(rows, lengths, out=rows, where=lengths > 0)
    return unit


def _features(text: str) -> Iterator[str]:
    words = [word[:_LONGEST_WORD] for word in _WORD.findall(text.casefold())]
    for word in words:
        yield f"w{word}"
        framed = f"<{word}>"
        for size in (3, 4, 5):
            for start in range(len(framed) - size + 1):
                yield f"c{framed[start : start + size]}"
    for first, second in itertools.pairwise(words):
        yield f"p{first} {second}"


@lru_cache(maxsize=2**17)
def _place(feature: str) -> tuple[int, float]:
    number = int.from_bytes(hashlib.blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    weight = 2.0 if feature[0] == "w" else 1.0
    return number % DIMENSIONS, weight if number >> 63 else -weight
