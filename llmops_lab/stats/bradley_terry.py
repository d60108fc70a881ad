"""How strong each variant is, from comparisons of two at a time: the Bradley-Terry model with ties (Davidson).

A variant of strength s beats another of strength t with odds exp(s - t); a tie has weight v * exp((s + t) / 2) beside their exp(s) and
exp(t) (Davidson, J. Am. Stat. Assoc. 65 (1970) 317; Bradley and Terry, Biometrika 39 (1952) 324). Fitted by minorise-maximise (Hunter,
Ann. Stat. 32 (2004) 384). Intervals: whole items are drawn with replacement, so that several raters of one item are not taken for
independent; percentiles.

Someone who won or lost everything would be infinitely strong or weak. Then half a win each way is added to every two that were compared,
and nobody gets bounds: ``reason`` says so. A draw in which that happens is fitted likewise.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.stats._check import check_alpha
from llmops_lab.stats.intervals import Interval

Floats = NDArray[np.float64]
_METHOD = "bootstrap over items"
_STEPS, _CLOSE = 5000, 1e-10


@dataclass(frozen=True, slots=True)
class Strength:
    """One variant. ``value`` is on the scale of log odds and 0 is the mean of all; ``wins``, ``losses`` and ``ties`` are its counts."""

    name: str
    value: float
    low: float
    high: float
    wins: int
    losses: int
    ties: int


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    """The variants, the strongest first. ``tie`` is v: 0 where nobody ever tied, 2 where equals tie half of the time.

    ``n`` comparisons of ``items`` items. ``reason`` says why there are no bounds.
    """

    strengths: tuple[Strength, ...]
    tie: float
    n: int
    items: int
    alpha: float = 0.05
    reason: str = ""
    drawn: Mapping[str, Floats] = field(default_factory=dict, repr=False, compare=False)

    def difference(self, a: str, b: str) -> Interval:
        """How much stronger b is than a, in log odds, with its interval, none where there is a ``reason``. Raises UnknownName."""
        value = {each.name: each.value for each in self.strengths}
        for name in (a, b):
            if name not in value:
                raise UnknownName("variant", str(name), value)
        low, high = _percentiles(self.drawn[b] - self.drawn[a], self.alpha) if self.drawn else (math.nan, math.nan)
        return Interval(value[b] - value[a], float(low), float(high), self.items, _METHOD)

    def chance(self, a: str, b: str) -> float:
        """The chance that b wins against a where they do not tie. Raises UnknownName."""
        return 1 / (1 + math.exp(-self.difference(a, b).value))

    def frame(self) -> Any:
        """A DataFrame with one line a variant: name value low high wins losses ties."""
        import pandas

        columns = ["name", "value", "low", "high", "wins", "losses", "ties"]
        return pandas.DataFrame([[getattr(each, name) for name in columns] for each in self.strengths], columns=columns)


def bradley_terry(
    first: Sequence[str],
    second: Sequence[str],
    outcome: Sequence[int],
    *,
    items: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    resamples: int = 1000,
) -> BradleyTerry:
    """Fit strengths to comparisons: names on either side, and 1 where the first won, -1 the second, 0 a tie.

    ``items``: what each comparison was about (a prompt, a row); without it each is its own. The same ``seed`` gives the same intervals.
    Raises BadInput for nothing compared, for other outcomes, and where no comparison links two groups, whose strengths nobody can know.
    """
    check_alpha(alpha)
    names, games = _read(first, second, outcome, items)
    total = games.sum(axis=0)
    compared = (total[0] + total[0].T + total[1]) > 0
    _check_linked(names, compared)
    values, tie = _fit(total[None], compared)
    reason = _reason(names, total) or ("" if len(games) > 1 else "one item has no interval")
    drawn = {} if reason else dict(zip(names, _fit(_resampled(games, seed, resamples), compared)[0].T, strict=True))
    counts = np.column_stack([total[0].sum(axis=1), total[0].sum(axis=0), total[1].sum(axis=1)]).astype(int).tolist()
    made = []
    for at, name in enumerate(names):
        low, high = _percentiles(drawn[name], alpha) if drawn else (math.nan, math.nan)
        made.append(Strength(name, float(values[0, at]), float(low), float(high), *counts[at]))
    made.sort(key=lambda each: (-each.value, each.name))
    return BradleyTerry(tuple(made), float(tie[0]), len(outcome), len(games), alpha, reason, drawn)


def _read(
    first: Sequence[str], second: Sequence[str], outcome: Sequence[int], items: Sequence[Hashable] | None
) -> tuple[tuple[str, ...], Floats]:
    """The names, and an array item x (wins, ties) x name x name; a tie stands on both sides."""
    about = range(len(outcome)) if items is None else items
    if not len(first) == len(second) == len(outcome) == len(about):
        raise BadInput(
            f"{len(first)} and {len(second)} sides, {len(outcome)} outcomes and {len(about)} items; give one of each a comparison"
        )
    if not len(outcome):
        raise BadInput("there is no comparison to learn from")
    names = tuple(dict.fromkeys(str(name) for pair in zip(first, second, strict=True) for name in pair))
    place, lines = {name: at for at, name in enumerate(names)}, {item: at for at, item in enumerate(dict.fromkeys(about))}
    games = np.zeros((len(lines), 2, len(names), len(names)))
    for left, right, won, item in zip(first, second, outcome, about, strict=True):
        a, b, line = place[str(left)], place[str(right)], lines[item]
        if won not in (1, 0, -1) or a == b:
            raise BadInput(f"a comparison has two sides and an outcome 1, 0 or -1, not {left!r} against {right!r} with {won!r:.60}")
        if won == 0:
            games[line, 1, a, b] += 1
            games[line, 1, b, a] += 1
        else:
            games[line, 0, *((a, b) if won > 0 else (b, a))] += 1
    return names, games


def _check_linked(names: Sequence[str], compared: NDArray[np.bool_]) -> None:
    group = [name for name, linked in zip(names, _reached(compared[None])[0, 0], strict=True) if linked]
    apart = [name for name in names if name not in group]
    if apart:
        raise BadInput(
            f"nobody compared {', '.join(group)} with {', '.join(apart)}, so their strengths have no common scale. "
            "Rate pairs across the two."
        )


def _reached(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """From each name, which ones a chain of edges leads to; shape (draws, names, names)."""
    found = edges | np.eye(edges.shape[-1], dtype=np.bool_)
    for _ in range(edges.shape[-1].bit_length()):
        found = np.einsum("bij,bjk->bik", found.astype(np.float64), found.astype(np.float64)) > 0
    return found


def _finite(games: Floats) -> NDArray[np.bool_]:
    """Which draws have finite strengths: from everyone a chain of wins and ties leads to everyone."""
    return np.asarray(_reached((games[:, 0] + games[:, 1]) > 0).all(axis=(1, 2)))


def _resampled(games: Floats, seed: int, resamples: int) -> Floats:
    rng, count = np.random.default_rng(seed), len(games)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)
    return np.tensordot(weights, games, axes=1)


def _reason(names: Sequence[str], total: Floats) -> str:
    if not total[0].any():
        return "every comparison was a tie"
    if _finite(total[None])[0]:
        return ""
    won, lost = total[0].sum(axis=1) + total[1].sum(axis=1) > 0, total[0].sum(axis=0) + total[1].sum(axis=1) > 0
    ends = [f"{name} never lost" for name, each in zip(names, lost, strict=True) if not each]
    ends += [f"{name} never won" for name, each in zip(names, won, strict=True) if not each]
    return f"{' and '.join(ends) or 'a group never lost to the others'}, so half a win each way was added to every pair"


def _fit(games: Floats, compared: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Log strengths, shape (draws, names), mean 0, and the tie parameter of each draw."""
    ties = games[:, 1]
    helped = ~_finite(games) | ~games[:, 0].any(axis=(1, 2))
    wins = games[:, 0] + np.where(helped, 0.5, 0.0)[:, None, None] * compared
    met, drew = wins + wins.transpose(0, 2, 1) + ties, ties.sum(axis=(1, 2)) / 2
    scored = wins.sum(axis=2) + ties.sum(axis=2) / 2
    root, tie = np.ones(scored.shape), np.where(drew > 0, 1.0, 0.0)
    for _ in range(_STEPS):
        expected = _expected(met, root, tie) * (1 + tie[:, None, None] / 2 * root[:, None, :] / root[:, :, None])
        new = np.sqrt(scored / expected.sum(axis=2))
        new /= np.exp(np.log(new).mean(axis=1, keepdims=True))
        tied = drew / np.maximum(np.sum(_expected(met, new, tie) * new[:, :, None] * new[:, None, :], axis=(1, 2)) / 2, 1e-300)
        moved = max(float(np.abs(np.log(new / root)).max()), float(np.abs(tied - tie).max()))
        root, tie = new, tied
        if moved < _CLOSE:
            break
    return 2 * np.log(root), tie


def _expected(met: Floats, root: Floats, tie: Floats) -> Floats:
    # Comparisons of each two, over the sum of the weights of their three outcomes; ``root`` is the square root of the strength.
    first, second = root[:, :, None], root[:, None, :]
    return np.asarray(met / (first**2 + second**2 + tie[:, None, None] * first * second))


def _percentiles(drawn: Floats, alpha: float) -> Floats:
    return np.asarray(np.quantile(drawn, [alpha / 2, 1 - alpha / 2], axis=0))
