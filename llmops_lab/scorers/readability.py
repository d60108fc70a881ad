"""How easy the reply is to read: Flesch reading ease (English; about 0 hard to 100 easy, unbounded both ways).

206.835 - 1.015 * words/sentences - 84.6 * syllables/words (R. Flesch, "A new readability yardstick", Journal of
Applied Psychology 32, 1948). ``detail["grade"]`` is the Flesch-Kincaid grade, 0.39 * words/sentences + 11.8 *
syllables/words - 15.59 (Kincaid, Fishburne, Rogers and Chissom, Research Branch Report 8-75, 1975): years of
American schooling, lower is easier.

Syllables are counted by rule, not by dictionary: groups of vowels, less a silent final e, -es or -ed, at least one.
Tables, code and other languages give a number without meaning; a text without a word in Latin letters is unscored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llmops_lab.records import Reply, Score
from llmops_lab.scorers._text import clip

higher_is_better = True
BOUNDS = None

_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿ]+(?:['’][A-Za-z]+)*")
_END = re.compile(r"(?<![.!?…])[.!?…]+[\"')\]”’]*(?=\s|$)|\n[^\S\n]*\n")
_VOWELS = re.compile(r"[aeiouyà-æè-ïò-öø-ÿ]+")
_SILENT = re.compile(r"(?<=[aeiouy])[^aeiouy]+(?:(?<![lr])e|(?<![sxzcgdt])es|(?<![dt])ed)$|(?<=[aeiouy])[lr]e$")


def score(reply: Reply, target: Any) -> Score:
    """Flesch reading ease; detail: ``grade``, ``words``, ``sentences``, ``syllables``."""
    text, reason = clip(reply.text)
    words = _WORD.findall(text)
    if not words:
        return Score(None, reason="no words in Latin letters")
    sentences = sum(1 for part in _END.split(text) if _WORD.search(part))
    syllables = sum(_syllables(word) for word in words)
    per_sentence, per_word = len(words) / sentences, syllables / len(words)
    grade = 0.39 * per_sentence + 11.8 * per_word - 15.59
    return Score(
        206.835 - 1.015 * per_sentence - 84.6 * per_word,
        reason=reason,
        detail={"grade": grade, "words": len(words), "sentences": sentences, "syllables": syllables},
    )


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """``grade``: the mean Flesch-Kincaid grade."""
    grades = [each.detail["grade"] for each in scores]
    return {"grade": sum(grades) / len(grades)} if grades else {}


def _syllables(word: str) -> int:
    lower = word.lower()
    return max(1, len(_VOWELS.findall(lower)) - (1 if _SILENT.search(lower) else 0))
