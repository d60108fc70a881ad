"""The documentation names everything, is not stale, and its code runs."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import llmops_lab as lab
from llmops_lab import errors, plugins
from llmops_lab.settings import Settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])


def page(name):
    return (DOCS / name).read_text("utf-8")


def relative(path):
    return str(path.relative_to(ROOT))


def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_reference_is_not_stale():
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "reference.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr  # else: make reference


def test_every_public_name_stands_in_the_reference():
    text = page("reference/python.md")
    assert [name for name in lab.__all__ if f"## lab.{name}\n" not in text] == []


def test_every_setting_stands_in_the_reference():
    text = page("reference/settings.md")
    assert [field.name for field in dataclasses.fields(Settings) if f"| `{field.name}` |" not in text] == []


@pytest.mark.parametrize(
    ("kind", "name", "mark"), [("scorers", "scorers", "##"), ("models", "models", "###"), ("embedders", "models", "###")]
)
def test_every_plugin_stands_in_the_reference(kind, name, mark):
    text = page(f"reference/{name}.md")
    assert [plugin for plugin in plugins.names(kind) if f"\n{mark} {plugin}\n" not in text] == []


def test_every_error_and_exit_code_stands_in_the_reference():
    text = page("reference/errors.md")
    classes = [name for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, errors.LabError)]
    assert len(classes) > 10
    assert [name for name in classes if f"## {name}\n" not in text] == []
    assert [code.name for code in errors.ExitCode if f"| {int(code)} | {code.name} |" not in text] == []


def test_the_guide_to_failures_has_each_kind_and_says_truly_which_are_tried_again():
    rows = re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|$", page("guides/budgets-and-resume.md"), re.MULTILINE)
    assert dict(rows) == {kind: "yes" if kind in errors.RETRYABLE_KINDS else "no" for kind in errors.FAULT_KINDS}


def test_every_core_dependency_and_extra_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    core, extras = page("dependencies.md").split("## Extras")
    names = [re.match(r"[\w-]+", requirement).group() for requirement in project["dependencies"]]
    assert re.findall(r"^\| ([\w-]+) \|", core, re.MULTILINE)[1:] == sorted(names)
    assert set(re.findall(r"^\| `(\w+)` \|", extras, re.MULTILINE)) == set(project["optional-dependencies"])


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_every_relative_link_leads_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link and not link.startswith("#")]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_picture_of_the_rings_can_be_read_without_seeing_it():
    picture = (DOCS / "img" / "rings.svg").read_text("utf-8")
    assert 'role="img"' in picture and "<title" in picture and "<desc" in picture
    description = re.search(r"<desc[^>]*>(.*?)</desc>", picture, re.DOTALL).group(1)
    folders = {path.name for path in (ROOT / "llmops_lab").iterdir() if (path / "__init__.py").exists()}
    assert [name for name in folders if name not in description] == []


@pytest.mark.parametrize("path", [ROOT / "README.md", DOCS / "index.md"], ids=relative)
def test_the_code_of_the_first_pages_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names = {"__name__": "page"}
    exec(compile("\n".join(blocks), relative(path), "exec"), names)
    assert names["v"].outcome in {"better", "worse", "inconclusive"}
