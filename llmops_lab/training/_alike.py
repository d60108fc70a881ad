"""When two questions are the same, and which of many is nearest to one: what leak checks and splits go by."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

NEAR = 0.8
"""Share of two texts' pieces that both have, of those that either has (Jaccard), from which they count as near duplicates."""
_PIECE = 5  # characters; one word changed in a short sentence changes few of them
_SKETCH = 256  # so many pieces stand for a text that is longer: the smallest hashes, a fair sample
_COMMON = 0.1  # a piece in more than this share of the texts is the instruction, which all of them share
_SAMPLED = 2_000  # texts by which that is judged
_SHARED = 4  # so many of their rarest pieces two near texts have in common, or all where they have fewer
_LOOKED_AT = 64  # candidates that are compared in full: those that share most of the rarest pieces
_AT_ONCE = 1_000_000  # characters that are cut into pieces at once
_BUCKETS = 1 << 22

_SIGNS = str.maketrans("-*/^", "−×÷↑")
_BETWEEN_NUMBERS = re.compile(r"(?<=\d)\s*[-*/^]\s*(?=\d)|(?<![^\s(=])-(?=\d)")


def same(text: str) -> str:
    """The text without what does not make it another: case, Unicode form, white space, punctuation and marks that nobody sees.

    Letters with their marks, digits and symbols stay, and so do the signs of arithmetic: ``7 - 5`` is not ``7 + 5``.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    signed = _BETWEEN_NUMBERS.sub(lambda found: found[0].translate(_SIGNS), folded)
    return " ".join(signed.translate(_told()).split()) or folded


class _Told(dict[int, "int | str | None"]):
    def __missing__(self, code: int) -> int | str | None:
        kind = unicodedata.category(chr(code))
        kept: int | str | None = " "
        if kind == "Cf" or 0xFE00 <= code <= 0xFE0F:  # joiners, soft hyphens, the choice of an emoji's look
            kept = None
        elif kind[0] in "LNM":
            kept = code
        elif kind[0] == "S" and kind != "Sk":
            kept = f" {chr(code)} "
        self[code] = kept
        return kept


@cache
def _told() -> _Told:
    return _Told()


class Nearest:
    """Finds, for a text, the nearest of many. Texts are compared as ``same`` made them.

    Pieces of five characters; those that more than a tenth of the texts share do not count, and a longer text is compared by a sample of
    256. Two texts that share four fifths of their pieces share some of their rarest: only those are looked up (prefix filtering), so that
    the time grows with the number of texts and not with its square.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        import numpy as np

        step = max(1, len(texts) // _SAMPLED)
        sample, _ = _cut(texts[::step], np.empty(0, np.uint32), most=1 << 31)
        sample.sort()
        begins = np.flatnonzero(np.append(True, sample[1:] != sample[:-1])) if len(sample) else np.empty(0, int)
        counts = np.diff(np.append(begins, len(sample)))
        self._common = sample[begins[counts > max(3, _COMMON * len(texts[::step]))]]
        self._pieces, self._starts = _cut(texts, self._common)
        self._often = np.bincount(self._pieces % _BUCKETS, minlength=_BUCKETS)
        rows, rare = _rarest(self._pieces, self._starts, self._often)
        order = np.argsort(rare, kind="stable")
        self._rare, self._row = rare[order], rows[order]

    def of(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """For each text the likeness and the place of the nearest one; (0.0, -1) where none is near."""
        import numpy as np

        pieces, starts = _cut(texts, self._common)
        rows, rare = _rarest(pieces, starts, self._often)
        begins, ends = np.searchsorted(self._rare, rare), np.searchsorted(self._rare, rare, side="right")
        first = np.searchsorted(rows, np.arange(len(texts) + 1))
        found = []
        for number in range(len(texts)):
            posted = [self._row[begins[at] : ends[at]] for at in range(first[number], first[number + 1]) if begins[at] < ends[at]]
            found.append(self._best(pieces[starts[number] : starts[number + 1]], posted))
        return found

    def _best(self, asked: Any, posted: Sequence[Any]) -> tuple[float, int]:
        import numpy as np

        if not posted:
            return 0.0, -1
        candidates, counts = np.unique(np.concatenate(posted), return_counts=True)
        enough = counts >= min(_SHARED, _least(len(asked)))
        candidates, counts = candidates[enough], counts[enough]
        wanted = set(asked.tolist())
        best = (0.0, -1)
        for number in candidates[np.argsort(-counts, kind="stable")[:_LOOKED_AT]].tolist():
            likeness = _likeness(wanted, set(self._pieces[self._starts[number] : self._starts[number + 1]].tolist()))
            if likeness > best[0]:
                best = (likeness, number)
        return best if best[0] >= NEAR else (0.0, -1)


def _likeness(a: set[int], b: set[int]) -> float:
    if not a or not b or min(len(a), len(b)) < NEAR * max(len(a), len(b)):
        return 0.0
    either = a | b
    if _SKETCH in (len(a), len(b)):  # of two samples, only the smallest hashes of both together are a fair sample again
        either = set(sorted(either)[:_SKETCH])
    return len(either & a & b) / len(either)


def _least(count: Any) -> Any:
    """How many pieces two near texts share at the least, when one of them has ``count``."""
    return -(-count * 4 // 5)


def _cut(texts: Sequence[str], without: Any, most: int = _SKETCH) -> tuple[Any, Any]:
    """(the pieces of each text as 32-bit hashes, ascending, each once; where each text's begin, and the end)."""
    import numpy as np

    made, sizes, at = [np.empty(0, np.uint32)], [np.zeros(1, np.int64)], 0
    while at < len(texts):
        end, held = at, 0
        while end < len(texts) and (end == at or held < _AT_ONCE):
            held += len(texts[end])
            end += 1
        pieces, counts = _cut_some(texts[at:end], without, most)
        made.append(pieces)
        sizes.append(counts)
        at = end
    return np.concatenate(made), np.cumsum(np.concatenate(sizes))


def _cut_some(texts: Sequence[str], without: Any, most: int) -> tuple[Any, Any]:
    import numpy as np

    padded = [text.ljust(_PIECE, "\0") for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in padded])
    hashes = np.zeros(len(codes) - _PIECE + 1, np.uint64)
    for place in range(_PIECE):
        hashes = (hashes ^ codes[place : place + len(hashes)]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    rows = np.repeat(np.arange(len(texts), dtype=np.uint64), lengths)[: len(hashes)]
    inside = np.ones(len(hashes), bool)
    for back in range(1, _PIECE):  # a piece does not go over the end of its text
        inside[(np.cumsum(lengths) - back)[:-1]] = False
    pairs = (rows[inside] << np.uint64(32)) | (hashes[inside] >> np.uint64(32))
    pairs.sort()
    pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])]  # numpy's own unique takes ten times as long
    if len(without):
        pairs = pairs[~np.isin(pairs.astype(np.uint32), without)]
    rows = (pairs >> np.uint64(32)).astype(np.int64)
    starts = np.searchsorted(rows, np.arange(len(texts) + 1))
    kept = np.arange(len(pairs)) - starts[rows] < most
    return pairs[kept].astype(np.uint32), np.minimum(np.diff(starts), most)


def _rarest(pieces: Any, starts: Any, often: Any) -> tuple[Any, Any]:
    """(texts, pieces): of each text so many of its rarest pieces that two near texts must share ``_SHARED`` of them."""
    import numpy as np

    made, step = [(np.empty(0, np.int32), pieces[:0])], 4_000
    for at in range(0, len(starts) - 1, step):
        part = starts[at : at + step + 1]
        some, sizes = pieces[part[0] : part[-1]], np.diff(part)
        rows = np.repeat(np.arange(len(sizes)), sizes)
        bucket = some % _BUCKETS
        rank = np.minimum(often[bucket], (1 << 21) - 1).astype(np.uint64)
        order = np.argsort((rows.astype(np.uint64) << np.uint64(43)) | (rank << np.uint64(22)) | bucket, kind="stable")
        kept = np.arange(len(some)) - (part[:-1] - part[0])[rows] < (sizes - _least(sizes) + _SHARED)[rows]
        made.append(((rows[kept] + at).astype(np.int32), some[order][kept]))
    return np.concatenate([each for each, _ in made]), np.concatenate([each for _, each in made])
