import json
import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from llmops_lab.errors import BadInput, TamperedPrompt, UnknownName, Unreachable
from llmops_lab.prompts.library import Library
from llmops_lab.prompts.template import Prompt
from llmops_lab.settings import Settings
from llmops_lab.track import connect
from llmops_lab.track.prompts import MAX_CHARS, REST_TAG, Registry


@pytest.fixture
def settings(mlflow_home, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("JUPYTERHUB_USER", "ann")
    return Settings(home=str(mlflow_home))


@pytest.fixture
def library(settings):
    return Library(Registry(settings))


@pytest.fixture
def mlflow_client(settings):
    return connect.client(settings)


@pytest.fixture
def name():
    return f"p{random.getrandbits(48):x}"


RICH = Prompt(
    [{"role": "user", "content": [{"type": "text", "text": "{{ q }}\r\n"}, {"type": "image_url", "image_url": {"url": "{{ u }}"}}]}],
    system="Sei höflich.",
    pattern="step_by_step",
    params={"temperature": 0, "stop": ("END",), "own": {"a": [1, 2.5]}},
    schema={"type": "object", "required": ["answer"]},
    examples=[{"q": "a", "u": "b", "output": "c"}],
)


@pytest.mark.parametrize(
    "prompt", [Prompt("Hi {{ x }}\r\n"), Prompt("{{ x }}", system="s"), Prompt([{"role": "user", "content": "x"}]), RICH]
)
def test_what_was_saved_is_what_is_loaded(library, name, prompt):
    version = library.save(prompt, name, author="bob", message="first")
    loaded = library.get(name)
    assert version == 1
    assert loaded == replace(prompt, name=name, version=1, author="bob", params=json.loads(json.dumps(prompt.params)))
    assert loaded.sha256 == prompt.sha256


def test_equal_content_is_the_same_version(library, name):
    assert library.save("one {{ x }}", name) == 1
    assert library.save("two {{ x }}", name) == 2
    assert library.save(Prompt("one {{ x }}", author="else"), name, message="again") == 1
    assert library.save(Prompt("one {{ x }}", params={"temperature": 0}), name) == 3
    assert [item.version for item in library.versions(name)] == [3, 2, 1]


def test_two_that_save_the_same_at_once_get_the_same_version(settings, name):
    libraries = [Library(Registry(settings)) for _ in range(4)]
    found = []
    barrier = threading.Barrier(4)

    def save(library):
        barrier.wait()
        found.append(library.save("same {{ x }}", name))

    threads = [threading.Thread(target=save, args=(library,)) for library in libraries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert [item.version for item in libraries[0].versions(name)] == sorted(set(found))


def test_other_tools_read_our_prompts(library, name, settings):
    import mlflow

    mlflow.set_tracking_uri(connect.tracking_uri(settings))
    library.save(Prompt("{{ q }}", system="Be kind.", params={"temperature": 0.5}, schema={"type": "object"}), name)
    theirs = mlflow.genai.load_prompt(f"prompts:/{name}/1")
    assert theirs.template == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "{{ q }}"}]
    assert theirs.model_config == {"temperature": 0.5}
    assert theirs.response_format == {"type": "object"}


def test_we_read_the_prompts_of_other_tools(library, mlflow_client, name):
    mlflow_client.create_prompt(name)
    mlflow_client.create_prompt_version(name, "Theirs: {{ q }}", model_config={"temperature": 0.3})
    loaded = library.get(name)
    assert loaded.render({"q": "?"})[0].content == "Theirs: ?"
    assert loaded.params == {"temperature": 0.3}
    assert library.versions(name)[0].sha256 is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mlflow.prompt.text", "Tampered {{ x }}"),
        (
            REST_TAG,
            json.dumps(
                {"shape": {"text": True, "system": False}, "examples": None, "pattern": None, "params": {"temperature": 2}, "schema": None}
            ),
        ),
        (REST_TAG, "{}"),
        ("llmops_lab.sha256", "0" * 64),
    ],
)
def test_a_tampered_version_is_refused(library, mlflow_client, name, key, value):
    library.save("Good {{ x }}", name)
    mlflow_client.set_prompt_version_tag(name, "1", key, value)
    for use in (library.get, library.show, lambda name: library.alias(name, "production", 1)):
        with pytest.raises(TamperedPrompt, match=f"{name}/1 was changed after it was saved"):
            use(name)


def test_a_version_whose_hash_was_taken_away_is_refused(library, mlflow_client, name):
    library.save("Good {{ x }}", name)
    mlflow_client.delete_prompt_version_tag(name, "1", "llmops_lab.sha256")
    with pytest.raises(TamperedPrompt):
        library.get(name)


