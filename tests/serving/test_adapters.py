"""Several adapters of one base, served at once: each request gets the model that it named, from one base in memory."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmops_lab.models import hf, tiny
from llmops_lab.records import Message, Request
from llmops_lab.settings import Settings
from tests.serving.serving_process import Served

pytest.importorskip("peft")

QUESTION = "Where does this ticket go? My invoice is wrong."


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """The embedded model bare and with each of two adapters, which were made up: they change what it says, for better or worse."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    found = [str(tiny.FOLDER)]
    for name, seed in (("one", 1), ("other", 2)):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(tiny.FOLDER)
        made = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"))
        folder = tmp_path_factory.mktemp("adapters") / name
        made.save_pretrained(folder)
        found.append(f"{tiny.FOLDER}+{folder}")
    return found


def alone(target):
    """What this model says when it has a base of its own."""

    async def ask():
        provider = hf.connect(target, settings=Settings())
        reply = await provider.ask(Request((Message("user", QUESTION),), {"max_tokens": 12}), timeout=60)
        await provider.close()
        return reply.text

    return asyncio.run(ask())


def test_each_name_gets_its_own_adapter(targets, tmp_path):
    wanted = [alone(target) for target in targets]
    assert len(set(wanted)) == 3
    names = [Path(target.rpartition("+")[2]).name for target in targets]
    with Served(tmp_path, *(f"hf:{target}" for target in targets)) as served, ThreadPoolExecutor(6) as pool:
        ask = {"max_tokens": 12, "extra_headers": {"Cache-Control": "no-cache"}}
        asked = [pool.submit(served.chat, QUESTION, name, **ask) for _ in range(3) for name in names]
        assert [each.result().choices[0].message.content for each in asked] == wanted * 3


def test_only_the_same_base_is_shared(targets):
    bare, one, other = (hf.connect(target, settings=Settings()) for target in targets)
    assert one.join(bare) and other.join(one) and not bare.join(tiny.connect("", settings=Settings()))

    async def ask():
        request = Request((Message("user", QUESTION),), {"max_tokens": 12})
        texts = [(await each.ask(request, timeout=60)).text for each in (other, bare, one, other)]
        for each in (bare, one):
            await each.close()
        again = (await other.ask(request, timeout=60)).text
        await other.close()
        return [*texts, again]

    assert asyncio.run(ask()) == [alone(targets[number]) for number in (2, 0, 1, 2, 2)]
