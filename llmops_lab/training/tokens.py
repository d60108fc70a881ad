"""Examples become token ids, rendered just as the model will be asked later; only the answers' tokens are learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.training.data import Example, Examples

IGNORED = -100  # a label that adds nothing to the loss


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example and what is to be learnt of them (``labels``: the same ids, IGNORED where nothing is)."""

    ids: list[int]
    labels: list[int]


def encode(examples: Examples, tokenizer: Any, max_length: int) -> list[Encoded]:
    """Each example through the model's own chat template (without one: its texts, as ``hf:`` asks such a model).

    The question and the answer are tokenised apart, for that is how the model meets them when it is asked. Earlier answers of a
    chat are context and not learnt. Raises BadInput naming the rows that are longer than ``max_length`` tokens: a cut answer
    would teach the model to stop in mid-sentence.
    """
    made, long = [], []
    for number, example in enumerate(examples.items, 1):
        head, tail = rendered(example, tokenizer)
        asked = tokenizer(head, add_special_tokens=not tokenizer.chat_template)["input_ids"]
        answer = tokenizer(tail, add_special_tokens=False)["input_ids"]
        made.append(Encoded(asked + answer, [IGNORED] * len(asked) + answer))
        if len(made[-1].ids) > max_length:
            long.append((number, len(made[-1].ids)))
    if long:
        told = ", ".join(f"{number} ({length})" for number, length in long[:5]) + (f" and {len(long) - 5} more" if len(long) > 5 else "")
        raise BadInput(
            f"{len(long)} rows of {examples.source} are longer than max_length={max_length} tokens: row {told}. "
            f"Shorten or drop them, or raise max_length to {max(length for _, length in long)} where the model's context allows it."
        )
    return made


def rendered(example: Example, tokenizer: Any) -> tuple[str, str]:
    """(the prompt as the model sees it, what it is to write up to and with its end token)."""
    end = tokenizer.eos_token or ""
    if not tokenizer.chat_template:
        return "\n\n".join(text for _, text in example.turns), example.answer + end
    try:
        head = tokenizer.apply_chat_template(example.messages, add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template([*example.messages, {"role": "assistant", "content": example.answer}], tokenize=False)
    except Exception as error:  # templates refuse roles or orders of roles in their own words
        raise BadInput(f"the model's chat template refuses row {example.id}: {error}") from error
    if whole.startswith(head):
        return head, whole[len(head) :]
    # A template that opens an answer otherwise than it shows one (with an empty thought, say): the answer follows the opening.
    at = whole.rfind(example.answer)
    return head, whole[at:] if at >= 0 else example.answer + end


def lengths(encoded: Sequence[Encoded]) -> list[int]:
    """Tokens of each example."""
    return [len(each.ids) for each in encoded]
