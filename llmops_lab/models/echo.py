"""Answers with the text of the last message: for tests, documentation and trying things out, without a model.

Its tokens are words; parameters have no effect.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from llmops_lab.errors import BadInput
from llmops_lab.models._prices import price_of
from llmops_lab.models._provider import Price
from llmops_lab.records import Reply, Request, Usage, content_text
from llmops_lab.settings import Settings


def connect(target: str, *, settings: Settings) -> Echo:
    """The echo. Raises BadInput for a target: there is only one."""
    if target:
        raise BadInput(f"echo takes no target, not {target!r}. Write the model as: echo")
    return Echo(settings)


class Echo:
    """Always there, never wrong."""

    identity = "echo"
    pool = "echo"
    local = True

    def __init__(self, settings: Settings) -> None:
        self.price = price_of("echo", settings) or Price()  # a fixture that computes nothing worth money: free is true

    async def ask(self, request: Request, *, timeout: float, on_text: Callable[[str], None] | None = None) -> Reply:
        """The last message's text, in one go or word by word; never fails."""
        started = time.perf_counter()
        text = content_text(request.messages[-1].content) if request.messages else ""
        ttft = None
        if on_text is not None:
            for word in re.findall(r"\s*\S+|\s+", text):
                on_text(word)
                ttft = time.perf_counter() - started if ttft is None else ttft
        return Reply(
            text=text,
            finish_reason="stop",
            usage=Usage(len(request.text.split()), len(text.split())),
            latency_s=time.perf_counter() - started,
            ttft_s=ttft,
            model="echo",
        )

    async def close(self) -> None:
        """Nothing to give back."""
