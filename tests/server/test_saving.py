"""What is in a notebook's file after it was saved through the server, as JupyterLab saves it."""

import copy
import json

import pytest

from tests.server.conftest import Browser

nbformat = pytest.importorskip("nbformat")

VIEW = "application/vnd.jupyter.widget-view+json"
OURS = {
    "output_type": "display_data",
    "metadata": {"llmops_lab": {"view": "grid"}},
    "data": {VIEW: {"model_id": "1" * 32, "version_major": 2}, "text/html": "<table></table>", "text/plain": "a table"},
}
OTHER = {
    "output_type": "display_data",
    "metadata": {},
    "data": {VIEW: {"model_id": "2" * 32, "version_major": 2}, "text/plain": "IntSlider()", "text/html": "<b>slider</b>"},
}
STATE = {"version_major": 2, "version_minor": 0, "state": {"1" * 32: {"model_name": "AnyModel"}, "2" * 32: {"model_name": "IntSlider"}}}


def notebook(*outputs, **metadata):
    cell = {"cell_type": "code", "id": "one", "execution_count": 1, "metadata": {}, "source": "g.show()", "outputs": list(outputs)}
    text = {"cell_type": "markdown", "id": "two", "metadata": {}, "source": "# hello"}
    return {"cells": [text, cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def save(jupyter):
    url, token, root = jupyter

    def put(content, name="a.ipynb", kind="notebook"):
        given = {"type": kind, "format": "json" if kind == "notebook" else "text", "content": copy.deepcopy(content)}
        browser = Browser(url)
        reply = browser.request(
            "PUT", f"api/contents/{name}", given, {"Authorization": f"token {token}", "Content-Type": "application/json"}
        )
        assert reply.status in (200, 201), reply.text
        saved = (root / name).read_text("utf-8")
        return nbformat.reads(saved, 4) if kind == "notebook" else saved

    return put


def outputs(saved):
    return saved["cells"][1]["outputs"]


def test_a_view_of_ours_keeps_its_readable_half_and_other_widgets_stay_whole(save):
    ours, other = outputs(save(notebook(OURS, OTHER)))
    assert ours["data"] == {name: value for name, value in OURS["data"].items() if name != VIEW}
    assert ours["metadata"] == OURS["metadata"]
    assert other["data"] == OTHER["data"]


def test_saving_again_changes_nothing_more(save):
    first = save(notebook(OURS, OTHER))
    assert save(first) == first


def test_the_state_of_a_view_that_is_gone_goes_with_it_and_that_of_others_stays(save):
    saved = save(notebook(OURS, OTHER, widgets={"application/vnd.jupyter.widget-state+json": STATE}))
    assert list(saved["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]) == ["2" * 32]


def test_a_view_without_a_readable_half_keeps_what_it_has(save):
    bare = {**OURS, "data": {VIEW: OURS["data"][VIEW], "text/plain": "a view"}}
    assert outputs(save(notebook(bare)))[0]["data"] == bare["data"]


@pytest.mark.parametrize(
    "odd",
    [
        {"llmops_lab": None},
        {"llmops_lab": "grid"},
        {"llmops_lab": {"view": None, "more": [1]}},
        {"llmops_lab": {"seen": True}},
    ],
)
def test_marks_that_are_no_marks_of_a_view_change_nothing(save, odd):
    other = {**OTHER, "metadata": odd}
    assert outputs(save(notebook(other)))[0]["data"] == other["data"]


def test_what_is_no_notebook_is_saved_as_it_is(save):
    text = json.dumps(notebook(OURS))
    assert save(text, "a.json", "file") == text


@pytest.mark.parametrize("content", [{"cells": None, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}, {"nbformat": 4}, []])
def test_the_hook_leaves_a_malformed_notebook_to_the_server(content):
    from llmops_lab.server.saving import readable_views

    model = {"type": "notebook", "content": copy.deepcopy(content)}
    readable_views(model=model, path="a.ipynb", contents_manager=None)
    assert model["content"] == content
