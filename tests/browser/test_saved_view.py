"""A notebook with our views is saved, its kernel ends, and somebody opens it again: the readable half is there, never "model not found"."""

import json

import pytest

import llmops_lab
from tests.browser.conftest import NOTEBOOK

pytest.importorskip("anywidget", reason="anywidget is not installed")
BUNDLES = [f"{name}.js" for name in ("grid", "rating")]
VIEW = "application/vnd.jupyter.widget-view+json"
SHOWN = """import llmops_lab as lab
from IPython.display import display
from ipywidgets import IntSlider
rows = [{"id": f"r{number}", "q": f"question {number} <b>$x$</b>"} for number in range(30)]
g = lab.grid({"plain": "{{ q }}", "polite": "Please: {{ q }}"}, rows, models=["echo"], scorers=["length"], track=False, progress=False)
display(IntSlider())
lab.rate(g, lab.Rubric("Polite?", levels={1: "no", 2: "yes"}), mode="single", name="saved")
g.show();"""


@pytest.fixture(scope="module", autouse=True)
def _bundles(lab):
    from pathlib import Path

    folder = Path(llmops_lab.__file__).parent / "widgets" / "static"
    if not all((folder / name).is_file() for name in BUNDLES):
        pytest.skip("the bundles were not built: node is not installed")


def reopen(lab, path):
    """Open a notebook and end its kernel at once; the text that its outputs show, and whether its cell is trusted."""
    lab.open(path, usable=False)
    lab.page.evaluate("async () => { await window.panel.sessionContext.ready; await window.panel.sessionContext.shutdown(); }")
    lab.page.wait_for_selector(f"{NOTEBOOK} .jp-OutputArea-output table")
    lab.page.wait_for_timeout(6000)  # so long the widget manager may take to say that it has found no model
    return lab.text, lab.page.evaluate("() => window.panel.content.widgets[0].model.trusted")


def test_the_readable_half_of_a_view_is_there_when_the_notebook_is_opened_again_trusted_or_not(lab):
    lab.run(SHOWN)
    lab.page.wait_for_selector(f"{NOTEBOOK} .llmops-lab [role=grid]")
    live = [output for output in lab.outputs() if "llmops_lab" in output.get("metadata", {})]
    assert [output["metadata"]["llmops_lab"]["view"] for output in live] == ["rating", "grid"]
    assert all(VIEW in output["data"] for output in live)
    lab.save()
    lab.page.wait_for_selector(f"{NOTEBOOK} .llmops-lab [role=grid]")  # what is on the screen stays live
    path = lab.folder / "work.ipynb"
    saved = json.loads(path.read_text("utf-8"))
    outputs = saved["cells"][0]["outputs"]
    assert [VIEW in output["data"] for output in outputs if "data" in output] == [True, False, False]  # the slider is not ours
    assert path.stat().st_size < 40_000 and "widgets" not in saved["metadata"]

    copy = lab.folder / "untrusted.ipynb"
    saved["cells"][0]["outputs"] = [output for output in outputs if VIEW not in output.get("data", {})]
    copy.write_text(json.dumps(saved))  # another text than the one that was signed
    (lab.folder / "trusted.ipynb").write_bytes(path.read_bytes())
    lab.page.evaluate("async () => { await window.panel.sessionContext.shutdown(); window.panel.dispose(); }")
    for name, trusted in (("trusted.ipynb", True), ("untrusted.ipynb", False)):
        text, is_trusted = reopen(lab, name)
        assert is_trusted is trusted
        shown = text if trusted is False else text.replace("Error displaying widget: model not found", "", 1)  # the slider's, not ours
        assert "model not found" not in shown
        assert "question 0 <b>$x$</b>" in shown and "The first 20 of 60 cells" in shown
        assert "To rate, type: lab.queue('saved').show()" in shown
        assert shown.count("For the live view, run the cell again") == 2
        lab.page.evaluate("() => window.panel.dispose()")
