"""Examples as the rows of a grid, so that a tuned model and its base are asked the same and judged by a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops_lab.flows.tune import Planned
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import Message
from llmops_lab.training.data import Examples


class Chats(Prompt):
    """The prompt that a grid over chats has: each row's own messages, as they are."""

    def render(self, values: Mapping[str, Any]) -> tuple[Message, ...]:
        """The row's messages, nothing filled in and nothing escaped."""
        return tuple(Message(turn["role"], turn["content"]) for turn in values["messages"])


def as_rows(examples: Examples) -> list[dict[str, Any]]:
    """Rows with ``id``, ``messages`` up to the question and the right ``answer``; rows that are there twice keep different ids."""
    seen: dict[str, int] = {}
    rows = []
    for each in examples.items:
        seen[each.id] = seen.get(each.id, 0) + 1
        number = "" if seen[each.id] == 1 else f"-{seen[each.id]}"
        rows.append({"id": f"{each.id}{number}", "messages": each.messages, "answer": each.answer})
    return rows


def asked(examples: Examples, planned: Planned) -> dict[str, Any]:
    """What ``lab.grid`` takes to ask a tuned model and its base these examples: prompt, rows, expected column, sampling parameters.

    Replies may be half as long again as the longest right answer.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(planned.base.folder, local_files_only=True, trust_remote_code=False)
    most = max(len(each) for each in tokenizer([each.answer for each in examples.items])["input_ids"])
    params = {"temperature": 0, "max_tokens": most + most // 2 + 8}
    return {"prompts": {"rows": Chats("{{ messages }}")}, "rows": as_rows(examples), "expected": "answer", "params": params}
