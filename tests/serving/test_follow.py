"""A served release: its prompts, what it pins, the alias that it follows, and what MLflow is told."""

import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

import llmops_lab as lab
from llmops_lab import plugins
from llmops_lab.models import tiny
from llmops_lab.settings import load
from llmops_lab.track import connect, traces
from tests.servers import ModelServer, replies
from tests.serving.serving_process import Served
from tests.waiting import until

STUBBORN = """An echo that cannot be closed."""
PROVIDER = f'''"""{STUBBORN}"""
from llmops_lab.models.echo import Echo

class Stubborn(Echo):
    identity = "stubborn"

    async def close(self):
        raise RuntimeError("I stay")

def connect(target, *, settings):
    return Stubborn(settings)
'''


def install_stubborn(folder, patch):
    """A package of somebody else's, with a provider called ``stubborn``."""
    (folder / "stubborn.py").write_text(PROVIDER)
    about = folder / "stubborn-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: stubborn\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[llmops_lab.models]\nstubborn = stubborn\n")
    patch.syspath_prepend(folder)
    plugins._entry_points.cache_clear()


@pytest.fixture(scope="module")
def bot(tmp_path_factory, empty_mlflow):
    """support-bot@dev, served with every request traced; version 1 answers with the first prompt, on a provider that cannot be closed."""
    folder, package = tmp_path_factory.mktemp("bot"), tmp_path_factory.mktemp("package")
    (folder / "home").mkdir()
    for name in ("mlflow.db", ".mlflow.db.version"):
        shutil.copy(empty_mlflow / name, folder / "home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "LLMOPS_LAB_"))]:
            patch.delenv(name)
        patch.chdir(folder)
        install_stubborn(package, patch)
        patch.setenv("LLMOPS_LAB_HOME", str(folder / "home"))
        for words in ("first", "second", "third"):
            lab.prompts.save(f"{words}: {{{{ question }}}}", "qa")
        lab.prompts.save([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "{{ a }} and {{ b }}"}], "pair")
        lab.bundle("support-bot", prompts={"main": "qa/1", "pair": "pair/1"}, model="stubborn", params={"temperature": 0, "max_tokens": 50})
        lab.bundle("support-bot", prompts={"main": "qa/2", "pair": "pair/1"}, model="stubborn", params={"temperature": 0, "max_tokens": 50})
        lab.promote("support-bot", 1, "dev")
        with ModelServer() as upstream:
            lab.bundle("tools-bot", prompts={"main": "qa/1"}, model=f"openai:m@{upstream.url}", params={"max_completion_tokens": 7})
            names = ("support-bot@dev", "tools-bot/1")
            with Served(folder, *names, options=["--trace", "1"], PYTHONPATH=str(package)) as served:
                served.upstream = upstream
                yield served
    plugins._entry_points.cache_clear()


def text(answer):
    return answer.choices[0].message.content


def test_the_last_message_fills_the_slot_that_is_left_open(bot):
    assert text(bot.chat("why?")) == "first: why?"
    assert text(bot.chat("why?", model="support-bot")) == "first: why?"
    assert text(bot.chat("ignored", extra_body={"prompt_variables": {"question": "how?"}})) == "ignored"  # it follows the prompt
    named = bot.client.chat.completions.create(model="support-bot", messages=[], extra_body={"prompt_variables": {"question": "how?"}})
    assert text(named) == "first: how?"


def test_a_bundle_of_several_prompts_is_asked_by_slot(bot):
    assert text(bot.chat("two", extra_body={"prompt": "pair", "prompt_variables": {"a": "one"}})) == "one and two"
    for wrong, said in [
        ({"prompt": "pear"}, "no prompt 'pear'. Known: main, pair"),
        ({"prompt": "pair"}, "the prompt needs a, b"),
        ({"prompt_variables": {"nothing": 1}}, "no slot 'nothing'. Known: question"),
    ]:
        with pytest.raises(openai.BadRequestError, match=said):
            bot.chat("two", extra_body=wrong)


def test_what_the_release_pins_holds(bot):
    raw = bot.client.chat.completions.with_raw_response.create(
        model="support-bot", messages=[{"role": "user", "content": "pinned?"}], temperature=1.9
    )
    assert raw.headers["x-llmops-lab-cache"] == "miss"  # at the pinned temperature of 0 a reply is sure
    assert raw.headers["x-llmops-lab-release"] == "support-bot@dev 1"


def test_requests_are_traced_with_their_prompt_versions_and_feedback(bot):
    answer = bot.chat("is my key sk-" + "b" * 24 + " safe?")
    assert bot.send("/v1/feedback", {"request_id": answer.id, "value": True, "comment": "fine"})[0] == 200
    store = connect.client(load())
    trace = until(lambda: _trace(store, answer.id), seconds=60)
    assert trace.info.tags["llmops_lab.release"] == "support-bot@dev" and trace.info.tags["llmops_lab.release.version"] == "1"
    assert '"qa"' in trace.info.tags["mlflow.linkedPrompts"] and '"pair"' in trace.info.tags["mlflow.linkedPrompts"]
    assert "b" * 24 not in trace.to_json() and "[redacted]" in trace.to_json()
    until(lambda: [each.value for each in _trace(store, answer.id).info.assessments] == [True], seconds=60)


