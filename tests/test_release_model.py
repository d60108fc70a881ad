"""A trained adapter in the registry: registered with its base, fetched and asked again, and refused once anything of it changed."""

import shutil

import pytest

import llmops_lab as lab
from llmops_lab import settings as _settings
from llmops_lab.errors import BadInput, TamperedRelease
from llmops_lab.flows.register_model import folder_digest
from llmops_lab.flows.resolve import resolve
from llmops_lab.models import tiny
from llmops_lab.store import audit
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track import connect

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A LoRA adapter that changes what the embedded model says."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny.FOLDER, dtype=torch.float32, local_files_only=True)
    model = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=256, target_modules="all-linear", init_lora_weights=False))
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(folder)
    (folder / "optimizer.pt").write_bytes(b"never registered: it may be a pickle")
    return folder


@pytest.fixture
def adapter(trained, tmp_path):
    """A copy, which a test may change."""
    return shutil.copytree(trained, tmp_path / "adapter")


@pytest.fixture
def home(tmp_path, monkeypatch, empty_mlflow):
    """A project of the test's own with an empty MLflow store."""
    for name in ("MLFLOW_TRACKING_URI", "LLMOPS_LAB_RELEASE"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    for name in ("mlflow.db", ".mlflow.db.version"):
        shutil.copy(empty_mlflow / name, home)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(home))
    monkeypatch.setenv("LLMOPS_LAB_REVIEWER", "anna")
    return home


def at(version, name="support"):
    return resolve(name, version, _settings.load())


def test_an_adapter_is_registered_once_promoted_fetched_and_asked(home, adapter):
    given = {"adapter": str(adapter), "model": f"hf:{tiny.FOLDER}+{adapter}", "run_id": "", "train_digest": "ab" * 32, "job": "j-1"}
    made = lab.register_model("support", given, note="first")
    assert (made.version, made.new) == (1, True)
    again = lab.register_model("support", adapter, base="tiny")
    assert (again.version, again.new, again.digest) == (1, False, made.digest)
    lab.promote("support", 1, "dev")
    found = at("dev")
    assert (found.kind, found.version, found.digest, found.author) == ("model", 1, made.digest, "anna")
    assert found.content["base"] == "tiny" and found.content["lineage"] == {"job": "j-1", "dataset": "ab" * 32, "trained": ""}
    folder = home / "models" / folder_digest(adapter)[:32]
    assert found.model == f"hf:{tiny.FOLDER}+{folder}" and not list(folder.glob("*.pt"))
    question = "Where is my parcel?"
    said = [lab.ask(question, model, track=False).text for model in (found.model, f"hf:{tiny.FOLDER}+{adapter}", "tiny")]
    assert said[0] == said[1] != said[2]
    named = lab.model("models:/support@dev", temperature=0)
    assert (named.spec, named.name, named.params) == (found.model, "support/1", {"temperature": 0})
    registered = audit.entries(open_ledger(_settings.load()), kind="registered", name="support")
    assert [entry.body["weights"] for entry in registered] == [folder_digest(adapter)]
    client = connect.client(_settings.load())
    (logged,) = client.search_logged_models([client.get_experiment_by_name("llmops_lab").experiment_id])
    assert (logged.status, logged.artifact_location) == ("READY", client.get_model_version("support", "1").source)


def test_a_bundle_pins_a_registered_model(home, adapter):
    lab.register_model("support", adapter, base="tiny")
    lab.promote("support", 1, "dev")
    made = lab.bundle("bot", model="models:/support@dev")
    assert made.content["model"] == {"spec": "models:/support/1", "identity": at(1).digest}
    assert lab.bundle("bot", model="models:/support/1").version == 1
    assert lab.bundle("bot/1").model == at(1).model
    assert "models:/support/1" in repr(made)


def test_files_that_were_changed_are_refused_wherever_they_lie(home, adapter):
    lab.register_model("support", adapter, base="tiny")
    folder = home / "models" / folder_digest(adapter)[:32]
    assert at(1).model.endswith(str(folder))
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 256', '"lora_alpha": 255'))
    with pytest.raises(TamperedRelease, match="Delete that folder"):
        at(1)
    shutil.rmtree(folder)
    assert at(1).version == 1
    (kept,) = (home / "mlartifacts").rglob("adapter_model.safetensors")
    shutil.rmtree(folder)
    weights = bytearray(kept.read_bytes())
    weights[-1] ^= 1
    kept.write_bytes(weights)
    with pytest.raises(TamperedRelease, match="changed in MLflow itself"):
        at(1)
    with pytest.raises(TamperedRelease):
        lab.promote("support", 1, "dev")


def test_a_base_that_was_trained_anew_is_refused(home, adapter, tmp_path):
    base = shutil.copytree(tiny.FOLDER, tmp_path / "base")
    lab.register_model("support", adapter, base=f"hf:{base}")
    assert at(1).model.startswith(f"hf:{base}+")
    config = base / "config.json"
    config.write_text(config.read_text().replace("{", '{"anew": 1,', 1))
    with pytest.raises(TamperedRelease, match="now that has other weights"):
        at(1)
    assert lab.register_model("support", adapter, base=f"hf:{base}").version == 2  # on another base it is another model


def test_a_whole_model_is_registered_without_a_base(home, tmp_path):
    made = lab.register_model("whole", tiny.FOLDER)
    assert made.version == 1 and at(1, "whole").model == f"hf:{home / 'models' / folder_digest(tiny.FOLDER)[:32]}"


def test_what_was_said_of_a_model_cannot_be_changed_in_mlflow(home, adapter):
    lab.register_model("support", adapter, base="tiny")
    client = connect.client(_settings.load())
    body = client.get_model_version("support", "1").tags["llmops_lab.content"]
    client.set_model_version_tag("support", "1", "llmops_lab.content", body.replace(folder_digest(adapter), "0" * 64))
    with pytest.raises(TamperedRelease, match="no longer has the digest"):
        at(1)


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ("nowhere", {}, "no folder"),
        ({"adapter": ""}, {}, "no folder"),
        ({"verdict": "better"}, {}, "no folder"),
        (7, {}, "not from 7"),
        (None, {}, "not from None"),
        ("empty", {}, "holds no .safetensors"),
        ("pickled", {"base": "tiny"}, "holds no .safetensors"),
        ("adapter", {}, "nothing without its base"),
        ("adapter", {"base": "openai:gpt@http://127.0.0.1:9"}, "cannot be the base"),
        ("adapter", {"base": "hf:/no/such/folder"}, "no folder"),
        ({"adapter": "adapter", "base": "tiny", "digest": "0" * 64}, {}, "no longer holds what the job wrote"),
    ],
)
def test_what_is_no_trained_folder_is_refused(home, adapter, tmp_path, what, options, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickled").mkdir()
    shutil.copy(adapter / "adapter_config.json", tmp_path / "pickled")
    (tmp_path / "pickled" / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(BadInput, match=message):
        lab.register_model("support", what, **options)
    assert connect.client(_settings.load()).search_registered_models() == []
