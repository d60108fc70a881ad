"""``llmops-lab prompts`` on a real library."""

import pytest

import llmops_lab as lab
from llmops_lab import cli
from tests.commands import Done, Place


class Here(Place):
    """Runs the command in this process: each new one would spend seconds on importing MLflow."""

    capsys = None

    def run(self, *words):
        self.capsys.readouterr()
        code = cli.main(list(words))
        return Done(code, *self.capsys.readouterr())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return Here(tmp_path_factory.mktemp("prompts"))


@pytest.fixture
def place(saved, monkeypatch, capsys):
    monkeypatch.chdir(saved.folder)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(saved.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    saved.capsys = capsys
    if not saved.home.exists():
        lab.prompts.save("Classify: {{ ticket }}", "triage", author="ann", message="first", alias="production")
        lab.prompts.save("Classify the ticket: {{ ticket }}", "triage", author="bob")
        lab.prompts.save("Hello", "greeting")
    return saved


def test_list_names_all_prompts_or_the_versions_of_one(place):
    out = place.run("prompts", "list").out.splitlines()
    assert [line.split()[0] for line in out] == ["greeting", "triage"]
    assert "version 2" in out[1]
    out = place.run("prompts", "list", "triage").out.splitlines()
    assert [line.split()[0] for line in out] == ["triage/2", "triage/1"]
    assert "by ann" in out[1] and out[1].endswith(": first")


def test_show_and_diff(place):
    assert "Classify: {{ ticket }}" in place.run("prompts", "show", "triage@production").out
    assert "the ticket" in place.run("prompts", "diff", "triage").out
    assert place.run("prompts", "diff", "triage/1", "triage/2").code == 0


def test_an_alias_that_the_settings_guard_is_not_moved_by_hand(place, monkeypatch):
    monkeypatch.setenv("LLMOPS_LAB_RELEASE", '{"gate": ["production"]}')
    said = place.run("prompts", "alias", "triage", "production", "2")
    assert said.code == 2 and "triage@production asks for a gate" in said.err and "lab.promote('triage', 2, 'production')" in said.err
    assert lab.prompts.get("triage@production").version == 1


def test_an_alias_is_moved_and_rolled_back_and_a_question_uses_it(place):
    assert place.run("prompts", "alias", "triage", "production", "2").out == "triage@production is version 2\n"
    asked = place.run("ask", "prompts:/triage@production", "--set", "ticket=x", "--model", "echo", "--no-track")
    assert asked.out == "Classify the ticket: x\n"
    assert place.run("prompts", "rollback", "triage", "production").out == "triage@production is back at version 1\n"
    again = place.run("prompts", "rollback", "triage", "production")
    assert again.code == 2 and "no earlier version" in again.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("show", "triag"), "Did you mean triage?"),
        (("show", "triage@prod"), "Did you mean production?"),
        (("show", "triage/9"), "Known: 1, 2"),
        (("diff", "greeting"), "is the first version"),
        (("alias", "triage", "v3"), "cannot be an alias"),
        (("alias", "triage", "live", "7"), "Known: 1, 2"),
        (("rollback", "greeting", "live"), "no earlier version"),
    ],
)
def test_wrong_names_are_answered_with_what_is_there(place, words, expected):
    done = place.run("prompts", *words)
    assert done.code == 2 and expected in done.err and "Traceback" not in done.err, done.err


def test_an_empty_library_says_how_to_fill_it(tmp_path):
    done = Place(tmp_path).run("prompts", "list")
    assert done.code == 0 and done.out == "" and "%%prompt NAME --save" in done.err


def test_a_library_on_a_server_that_is_down_is_said_to_be_away(tmp_path):
    done = Place(tmp_path).run("prompts", "list", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.code == 4 and "does not answer" in done.err