def _trace(store, ident):
    from mlflow.exceptions import MlflowException

    try:
        return store.get_trace(traces.trace_id(ident), display=False)
    except MlflowException:
        return None


def test_it_follows_its_alias_under_load_and_a_broken_version_does_not_take_over(bot, tmp_path):
    with ThreadPoolExecutor() as pool:
        going = True
        asking = [pool.submit(lambda: [text(bot.chat("go")) for _ in iter(lambda: going, False)]) for _ in range(4)]
        lab.promote("support-bot", 2, "dev")
        until(lambda: bot.health()["releases"][0]["version"] == "2")
        going = False
        answers = [each for asked in asking for each in asked.result()]
    assert set(answers) == {"first: go", "second: go"}
    assert text(bot.chat("go")) == "second: go" and "version 2 has taken over from 1" in bot.log
    # The old version could not be closed, which is no concern of the new one.
    until(lambda: "version 1 could not be closed: RuntimeError: I stay" in bot.log)
    assert bot.health()["status"] == "ok" and bot.counter("llmops_lab_release_stuck") == 0
    assert bot.counter("llmops_lab_release_info", release="support-bot@dev", version="2") == 1

    folder = shutil.copytree(tiny.FOLDER, tmp_path / "model")
    lab.bundle("support-bot", prompts={"main": "qa/3"}, model=f"hf:{folder}")
    shutil.rmtree(folder)
    with sqlite3.connect(bot.place.home / "mlflow.db") as store:  # as another tool of MLflow's would move it
        store.execute("UPDATE registered_model_aliases SET version = 3 WHERE name = 'support-bot' AND alias = 'dev'")
    until(lambda: bot.health()["status"] == "stuck")
    assert "version 3 cannot be served" in bot.health()["releases"][0]["problem"]
    assert bot.counter("llmops_lab_release_stuck") == 1 and "Version 2 goes on answering" in bot.log
    assert text(bot.chat("go")) == "second: go"
    with sqlite3.connect(bot.place.home / "mlflow.db") as store:
        store.execute("UPDATE registered_model_aliases SET version = 2 WHERE name = 'support-bot' AND alias = 'dev'")
    until(lambda: bot.health()["status"] == "ok")
    assert bot.counter("llmops_lab_release_stuck") == 0


def test_an_alias_that_is_taken_away_leaves_its_version_answering(bot):
    before = bot.health()["releases"][0]["version"]
    with sqlite3.connect(bot.place.home / "mlflow.db") as store:
        gone = store.execute("SELECT * FROM registered_model_aliases WHERE name = 'support-bot'").fetchall()
        store.execute("DELETE FROM registered_model_aliases WHERE name = 'support-bot' AND alias = 'dev'")
    until(lambda: bot.health()["status"] == "stuck")
    assert "the alias cannot be looked up: no alias of 'support-bot'" in bot.health()["releases"][0]["problem"]
    assert bot.counter("llmops_lab_release_stuck") == 1 and f"Version {before} goes on answering" in bot.log
    assert bot.chat("still there?").choices
    with sqlite3.connect(bot.place.home / "mlflow.db") as store:
        store.executemany(f"INSERT INTO registered_model_aliases VALUES ({', '.join('?' * len(gone[0]))})", gone)
    until(lambda: bot.health()["status"] == "ok")
    assert bot.counter("llmops_lab_release_stuck") == 0 and "well again" in bot.log


CALL = {"id": "1", "type": "function", "function": {"name": "a", "arguments": "{}"}}
TALK = [
    {"role": "user", "content": "how is it?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "content": "fine"},
]


def test_calls_of_tools_stand_behind_the_question_that_fills_the_slot(bot):
    before = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello"}]
    assert text(bot.client.chat.completions.create(model="tools-bot", messages=[*before, *TALK])) == "fine"
    assert bot.upstream.requests[-1].body["messages"] == [*before, {"role": "user", "content": "first: how is it?"}, *TALK[1:]]
    bot.upstream.script(replies("fine"))
    bot.chat("two?", model="tools-bot", n=2, max_tokens=5)
    assert (bot.upstream.requests[-1].body["n"], bot.upstream.requests[-1].body["max_tokens"]) == (2, 5)  # each of them
    bot.upstream.script(replies("fine"))
    bot.chat("more?", model="tools-bot", max_tokens=50)
    asked = bot.upstream.requests[-1].body
    assert asked["max_tokens"] == 7 and "max_completion_tokens" not in asked  # a server refuses both in one request
    with pytest.raises(openai.BadRequestError, match="tool_calls, which support-bot cannot read") as raised:
        bot.client.chat.completions.create(model="support-bot", messages=TALK)
    assert raised.value.param == "messages[1].tool_calls"
