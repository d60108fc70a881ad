"""Settings: which source wins, and what none of them may say."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmops_lab import settings
from llmops_lab.errors import BadInput


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "_overrides", {})
    return tmp_path / "pyproject.toml"


def test_pyproject_gives_way_to_the_environment_and_both_to_configure(project, monkeypatch):
    project.write_text("[tool.llmops_lab]\nconcurrency = 3\ntimeout = 5\n")
    assert (settings.load().concurrency, settings.load().timeout, settings.load().retries) == (3, 5.0, 4)
    monkeypatch.setenv("LLMOPS_LAB_CONCURRENCY", "5")
    assert settings.load().concurrency == 5
    assert settings.configure(concurrency=7).concurrency == 7 and settings.origins()["concurrency"] == "configure()"
    assert settings.configure(concurrency=None).concurrency == 5 and settings.origins()["timeout"] == str(project)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("concurency = 3", "Did you mean concurrency"),
        ("concurrency = 'x'", "concurrency must be a whole number"),
        ("concurrency = 2.7", "concurrency must be a whole number"),
        ("concurrency = true", "concurrency must be a whole number"),
        ("concurrency = 0", "concurrency must be above 0"),
        ("timeout = inf", "timeout must be a number"),
        ("timeout = nan", "timeout must be a number"),
        ("retries = -1", "retries must be above 0"),
        ("trace_sample = 5", "from 0 to 1"),
        ("model = ['a']", "model must be a text"),
        ("home = false", "home must be a text"),
        ("keys = 5", "keys must be a table"),
        ("limits = { openai = { rpm = 'fast' } }", "rpm must be a number"),
        ("limits = { openai = { rps = 1 } }", "concurrency .* and rpm"),
        ("project = 'x'", "no setting"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_place(project, line, words):
    project.write_text(f"[tool.llmops_lab]\n{line}\n")
    with pytest.raises(BadInput, match=words) as caught:
        settings.load()
    assert str(project) in str(caught.value)


@pytest.mark.parametrize("text", ["[tool]\nllmops_lab = 5\n", "[tool.llmops_lab\n"])
def test_a_file_that_is_no_settings_is_named(project, text):
    project.write_text(text)
    with pytest.raises(BadInput, match="pyproject"):
        settings.load()


@pytest.mark.parametrize(("name", "value"), [("CONCURRENCY", ""), ("TIMEOUT", "x"), ("LIMITS", "{"), ("LIMITS", "[]"), ("PRICES", "5")])
def test_a_wrong_value_in_the_environment_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(f"LLMOPS_LAB_{name}", value)
    with pytest.raises(BadInput, match=name.lower() if value not in ("{",) else name):
        settings.load()


def test_settings_of_another_folder_hold_in_one_thread_and_to_its_end(tmp_path, monkeypatch):
    for name in ("LLMOPS_LAB_HOME", "LLMOPS_LAB_MODEL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("one", "two"):
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "pyproject.toml").write_text(f'[tool.llmops_lab]\nmodel = "{name}"\nhome = "kept"\n')
    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path / "bare")
    both = threading.Barrier(2)

    def seen(name):
        with settings.at(tmp_path / name / "below"):
            both.wait(10)
            found = settings.load()
            return found.model, settings.home_path(found), both.wait(10)

    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(seen, ("one", "two")))
    assert [each[:2] for each in told] == [(name, tmp_path / name / "below" / "kept") for name in ("one", "two")]
    assert settings.load().model == "tiny"
    with settings.at(tmp_path / "bare"), settings.at(tmp_path / "one"):
        assert settings.load().model == "one"
