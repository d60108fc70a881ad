"""A LoRA adapter of the embedded model: trained by the tool, asked through ``hf:FOLDER+ADAPTER``."""

import sys
from pathlib import Path

import pytest

import llmops_lab as lab
from llmops_lab.models import tiny

pytest.importorskip("trl")
sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "embedded_model"))

import adapt
import corpus


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    adapt.adapt(tiny.FOLDER, folder, rows=64, steps=4)
    return folder


def test_an_adapter_is_another_model_that_is_otherwise_sure_of_its_answers(adapter, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
    rows = [{"ticket": row.messages[-1]["content"]} for row in corpus.draw(1, 24, fresh=True, task=corpus.route)]
    models = [lab.model(f"hf:{tiny.FOLDER}", label="bare"), lab.model(f"hf:{tiny.FOLDER}+{adapter}", label="adapted")]
    asked = {"params": {"max_tokens": 24, "logprobs": True}, "scorers": ["perplexity"], "track": False}
    grid = lab.grid({"route": "{{ ticket }}"}, rows, models=models, **asked)
    sure = grid.frame().pivot(index="row_id", columns="model", values="perplexity")
    assert grid.state == "done" and grid.frame()["key"].nunique() == 48
    assert (sure["bare"] != sure["adapted"]).all()
