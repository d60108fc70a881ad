"""Local models stay loaded between grids and questions, and a grid sends them enough to fill their batches."""

import asyncio
import threading

import pytest

import llmops_lab as lab
from llmops_lab.models import tiny
from llmops_lab.models._warm import leave, warm
from llmops_lab.models.tiny import FOLDER

HF = f"hf:{FOLDER}"
ROWS = [{"id": str(number), "question": f"What is {number} plus {number % 7}?"} for number in range(40)]

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def opened(monkeypatch):
    """How often the embedded model was opened, and how many requests each of its batches held."""
    batches, loads = [], []
    load, write = tiny.Onnx.__init__, tiny.Onnx.write
    monkeypatch.setattr(tiny.Onnx, "__init__", lambda self, folder: loads.append(folder) or load(self, folder))
    monkeypatch.setattr(tiny.Onnx, "write", lambda self, drafts: batches.append(len(drafts)) or write(self, drafts))
    return loads, batches


def ask(models="tiny", rows=ROWS[:3], **more):
    return lab.grid({"plain": "{{ question }}"}, rows, models=models, params={"max_tokens": 8}, track=False, reuse=False, **more)


def test_a_second_grid_and_a_question_load_no_model_again(opened):
    loads, _ = opened
    ask()
    once = len(loads)
    assert once <= 1  # an earlier test may have left it
    ask()
    lab.ask("Who are you?", model="tiny", track=False)
    ask([lab.model("tiny", label="cold"), lab.model("tiny", label="hot", temperature=0.7)])
    assert len(loads) == once


def test_models_of_one_grid_stay_and_none_of_them_is_closed_under_the_other():
    ask(["tiny", HF])
    workers = {thread.ident for thread in threading.enumerate() if thread.name.startswith("llmops_lab ")}
    ask(["tiny", HF])
    lab.ask("Who are you?", model=HF, track=False)
    assert workers == {thread.ident for thread in threading.enumerate() if thread.name.startswith("llmops_lab ")}


def test_a_grid_on_a_local_model_fills_its_batches_whatever_its_concurrency_and_says_the_same(opened):
    _, batches = opened
    together = ask(rows=ROWS, concurrency=1).frame()["text"]
    assert 8 <= max(batches) <= 32 and sum(batches) == 40
    batches.clear()
    lab.configure(limits={"tiny": {"concurrency": 1}})
    try:
        alone = ask(rows=ROWS, concurrency=1).frame()["text"]
    finally:
        lab.configure(limits=None)
    assert set(batches) == {1}
    assert list(together) == list(alone) and together.nunique() > 5


def test_the_models_that_were_left_longest_ago_are_closed():
    class Local:
        local, pool, price, closed = True, "local", None, False

        def __init__(self, identity):
            self.identity = identity

        async def close(self):
            self.closed = True

    async def story():
        models = [Local(f"local:{number}") for number in range(4)]
        for model in models:
            await leave(model)
        again = Local("local:3")
        assert warm(again) is models[3] and warm(Local("local:0")).identity == "local:0"
        await leave(*models[:3])
        return models

    models = asyncio.run(story())
    assert [model.closed for model in models] == [True, True, False, True]
