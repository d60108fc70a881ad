"""The names that users rely on. A change here is a change of the public interface and belongs in CHANGELOG.md."""

import importlib
import inspect

import pytest

import llmops_lab as lab

NAMES = [
    "Examples",
    "Prompt",
    "Rubric",
    "Score",
    "agreement",
    "ask",
    "bundle",
    "calibrate",
    "compare",
    "compare_all",
    "configure",
    "diff",
    "estimate",
    "evaluation",
    "gate",
    "grid",
    "history",
    "job",
    "job_form",
    "job_result",
    "jobs",
    "judge",
    "judge_bias",
    "load",
    "model",
    "models",
    "promote",
    "prompts",
    "queue",
    "rate",
    "register_model",
    "retire",
    "rollback",
    "run",
    "scorer",
    "scorers",
]


def test_the_public_names_are_these():
    assert sorted(lab.__all__) == NAMES


def test_dir_shows_the_public_names():
    assert set(NAMES) <= set(dir(lab))


def test_the_extension_can_be_loaded_and_unloaded():
    assert callable(lab.load_ipython_extension)
    assert callable(lab.unload_ipython_extension)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_says_what_it_is(name):
    assert len(inspect.getdoc(getattr(lab, name)) or "") > 20


def test_a_public_name_is_not_replaced_by_the_folder_of_the_same_name():
    before = {name: getattr(lab, name) for name in NAMES}
    for folder in ("models", "prompts", "scorers"):
        importlib.import_module(f"llmops_lab.{folder}")
    assert {name: getattr(lab, name) for name in NAMES} == before
    assert callable(lab.models) and callable(lab.scorers) and callable(lab.prompts.list)


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert not hasattr(lab, "no_such_name")
