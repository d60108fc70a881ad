"""The front end's own checks, where its tools are: types, unit tests, and bundles that are small and hold nothing of this machine."""

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRONT = ROOT / "labextension"
WIDGETS = ("grid", "diff", "rating", "job")


def _node():
    """Node's version, (0, 0) without node."""
    if not shutil.which("node"):
        return 0, 0
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    return tuple(int(part) for part in told.strip().lstrip("v").split(".")[:2])


pytestmark = pytest.mark.skipif(
    _node() < (20, 19) or not (FRONT / "node_modules").is_dir(),
    reason="the front end's tools are not there: install node 20.19 or newer and type make front",
)


def jlpm(*words):
    """Run yarn as Jupyter ships it; what it said."""
    command = [sys.executable, "-c", "from jupyter_builder.jlpm import main; main()", *words]
    done = subprocess.run(command, cwd=FRONT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_types_hold():
    jlpm("lint")


def test_the_views_pass_their_own_tests():
    assert re.search(r"Tests\s.*\d+ passed", re.sub(r"\x1b\[[0-9;]*m", "", jlpm("test")))


def test_bundles_are_small_and_hold_no_trace_of_this_machine(tmp_path):
    subprocess.run(["node", "build.mjs", f"--out={tmp_path}"], cwd=FRONT, check=True, timeout=120, capture_output=True)
    assert {path.stem for path in tmp_path.glob("*.js")} == {*WIDGETS, "page"}
    for path in tmp_path.iterdir():
        text = path.read_text()
        assert str(ROOT) not in text, path.name
        assert "sourceMappingURL" not in text, path.name
    for name in WIDGETS:
        sizes = [len(gzip.compress((tmp_path / f"{name}{ending}").read_bytes(), 9)) for ending in (".js", ".css")]
        assert sum(sizes) <= 30 * 1024, (name, sizes)
    notices = (tmp_path / "THIRD-PARTY.txt").read_text()
    assert set(re.findall(r"^\S+ [\d.]+ \((.+)\)$", notices, re.MULTILINE)) <= {"MIT", "BSD-3-Clause", "Apache-2.0"}
    assert "preact" in notices


def test_building_bundles_that_are_there_ends_well():
    done = subprocess.run([sys.executable, "hatch_build.py"], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stderr) == (0, "")


def test_locked_packages_name_no_registry():
    lock = (FRONT / "yarn.lock").read_text()
    assert "preact@npm:" in lock
    assert "://" not in lock
