"""BLEU of the reply against the expected text (0 to 100), by sacreBLEU.

Sentence BLEU with exponential smoothing and effective order (Papineni et al. 2002; Post 2018; Chen and Cherry 2014,
method 3), the same number as ``sacrebleu``'s ``sentence_bleu``. Several expected texts are several references. The
summary has the corpus BLEU, which is not the mean of the sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from llmops_lab.records import Reply, Score
from llmops_lab.scorers._text import clip, expected_texts

higher_is_better = True
NEEDS_TARGET = True
BOUNDS = (0.0, 100.0)
PACKAGES = ("sacrebleu",)


def score(reply: Reply, target: Any, *, ignore_case: bool = False, tokenize: Literal["13a", "intl", "char", "zh", "none"] = "13a") -> Score:
    """0 to 100. An empty reply is 0, an empty reference leaves the row unscored."""
    from sacrebleu.metrics import BLEU

    references = [clip(text)[0] for text in expected_texts(target) if text.strip()]
    if not references:
        return Score(None, reason="the expected value is empty")
    answer, reason = clip(reply.text)
    metric = BLEU(lowercase=ignore_case, tokenize=tokenize, effective_order=True)
    result = metric.sentence_score(answer, references)
    _forget(metric.tokenizer)
    detail = {"matches": list(result.counts), "totals": list(result.totals), "length": result.sys_len, "reference_length": result.ref_len}
    return Score(min(100.0, float(result.score)), reason=reason, detail=detail)


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """``corpus``: BLEU over all rows together (0 to 100)."""
    from sacrebleu.metrics import BLEU

    if not scores:
        return {}
    total = {key: [sum(column) for column in zip(*(each.detail[key] for each in scores), strict=True)] for key in ("matches", "totals")}
    length, reference = (sum(each.detail[key] for each in scores) for key in ("length", "reference_length"))
    corpus = BLEU.compute_bleu(total["matches"], total["totals"], length, reference, smooth_method="exp")
    return {"corpus": min(100.0, float(corpus.score))}


def _forget(tokenizer: Any) -> None:
    """Empty the tokenizers' caches: they remember the last 65,536 texts, which in a large grid is most of the memory."""
    for each in (tokenizer, getattr(tokenizer, "_post_tokenizer", None)):
        clear = getattr(vars(type(each)).get("__call__"), "cache_clear", None)
        if clear is not None:
            clear()
