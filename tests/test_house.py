"""The habits of the house that no linter holds."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from llmops_lab import plugins

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "llmops_lab"
MODULES = sorted(PACKAGE.rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CONSTRAINTS = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]


def relative(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_is_short_and_a_flow_shorter(path):
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= 400
    if path.parent.name == "flows":
        tree = ast.parse("\n".join(lines))
        long = [
            f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > 60
        ]
        assert long == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_has_a_plain_name_and_no_pickle_and_trusts_no_remote_code(path):
    assert not re.search(r"util|helper|manager|misc|common", path.stem)
    tree = ast.parse(path.read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {alias.name for node in imports for alias in node.names} | {getattr(node, "module", None) for node in imports}
    assert imported.isdisjoint({"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"})
    trusting = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        and node.arg == "trust_remote_code"
        and not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]
    assert trusting == []


@pytest.mark.parametrize(("kind", "function"), [("scorers", {"score", "adapt"}), ("models", {"connect"}), ("embedders", {"connect"})])
def test_a_plugin_is_one_file_with_a_summary_and_its_function(kind, function):
    for name in plugins.names(kind):
        tree = ast.parse((PACKAGE / kind / f"{name}.py").read_text("utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert defined & function, f"{kind}/{name}.py has none of {sorted(function)}"
        assert 10 <= len(plugins.summary(kind, name)) <= 140, f"{kind}/{name}.py: the first line of its docstring"


def test_the_constraints_are_exact_versions_without_addresses_or_local_builds():
    assert [line for line in CONSTRAINTS if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)] == []
    names = [line.partition("==")[0] for line in CONSTRAINTS]
    assert names == sorted(set(names))


def test_every_direct_dependency_is_pinned_to_a_version_that_its_floor_admits():
    pins = dict(line.split("==") for line in CONSTRAINTS)
    project = PYPROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values(), PYPROJECT["dependency-groups"]["dev"]]
    for requirement in (Requirement(text) for group in groups for text in group):
        name = canonicalize_name(requirement.name)
        if name != "llmops-lab":
            assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement} against {pins[name]}"


def test_the_extra_all_is_all_extras():
    extras = PYPROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    assert Requirement(everything).extras == set(extras) - {"all"}


def test_no_dependency_is_under_the_gpl():
    found = {name for name in _closure("llmops-lab", {"all"}) if _is_gpl(name)}
    assert found <= {"psycopg", "psycopg-binary"}  # LGPL, allowed by name


def test_the_core_does_not_need_torch():
    assert _closure("llmops-lab", set()).isdisjoint({"torch", "transformers", "litellm", "deepeval", "psycopg", "jupyterlab"})


def test_the_wheel_holds_the_package_and_its_data_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    inside = {name for name in names if ".dist-info/" not in name and ".data/" not in name}
    assert all(name.startswith("llmops_lab/") for name in inside)
    (shared,) = (name for name in names if ".data/" in name)  # Jupyter's server finds our routes by it
    assert shared.endswith(".data/data/etc/jupyter/jupyter_server_config.d/llmops_lab.json")
    assert {relative(path) for path in MODULES} | {"llmops_lab/py.typed"} <= inside
    assert any(name.endswith(".safetensors") for name in inside)
    assert any(name.endswith(".onnx") for name in inside)
    assert any(name.endswith(".csv") for name in inside)
    assert wheel.stat().st_size <= 6_500_000  # the embedded model takes 6 MB at most


def _closure(name, extras):
    """Names of all installed distributions that ``name`` with these extras needs."""
    seen, waiting = set(), [(name, frozenset(extras))]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            needed = distribution(name).requires or []
        except PackageNotFoundError:  # for another system, or for another version of Python
            continue
        for requirement in map(Requirement, needed):
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras | {""}):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return {name for name, _ in seen} - {"llmops-lab"}


def _is_gpl(name):
    try:
        metadata = distribution(name).metadata
    except PackageNotFoundError:
        return False
    licence = metadata.get("License-Expression") or " ".join(
        [(metadata.get("License") or "")[:80], *(line for line in metadata.get_all("Classifier") or [] if line.startswith("License"))]
    )
    return bool(re.search(r"GPL|General Public License", licence)) and " OR " not in licence
