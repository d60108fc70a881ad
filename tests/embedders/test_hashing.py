import subprocess
import sys

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_lab import plugins
from llmops_lab.embedders import hashing
from llmops_lab.errors import BadInput
from llmops_lab.settings import Settings

embed = hashing.connect("", settings=Settings())


@given(st.lists(st.text()))
def test_rows_have_length_one_or_are_empty(texts):
    rows = embed(texts)
    assert rows.shape == (len(texts), hashing.DIMENSIONS)
    assert rows.dtype == numpy.float32
    for row, text in zip(rows, texts, strict=True):
        length = float(numpy.linalg.norm(row))
        assert length == pytest.approx(1, abs=1e-5) or (length == 0 and not any(letter.isalnum() or letter == "_" for letter in text))


@given(st.text(), st.text())
def test_a_row_does_not_depend_on_its_neighbours(first, second):
    assert numpy.array_equal(embed([first, second])[1], embed([second])[0])


def test_like_wording_is_near():
    asked, same, typo, other = embed(
        ["My card was charged twice", "my card was charged TWICE!", "my crad was charged twice", "The parcel never came"]
    )
    assert asked @ same == pytest.approx(1, abs=1e-5)
    assert 0.5 < asked @ typo < 1
    assert asked @ other < 0.2 < asked @ typo


def test_word_order_counts_a_little():
    one, two = embed(["dog bites man", "man bites dog"])
    assert 0.8 < one @ two < 0.999


def test_the_vectors_are_the_same_in_every_process():
    code = "from llmops_lab.embedders.hashing import embed; print(embed(['Übung macht den Meister'])[0].tobytes().hex())"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7", "PYTHONPATH": "."}
    )
    assert numpy.allclose(numpy.frombuffer(bytes.fromhex(found.stdout), dtype=numpy.float32), embed(["Übung macht den Meister"])[0])
    assert numpy.flatnonzero(embed(["a"])[0]).tolist() == [667, 857]


def test_it_takes_no_target():
    with pytest.raises(BadInput, match="takes no target"):
        hashing.connect("big", settings=Settings())


def test_the_embedders_are_found():
    assert {"hashing", "minilm", "openai"} <= set(plugins.names("embedders"))
    assert plugins.summary("embedders", "hashing").startswith("Words and letter groups")
