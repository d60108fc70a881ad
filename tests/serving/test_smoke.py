"""What a deployment makes of an answer to its one question that is none."""

import pytest

from llmops_lab.errors import LabError
from llmops_lab.flows.deploy import smoke
from tests.servers import answers, completion

NO_COMPLETION = [
    ("bad_json", "no chat completion"),
    ("html_200", "no chat completion: .*Log in"),
    ("empty_choices", "no chat completion"),
    (answers(200, {"choices": [{"message": "text"}]}), "no chat completion"),
    (answers(200, []), "no chat completion"),
    (answers(200, {"error": {"message": "sk-" + "a" * 30}}), r"no chat completion: .*\[redacted\]"),
    ("null_content", "its reply is empty"),
    ("empty_text", "its reply is empty"),
    ("500", "it answered 500: .*the server had an error"),
    ("ok", "version 3 should answer, and nobody knows which did"),
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A ledger without keys."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(("behaviour", "said"), NO_COMPLETION, ids=range(len(NO_COMPLETION)))
def test_a_reply_that_is_no_chat_completion_is_told(upstream, home, behaviour, said):
    upstream.script(behaviour)
    with pytest.raises(LabError, match=said):
        smoke(upstream.url, "bot@staging", "3", "ready?", 20.0)


def test_an_answer_of_another_version_is_told(upstream, home):
    body = completion("fine", {"messages": [{"content": "ready?"}]})
    upstream.script(answers(200, body, x_llmops_lab_release="bot@staging 2"))
    with pytest.raises(LabError, match="version 3 should answer, and bot@staging 2 did"):
        smoke(upstream.url, "bot@staging", "3", "ready?", 20.0)
    upstream.script(answers(200, body, x_llmops_lab_release="bot@staging 3"))
    with pytest.raises(LabError, match="it answered 404"):  # another server's: it has no /metrics
        smoke(upstream.url, "bot@staging", "3", "ready?", 20.0)