def test_secrets_are_stored_redacted(library, name, monkeypatch, settings):
    monkeypatch.setenv("PLANTED_API_KEY", "planted-secret-0815")
    prompt = Prompt(
        "Use planted-secret-0815 and sk-abcdefghijklmnopqrst.", system="planted-secret-0815", params={"user": "planted-secret-0815"}
    )
    library.save(prompt, name, message="with planted-secret-0815")
    assert library.get(name).template == "Use [redacted] and [redacted]."
    assert library.get(name).sha256 == prompt.sha256
    for path in Path(settings.home).rglob("mlflow.db*"):
        assert b"planted-secret-0815" not in path.read_bytes()


def test_a_secret_that_appears_later_does_not_make_an_old_version_look_tampered(library, name, monkeypatch):
    library.save("The word is swordfish-1.", name)
    monkeypatch.setenv("NEW_TOKEN", "swordfish-1")
    assert library.get(name).template == "The word is swordfish-1."


def test_aliases_are_read_fresh_wherever_they_were_moved(library, mlflow_client, name):
    library.save("one", name, alias="production")
    library.save("two", name)
    assert library.get(f"prompts:/{name}@production").version == 1
    mlflow_client.set_prompt_alias(name, "production", 2)
    assert library.get(f"{name}@production").version == 2
    assert library.get(name, "production").version == 2


def test_the_address_says_which_version(library, name):
    library.save("one", name)
    library.save("two", name)
    found = [library.get(each).version for each in (name, f"{name}/1", f"prompts:/{name}/1", f"prompts:/{name}", f"{name}@latest")]
    assert found == [2, 1, 1, 2, 2]
    assert library.get(name, "1").version == 1


@pytest.mark.parametrize(
    ("address", "version", "says"),
    [
        ("{}/1", 1, "already says"),
        ("{}@", None, "no alias"),
        ("{}/production", None, "as in .*/3; an alias is written .*@production"),
        ("a b", None, "cannot name"),
    ],
)
def test_a_malformed_address_is_refused(library, name, address, version, says):
    library.save("one", name)
    with pytest.raises(BadInput, match=says):
        library.get(address.format(name), version)


def test_what_is_not_there_is_named_with_what_is(library, name):
    library.save("one", name, alias="production")
    with pytest.raises(UnknownName, match=f"no prompt called '{name}x'. Did you mean {name}"):
        library.get(f"{name}x")
    with pytest.raises(UnknownName, match="Did you mean production"):
        library.get(f"{name}@producton")
    with pytest.raises(UnknownName, match=r"version of prompt .* called '9'.*Known: 1"):
        library.get(f"{name}/9")
    with pytest.raises(UnknownName):
        library.versions("nothere")
    with pytest.raises(UnknownName):
        library.alias(name, "x", 9)


def test_rollback_goes_back_step_by_step(library, name):
    for text in ("one", "two", "three"):
        library.save(text, name, alias="production")
    assert library.rollback(name, "production") == 2
    assert library.get(f"{name}@production").template == "two"
    assert library.rollback(name, "production") == 1
    with pytest.raises(BadInput, match="no earlier version"):
        library.rollback(name, "production")
    assert library.alias(name, "production", 3) == 3
    assert library.rollback(name, "production") == 1


def test_the_history_of_an_alias_is_kept(library, name):
    library.save("one", name, alias="production", author="bob")
    library.save("two", name, alias="production", author="eve")
    library.alias(name, "production", 2)
    library.rollback(name, "production", author="bob")
    library.unalias(name, "production")
    moves = library.history(name, "production")
    assert [(move.previous, move.version, move.author, move.rollback) for move in moves] == [
        (None, 1, "bob", False),
        (1, 2, "eve", False),
        (2, 1, "bob", True),
        (1, None, "ann", False),
    ]
    assert [move.at for move in moves] == sorted(move.at for move in moves)
    (entry,) = [item for item in library.list() if item.name == name]
    assert entry.aliases.get("production") is None
    assert library.rollback(name, "production") == 1


def test_a_move_by_another_tool_can_be_rolled_back(library, mlflow_client, name):
    for text in ("one", "two", "three"):
        library.save(text, name)
    library.alias(name, "live", 1)
    mlflow_client.set_prompt_alias(name, "live", 3)
    assert library.rollback(name, "live") == 1
    mlflow_client.set_prompt_alias(name, "live", 2)
    library.alias(name, "live", 3)
    assert library.history(name, "live")[-1].previous == 2
    assert library.rollback(name, "live") == 2


def test_rollback_refuses_a_version_that_was_tampered_with(library, mlflow_client, name):
    library.save("one", name, alias="live")
    library.save("two", name, alias="live")
    mlflow_client.set_prompt_version_tag(name, "1", "mlflow.prompt.text", "evil")
    with pytest.raises(TamperedPrompt):
        library.rollback(name, "live")
    assert library.get(f"{name}@live").version == 2


