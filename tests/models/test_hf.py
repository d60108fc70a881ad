"""Local transformers: the embedded model's folder, copies of it, and an adapter on it."""

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmops_lab import plugins
from llmops_lab.errors import BadInput, MissingExtra, ProviderFault
from llmops_lab.models import tiny as embedded
from llmops_lab.records import Message, Request
from llmops_lab.settings import Settings
from tests.models.prompts_of_all_kinds import MIXED

torch = pytest.importorskip("torch", reason="the extra hf is not installed")
pytest.importorskip("transformers", reason="the extra hf is not installed")
FOLDER = embedded.FOLDER


def connect(target: object, **settings: object):
    return plugins.find("models", "hf").connect(str(target), settings=Settings(**settings))


def request(text: str, **params: object) -> Request:
    return Request((Message("user", text),), {"max_tokens": 40, **params})


def ask_all(provider, requests):
    async def together():
        return await asyncio.gather(*(provider.ask(each, timeout=120) for each in requests))

    return asyncio.run(together())


def ask(provider, text: str, **params: object):
    return ask_all(provider, [request(text, **params)])[0]


@pytest.fixture(scope="module")
def hf():
    provider = connect(FOLDER)
    yield provider
    asyncio.run(provider.close())


@pytest.fixture(scope="module")
def tiny():
    provider = plugins.find("models", "tiny").connect("", settings=Settings())
    yield provider
    asyncio.run(provider.close())


@pytest.fixture
def copied(tmp_path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "model"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    """A LoRA adapter that changes what the model says."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, local_files_only=True)
    model = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=256, target_modules="all-linear", init_lora_weights=False))
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return folder


def test_greedy_text_equals_the_cores_single_and_batched(hf, tiny):
    assert len(MIXED) >= 60
    requests = [request(text) for text in MIXED]
    core = [reply.text for reply in ask_all(tiny, requests)]
    assert [reply.text for reply in ask_all(hf, requests)] == core
    assert [ask_all(hf, [each])[0].text for each in requests[::3]] == core[::3]
    assert len(set(core)) > 20


def test_usage_finish_and_logprobs_equal_the_cores(hf, tiny):
    requests = [request(text, logprobs=True, max_tokens=6) for text in ("Who are you?", "Hello", "Repeat: lamp chair")]
    for one, other in zip(ask_all(hf, requests), ask_all(tiny, requests), strict=True):
        assert (one.text, one.usage, one.finish_reason) == (other.text, other.usage, other.finish_reason)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_each_row_of_a_batch_has_its_own_parameters(hf, tiny):
    requests = [
        request("Who are you?", max_tokens=2),
        request("Who are you?", stop="demo"),
        request("Hello", temperature=3.0, seed=5, max_tokens=8),
        request("Hello", temperature=3.0, seed=6, max_tokens=8),
        request("Who are you?"),
    ]
    one, other = ask_all(hf, requests), ask_all(tiny, requests)
    assert [reply.text for reply in one] == [reply.text for reply in other]
    assert [reply.finish_reason for reply in one[:2]] == ["length", "stop"]
    assert one[1].text == "I am a tiny "
    assert one[2].text != one[3].text


def test_a_stream_joins_to_the_text(hf):
    pieces: list[str] = []
    reply = asyncio.run(hf.ask(request("Who are you?"), timeout=120, on_text=pieces.append))
    assert len(pieces) > 3
    assert "".join(pieces) == reply.text == "I am a tiny demo assistant."
    assert 0 < reply.ttft_s <= reply.latency_s


def test_a_prompt_that_fills_the_context_is_a_bad_request(hf):
    with pytest.raises(ProviderFault, match="512") as caught:
        ask(hf, "word " * 600)
    assert caught.value.kind == "bad_request"


def test_its_thread_limit_is_its_own(hf):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        provider = connect(FOLDER)
        assert ask(provider, "Hello").text == "Hello! How can I help?"
        asyncio.run(provider.close())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_adapter_changes_the_text_and_the_identity(hf, adapter):
    adapted = connect(f"{FOLDER}+{adapter}")
    assert adapted.identity != hf.identity
    assert adapted.pool != hf.pool
    assert ask(adapted, "Who are you?").text != ask(hf, "Who are you?").text
    asyncio.run(adapted.close())


def test_a_model_retrained_in_place_is_a_new_model(copied, hf):
    same = connect(copied).identity
    assert same == hf.identity
    weights = bytearray((copied / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copied / "model.safetensors").write_bytes(weights)
    assert connect(copied).identity != same


def test_a_base_model_without_a_template_gets_the_bare_text(copied):
    (copied / "chat_template.jinja").unlink()
    provider = connect(copied)
    reply = ask(provider, "Repeat: lamp", max_tokens=1)
    assert reply.usage.input_tokens == len(embedded.Onnx(FOLDER)._tokenizer.encode("Repeat: lamp").ids)
    asyncio.run(provider.close())


def test_a_template_that_refuses_is_a_bad_request(copied):
    (copied / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    provider = connect(copied)
    with pytest.raises(ProviderFault, match="roles must alternate") as caught:
        ask(provider, "Hello")
    assert caught.value.kind == "bad_request"
    asyncio.run(provider.close())


def test_a_folder_that_cannot_be_loaded_fails_its_requests_and_is_not_retried(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    provider = connect(copied)
    with pytest.raises(ProviderFault, match="the local model broke") as caught:
        ask(provider, "Hello")
    assert (caught.value.kind, caught.value.retryable) == ("server_error", False)
    asyncio.run(provider.close())


def test_its_price_is_missing_until_an_hour_is_priced():
    assert connect(FOLDER).price is None
    assert connect(FOLDER, prices={"hf:": {"gpu_hour": 3.6}}).price.gpu_hour == 3.6


def test_pickled_weights_are_refused(copied):
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(BadInput, match="safetensors"):
        connect(copied)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("", "hf:PATH"),
        ("./no/such/folder", "no folder"),
        ("/no/such/folder", "no folder"),
        ("nobody/no-such-model", "hf download nobody/no-such-model"),
        ("nobody/no-such-model@v1", "--revision v1"),
        (f"{FOLDER}+/no/adapter", "adapter_config.json"),
        (f"{FOLDER.parent}", "config.json"),
    ],
)
def test_a_wrong_target_says_what_to_type(target, says):
    with pytest.raises(BadInput, match=says):
        connect(target)


def test_a_missing_package_names_the_extra(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "transformers" else real(name, *rest))
    with pytest.raises(MissingExtra, match=r"llmops-lab\[hf\]"):
        connect(FOLDER)


def test_two_models_may_be_loaded_at_once_in_a_process_that_never_imported_transformers(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text((FOLDER / "config.json").read_text().replace("{", '{ "note": "another",', 1))
    code = f"""
import llmops_lab as lab
models = [lab.model("hf:{FOLDER}", label="one"), lab.model("hf:{tmp_path}/copy", label="other")]
grid = lab.grid({{"p": "{{{{ q }}}}"}}, [{{"q": "hello"}}], models=models, track=False)
print(grid.frame()["status"].tolist())
"""
    environment = {**os.environ, "LLMOPS_LAB_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, env=environment, cwd=tmp_path)
    assert done.stdout.strip() == "['ok', 'ok']", done.stderr
