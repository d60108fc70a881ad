import json
import os
import re
import subprocess
import sys
from importlib import metadata

import pytest

from llmops_lab.track import environment


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c"}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return subprocess.run(
            ["git", *arguments], cwd=tmp_path, check=True, capture_output=True, text=True, env=clean | identity
        ).stdout.strip()

    git("init", "-b", "main")
    return tmp_path, git


def test_git_from_no_commit_to_dirty(repository):
    folder, git = repository
    assert environment.git_state(folder) == {"commit": None, "branch": "main", "dirty": False, "changed": 0}
    (folder / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert environment.git_state(folder) == {"commit": commit, "branch": "main", "dirty": False, "changed": 0}
    (folder / "a.py").write_text("2")
    (folder / "new.ipynb").write_text("{}")  # not in the commit, so the commit does not reproduce it
    assert environment.git_state(folder) == {"commit": commit, "branch": "main", "dirty": True, "changed": 2}
    git("checkout", "--detach")
    assert environment.git_state(folder)["branch"] is None


def test_outside_a_repository_and_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment.git_state(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.git_state(tmp_path) is None


def test_a_hooks_variables_do_not_lead_to_another_repository(repository, tmp_path_factory, monkeypatch):
    folder, _ = repository
    monkeypatch.setenv("GIT_DIR", str(tmp_path_factory.mktemp("elsewhere")))
    assert environment.git_state(folder)["branch"] == "main"


def test_a_program_named_in_the_repository_is_not_run(repository):
    folder, git = repository
    (folder / "spy").write_text(f"#!/bin/sh\ntouch {folder}/ran\n")
    (folder / "spy").chmod(0o755)
    git("config", "core.fsmonitor", str(folder / "spy"))
    assert environment.git_state(folder)["changed"] == 1
    assert not (folder / "ran").exists()


def test_the_lock_names_every_distribution():
    def same(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    locked = {same(re.split(r"==| @ ", line)[0]) for line in environment.installed()}
    assert locked == {same(found.metadata["Name"]) for found in metadata.distributions() if found.metadata["Name"]}
    assert f"mlflow=={metadata.version('mlflow')}" in environment.installed()


def test_a_package_from_a_repository_names_its_commit_and_no_password(tmp_path, monkeypatch):
    for name, origin in {
        "fromgit": {"url": "https://user:hunter2hunter2@host.example/fromgit", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
        "local": {"url": "file:///somewhere", "dir_info": {"editable": True}},
        "wheel": {"url": "https://host.example/wheel-1.0.whl"},
        "odd": ["not an object"],
    }.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "missing")])
    assert environment.installed() == [
        "fromgit @ git+https://[redacted]@host.example/fromgit@c0ffee",
        "local==1.0  # from a local folder",
        "odd==1.0",
        "wheel @ https://host.example/wheel-1.0.whl",
    ]


def test_the_description_is_json_and_whole(repository):
    folder, _ = repository
    described = json.loads(json.dumps(environment.describe(folder)))
    assert set(described) == {"python", "implementation", "platform", "llmops_lab", "git", "packages"}
    assert described["python"] == ".".join(map(str, sys.version_info[:3]))
    assert described["git"]["branch"] == "main"
