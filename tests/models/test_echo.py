"""The echo provider: always there, never wrong."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_lab.errors import BadInput
from llmops_lab.models import echo
from llmops_lab.records import Message, Request, Usage
from llmops_lab.settings import Settings


def ask(request, pieces=None):
    provider = echo.connect("", settings=Settings())
    return asyncio.run(provider.ask(request, timeout=1, on_text=None if pieces is None else pieces.append))


@given(st.text())
def test_the_last_message_comes_back(text):
    request = Request((Message("system", "be brief"), Message("user", text)), {"max_tokens": 1})
    pieces = []
    whole, streamed = ask(request), ask(request, pieces)
    assert whole.text == streamed.text == "".join(pieces) == text
    assert (whole.finish_reason, whole.usage) == ("stop", Usage(2 + len(text.split()), len(text.split())))
    assert whole.ttft_s is None and (streamed.ttft_s is None) == (text == "")


def test_only_the_text_of_parts_comes_back():
    parts = ({"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "data:,"}})
    assert ask(Request((Message("user", parts),))).text == "what is this?"


def test_it_is_one_model_and_local():
    provider = echo.connect("", settings=Settings())
    assert (provider.identity, provider.pool, provider.local) == ("echo", "echo", True)
    with pytest.raises(BadInput, match="echo"):
        echo.connect("loud", settings=Settings())
