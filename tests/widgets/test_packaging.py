"""What `pip install` builds: with bundles where they can be had, without node all the same, and from an sdist with no node at all."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUNDLES = {
    "grid.js",
    "grid.css",
    "diff.js",
    "diff.css",
    "rating.js",
    "rating.css",
    "job.js",
    "job.css",
    "page.js",
    "page.css",
    "THIRD-PARTY.txt",
}
NAME = "llmops_lab/widgets/static/"


@pytest.fixture
def tree(tmp_path):
    """The sources alone, as a clone has them, and a machine without node."""
    made = tmp_path / "tree"
    left_out = shutil.ignore_patterns("node_modules", ".yarn", "static", "__pycache__")
    for name in ("llmops_lab", "labextension", "templates"):
        shutil.copytree(ROOT / name, made / name, ignore=left_out)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy2(ROOT / name, made)
    return made


def build(tree, target):
    """Build this in a tree, where node cannot be found; the process, and what it made."""
    place = tree.parent / "dist"
    environment = {**os.environ, "PATH": str(tree.parent)}
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(place)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=120)
    return done, sorted(place.glob("*"))


def static_files(names):
    return {name.partition(NAME)[2] for name in names if NAME in name}


def test_without_node_the_package_comes_with_its_static_views_and_says_so(tree):
    done, [wheel] = build(tree, "wheel")
    assert done.returncode == 0, done.stderr
    assert "node was not found" in done.stdout + done.stderr
    names = zipfile.ZipFile(wheel).namelist()
    assert static_files(names) == set()
    assert "llmops_lab/templates/finetune.ipynb" in names
    assert any(name.endswith("data/etc/jupyter/jupyter_server_config.d/llmops_lab.json") for name in names)
    done, made = build(tree, "sdist")
    assert done.returncode != 0  # others would have to build what it lacks
    assert made == [wheel]


def test_an_sdist_brings_its_bundles_so_that_a_wheel_of_it_needs_no_node(tree):
    made = ROOT / NAME
    if not BUNDLES <= {path.name for path in made.glob("*")}:
        pytest.skip("the bundles are not built: install node and type make front")
    shutil.copytree(made, tree / NAME)
    (tree / NAME / "grid.js.map").write_text("{}")
    for path in (tree / NAME).iterdir():
        os.utime(path)  # newer than their sources, as a build leaves them
    done, [sdist] = build(tree, "sdist")
    assert done.returncode == 0, done.stderr
    with tarfile.open(sdist) as packed:
        assert static_files(packed.getnames()) == BUNDLES
        assert not [name for name in packed.getnames() if "node_modules" in name or name.endswith(".map")]
        packed.extractall(tree.parent / "unpacked", filter="data")
    sdist.unlink()
    [unpacked] = (tree.parent / "unpacked").iterdir()
    done, [wheel] = build(unpacked.rename(tree.parent / "again"), "wheel")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(wheel) as packed:
        assert static_files(packed.namelist()) == BUNDLES
        held = b"".join(packed.read(name) for name in packed.namelist() if NAME in name)
    assert str(ROOT).encode() not in held
    assert b"sourceMappingURL" not in held
