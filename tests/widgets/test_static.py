"""Without somebody who watches, or without the bundle, a view is text and HTML: nothing of a widget gets into the notebook."""

import html
import json
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

VIEW = """
import os, pathlib, sys
import llmops_lab.widgets as widgets
from llmops_lab.api.shown import mimebundle, show
from llmops_lab.api.views._view import Answer

class Small:
    name = "small"
    def call(self, method, params, *, user):
        return Answer({})
    def listen(self, push):
        return lambda: None
    def page(self):
        return "two rows", "<table><tr><td>two rows</td></tr></table>"
    def _repr_mimebundle_(self, include=None, exclude=None):
        return mimebundle(self)

widgets.STATIC = pathlib.Path(os.environ["TEST_STATIC"])
"""
WATCHED = "get_ipython().kernel._allow_stdin = True"  # what a notebook with a person in front of it has


@pytest.fixture
def static(tmp_path, monkeypatch):
    """A folder with a bundle of the test's view."""
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "small.js").write_text("export default { render() {} };")
    monkeypatch.setenv("TEST_STATIC", str(tmp_path / "static"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "static"


def executed(*cells):
    """A notebook with these cells, run by nbclient, which is papermill's own engine too."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (VIEW, *cells)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return NotebookClient(notebook, timeout=60).execute()


def shown(notebook):
    """The data of every output that shows something, and its metadata."""
    return [(dict(output.data), dict(output.metadata)) for cell in notebook.cells for output in cell.outputs if "data" in output]


def test_a_run_without_a_person_makes_no_widget_and_no_state(static):
    notebook = executed("show(Small())", "Small()")
    assert shown(notebook) == 2 * [({"text/plain": "two rows", "text/html": "<table><tr><td>two rows</td></tr></table>"}, {})]
    assert "widgets" not in notebook.metadata
    assert "jupyter.widget" not in json.dumps(notebook)


def test_a_cell_shows_what_it_has_shown_once_and_what_is_new_too(static):
    handle = (
        "from llmops_lab.api.shown import display\n"
        "class Handle:\n"
        "    def show(self):\n        show(Small(), of=self)\n"
        "    def _ipython_display_(self):\n        display(Small(), of=self)\n"
    )
    once = executed(handle, "one = Handle()\none.show()\none", "one")
    assert [len(cell.outputs) for cell in once.cells[2:]] == [1, 1]
    # The first is gone before the second is made, which may get its place in memory.
    both = executed(handle, "def gone():\n    Handle().show()\ngone()\nHandle()")
    assert len(both.cells[2].outputs) == 2


def test_where_somebody_watches_the_widget_is_beside_its_twin_and_holds_no_data(static):
    live = executed(f"{WATCHED}\nSmall()")
    [(data, metadata)] = shown(live)
    assert data["text/plain"] == "two rows"
    assert "two rows" in data["text/html"]
    assert set(data["application/vnd.jupyter.widget-view+json"]) == {"version_major", "version_minor", "model_id"}
    assert metadata == {"llmops_lab": {"view": "small"}}
    states = [each["state"] for each in live.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()]
    [model] = [state for state in states if state.get("_anywidget_id")]
    assert model["_esm"] == (static / "small.js").read_text()
    assert "two rows" not in json.dumps(states)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("os.environ['LLMOPS_LAB_STATIC'] = '1'", ""),
        ("(widgets.STATIC / 'small.js').unlink()", "type: make front"),
        ("sys.modules['anywidget'] = None", "pip install 'llmops-lab[lab]'"),
    ],
)
def test_what_is_missing_is_said_under_the_static_view(static, spoil, said):
    [(data, metadata)] = shown(executed(f"{WATCHED}\n{spoil}\nSmall()"))
    assert set(data) == {"text/plain", "text/html"}
    assert metadata == {}
    assert data["text/plain"].startswith("two rows")
    for text in data.values():
        told = html.unescape(text)
        assert said in told
        assert ("The static view" in told) == bool(said)


def test_nbval_gets_the_same_outputs_again(static, tmp_path):
    notebook = tmp_path / "small.ipynb"
    nbformat.write(executed("show(Small())"), notebook)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:deepeval",
        "--rootdir",
        str(tmp_path),
        str(notebook),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_outside_of_a_notebook_a_view_is_its_text(tmp_path, static):
    code = f"{VIEW}\nshow(Small())\nprint(sorted(mimebundle(Small())[0]))\nassert 'IPython' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stdout == "two rows\n['text/html', 'text/plain']\n", done.stderr


def test_what_a_live_view_loads_is_whole_before_the_next_cell_begins(static):
    # Plotly takes pandas from the loaded modules even while a view's thread is still loading it, and the cell that draws fails.
    loaded = "print(hasattr(sys.modules.get('pandas'), 'Series'))"
    notebook = executed(loaded, f"{WATCHED}\nSmall()", loaded)
    assert [notebook.cells[number].outputs[0].text for number in (1, 3)] == ["False\n", "True\n"]