@pytest.mark.parametrize("alias", ["latest", "Latest", "v1", "V22", "3", "a b", "", "a" * 101, "a/b"])
def test_reserved_and_malformed_aliases_are_refused_before_anything_is_saved(library, name, alias):
    if alias:
        with pytest.raises(BadInput, match="cannot be an alias"):
            library.save("one", name, alias=alias)
        with pytest.raises(UnknownName):
            library.get(name)
    library.save("one", name)
    with pytest.raises(BadInput, match="cannot be an alias"):
        library.alias(name, alias, 1)


@pytest.mark.parametrize("bad", ["", "a b", "a/b/c", "ä", "a" * 201])
def test_malformed_names_are_refused(library, bad):
    with pytest.raises(BadInput, match="name"):
        library.save("one", bad)


def test_a_name_that_belongs_to_a_model_is_refused(library, mlflow_client, name):
    mlflow_client.create_registered_model(name)
    with pytest.raises(BadInput, match="belongs to a model"):
        library.save("one", name)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("x" * (MAX_CHARS + 1), "100,001 characters; MLflow keeps at most 100,000"),
        (Prompt("x", examples=[{"a": "x" * MAX_CHARS, "output": "b"}]), "at most 100,000"),
        ("a\ud800b", "U\\+D800"),
        ("a\x00b", "U\\+0000"),
        (Prompt("x", params={"temperature": "hot"}), "temperature"),
        (Prompt([{"role": "user", "content": [{"type": "smell", "smell": "x"}]}]), "not one that MLflow can keep"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_leaves_nothing(library, name, prompt, says):
    with pytest.raises(BadInput, match=says):
        library.save(prompt, name)
    with pytest.raises(UnknownName):
        library.get(name)


def test_the_longest_prompt_fits(library, name):
    library.save("x" * MAX_CHARS, name)
    assert len(library.get(name).template) == MAX_CHARS


def test_the_author_is_the_one_given_else_the_prompts_own_else_the_user(library, name, monkeypatch):
    library.save(Prompt("one", author="bob"), name, author="eve")
    library.save(Prompt("two", author="bob"), name)
    library.save("three", name)
    assert [item.author for item in library.versions(name)] == ["ann", "bob", "eve"]
    monkeypatch.delenv("JUPYTERHUB_USER")
    library.save("four", name)
    assert library.versions(name)[0].author


def test_versions_and_list_say_where_the_aliases_are(library, name):
    library.save("one", name, alias="production", message="first try")
    library.save("two", name, alias="staging")
    assert [(item.version, item.aliases, item.message) for item in library.versions(name)] == [
        (2, ("staging",), ""),
        (1, ("production",), "first try"),
    ]
    (entry,) = [item for item in library.list() if item.name == name]
    assert (entry.latest, entry.aliases) == (2, {"production": 1, "staging": 2})


def test_more_versions_than_fit_a_page_are_all_found(library, mlflow_client, name):
    mlflow_client.create_prompt(name)
    for number in range(103):
        mlflow_client.create_prompt_version(name, f"t{number}")
    assert [item.version for item in library.versions(name)] == list(range(103, 0, -1))


def test_show_lays_a_version_out(library, name):
    library.save("Say <b>{{ x }}</b>", name, author="bob", message="m", alias="production")
    shown = library.show(f"{name}@production")
    assert str(shown).startswith(f"{name}/1 @production by bob, ")
    assert str(shown).endswith(": m\n\nSay <b>{{ x }}</b>")
    assert "&lt;b&gt;" in shown._repr_html_()


def test_diff_compares_versions(library, name):
    library.save("Answer the question.", name)
    library.save("Answer this question.", name)
    assert library.diff(name).parts == library.diff(f"{name}/1", f"{name}/2").parts
    assert library.diff(name).text == "Answer [-the-]{+this+} question."
    assert library.diff(f"{name}/1", Prompt("Answer the question.")).changed is False
    with pytest.raises(BadInput, match="first version"):
        library.diff(f"{name}/1")


def test_a_prompt_can_be_saved_on_from_an_address(library, name):
    library.save("one", name)
    assert library.save(f"prompts:/{name}/1", f"{name}.copy") == 1


def test_a_server_that_is_away_is_said_at_once(settings):
    away = Library(Registry(replace(settings, tracking_uri="http://user:hunter2@127.0.0.1:9")))
    for use in (lambda: away.save("one", "qa"), lambda: away.get("qa"), away.list):
        with pytest.raises(Unreachable, match=r"http://\[redacted\]@127.0.0.1:9 does not answer") as raised:
            use()
        assert "hunter2" not in str(raised.value)
