"""What a result was made with: the git commit and whether files differ from it, the Python, and the lock of all installed packages."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from llmops_lab.redact import redact

_DISTRIBUTION = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-[^.]+)*\.(?:dist|egg)-info")
_HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")


def describe(folder: Path | None = None) -> dict[str, Any]:
    """The environment as a JSON-able dict: ``python``, ``platform``, ``llmops_lab``, ``git`` and ``packages``.

    ``git`` is None outside a repository (of ``folder``, default the working directory) or without git; else ``commit``
    (None before the first), ``branch`` (None when detached), ``dirty`` (None when it could not be told in two seconds)
    and ``changed``, the number of files that differ, untracked ones included. ``packages`` is a list of pip
    requirements, one for each installed distribution.
    """
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "llmops_lab": _own_version(),
        "git": git_state(folder or Path.cwd()),
        "packages": installed(),
    }


def installed() -> list[str]:
    """Each distribution on ``sys.path`` as a pip requirement, sorted; one installed from a repository names its commit.

    Read from the names of the metadata folders: parsing the metadata of 300 packages costs a hundred times more.
    """
    found: dict[str, str] = {}
    for entry in sys.path:
        folder = Path(entry or ".")
        try:
            names = sorted(os.listdir(folder))
        except OSError:  # an archive, or a folder that is gone
            continue
        for name in names:
            match = _DISTRIBUTION.fullmatch(name)
            if match and match["name"].lower() not in found:
                found[match["name"].lower()] = _requirement(match["name"], match["version"], f"{folder}/{name}")
    return [found[name] for name in sorted(found)]


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, branch and cleanliness of the repository that ``folder`` lies in; None where there is none. Writes nothing."""
    lines = _git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=normal")
    if lines is None:
        commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
        return {"commit": commit[0], "branch": None, "dirty": None, "changed": None} if commit else None
    header = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    changed = sum(not line.startswith("# ") for line in lines)
    commit_id, branch = header.get("branch.oid", "(initial)"), header.get("branch.head", "(detached)")
    return {
        "commit": None if commit_id == "(initial)" else commit_id,
        "branch": None if branch == "(detached)" else branch,
        "dirty": changed > 0,
        "changed": changed,
    }


def _git(folder: Path, *arguments: str) -> list[str] | None:
    environment = {name: value for name, value in os.environ.items() if name not in _HOOK_VARIABLES}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    # A repository's own settings may name a program to run for a status; it is not run.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command; only the folder is the user's
            command, capture_output=True, text=True, errors="replace", timeout=2.0, env=environment, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines() if done.returncode == 0 else None


def _requirement(name: str, version: str, folder: str) -> str:
    if not os.path.exists(f"{folder}/direct_url.json"):
        return f"{name}=={version}"
    try:
        origin = json.loads(Path(folder, "direct_url.json").read_text("utf-8"))
        revision = origin.get("vcs_info", {}).get("commit_id")
        if revision:
            return redact(f"{name} @ {origin['vcs_info'].get('vcs', 'git')}+{origin['url']}@{revision}")
        local = origin["url"].startswith("file:")
        return redact(f"{name}=={version}  # from a local folder" if local else f"{name} @ {origin['url']}")
    except (OSError, ValueError, KeyError, AttributeError):
        return f"{name}=={version}"


def _own_version() -> str:
    try:
        return metadata.version("llmops-lab")
    except metadata.PackageNotFoundError:
        return "not installed"
