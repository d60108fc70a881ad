"""The templates finetune and sweep as jobs on a real kernel, with real MLflow, as a person starts them."""

import json
import shutil
import subprocess
import sys

import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput
from llmops_lab.flows.deliver import deliver
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track import connect
from tests.faults.conftest import environment
from tests.training import route

pytest.importorskip("trl")


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_mlflow):
    """A new user's folder with files of rows, and what runs a template in it: (job folder's run.json, what was said)."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(empty_mlflow, folder / "home")
    route.write(folder / "train.jsonl", route.rows(7, 24))
    route.write(folder / "test.jsonl", route.rows(9, 8, fresh=True))
    route.write(folder / "general.jsonl", route.rows(10, 8, fresh=True, routed=False))

    def run(template, out="", /, **given):
        values = [f"-p{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in given.items()]
        command = [sys.executable, "-m", "llmops_lab.cli", "run", template, *values, "--out", out or template]
        done = subprocess.run(command, cwd=folder, env=environment(folder / "home"), capture_output=True, text=True, timeout=280)
        record = folder / (out or template) / "run.json"
        return json.loads(record.read_text()) if record.exists() else None, done

    run.folder = folder
    return run


def test_finetune_ends_with_an_adapter_two_verdicts_and_one_plot(place, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # an earlier test's store
    files = {name: f"{name}.jsonl" for name in ("test", "general")}
    record, done = place("finetune", data="train.jsonl", **files, epochs=1, rank=4)
    assert done.returncode == 0 and record["state"] == "succeeded", done.stderr
    result = record["result"]
    assert result["verdict"].split(":")[0] in ("better", "worse", "equivalent", "inconclusive")
    assert "tuned against base" in result["forgetting"]
    assert (place.folder / "home" / "tuned" / result["digest"][:16] / "README.md").is_file()
    settings = Settings(home=str(place.folder / "home"))
    deliver(open_ledger(settings), settings)  # what waits: on a slow machine the job ended before MLflow had been opened
    run = connect.client(settings).get_run(result["run_id"])
    assert run.data.tags["llmops_lab.job"] == record["id"]
    cells = json.loads((place.folder / "finetune" / "notebook.ipynb").read_text())["cells"]
    plots = [output for cell in cells for output in cell.get("outputs", []) if "application/vnd.plotly.v1+json" in output.get("data", {})]
    assert len(plots) == 1 and len(plots[0]["data"]["application/vnd.plotly.v1+json"]["data"][0]["x"]) == 3
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell.get("outputs", []))


def test_sweep_ends_with_who_won_or_that_nobody_did(place):
    record, done = place("sweep", data="train.jsonl", validation="test.jsonl", epochs=0.5, tried={"rank": [2, 4]})
    assert done.returncode == 0 and record["state"] == "succeeded", done.stderr
    result = record["result"]
    assert result["winner"] is None and set(result["level"]) == {"rank=2", "rank=4"} and "distinguishable" in result["verdict"]
    assert "No verdict says that rank=" in result["verdict"] and result["failed"] == {}
    assert set(result["means"]) == {"base", "rank=2", "rank=4"} and result["recipe"]["rank"] == int(result["leader"][-1])


def test_what_is_wrong_with_the_files_is_said_before_a_job_begins(place):
    (place.folder / "text.jsonl").write_text('{"text": "x"}\n')
    for given, said in (
        ({"data": "text.jsonl"}, "it needs messages, or prompt and completion, or input and output"),
        ({"data": "train.jsonl", "test": "test.jsonl", "epochs": 0}, "epochs must be a number above 0, not 0.0."),
    ):
        record, done = place("finetune", "refused", **given)
        assert record is None and done.returncode == 2 and said in done.stderr, done.stderr
        assert not (place.folder / "refused").exists() and "Traceback" not in done.stderr


@pytest.fixture
def refused(place, monkeypatch):
    """Gives a template these values and returns what it is refused with; nothing of a job is left behind."""
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(place.folder / "home"))
    good = {"data": "train.jsonl", "test": "test.jsonl"}

    def given(template="finetune", /, **values):
        before = set((place.folder / "home").rglob("run.json"))
        with pytest.raises(BadInput) as caught:
            lab.run(template, **{**(good if template == "finetune" else {"data": "train.jsonl", "validation": "test.jsonl"}), **values})
        assert set((place.folder / "home").rglob("run.json")) == before
        return str(caught.value)

    return given


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"data": "none.jsonl"}, "none.jsonl does not exist. In that folder: "),
        ({"data": "empty.jsonl"}, "data: "),
        ({"data": ""}, "no file of training rows was named"),
        ({"data": "half.jsonl"}, "row 2 of "),
        ({"base": "hf:no/model"}, "base: no/model is neither a folder nor in the local hub cache. Type: hf download no/model"),
        ({"base": "tny"}, "Did you mean tiny?"),
        ({"base": "openai:gpt@http://127.0.0.1:1"}, "its weights are elsewhere"),
        ({"base": ""}, "no base model was named"),
        ({"method": "dora"}, "method "),
        ({"epochs": -1}, "epochs must be a number above 0"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0"),
        ({"rank": 0}, "rank must be a whole number, 1 or more, not 0."),
        ({"batch": 0}, "batch must be a whole number, 1 or more"),
        ({"test": "few.jsonl"}, "few.jsonl has 5 rows. No verdict can come of fewer than 6"),
        ({"test": ""}, "train.jsonl has 24 rows, and a tenth of them would be held out for the verdict, which needs 6 or more."),
    ],
)
def test_what_no_tuning_can_come_of_is_refused_before_anything_starts(place, refused, values, said):
    (place.folder / "empty.jsonl").write_text("")
    (place.folder / "half.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "", "completion": "b"}\n')
    route.write(place.folder / "few.jsonl", route.rows(11, 5))
    assert said in refused(**values)


def test_a_sweep_that_cannot_be_is_refused_before_anything_starts(refused):
    assert "no field of a recipe called 'rnk'" in refused("sweep", tried={"rnk": [4, 8]})
    assert "rank must be a whole number" in refused("sweep", tried={"rank": [4, 0]})
    assert "a sweep takes 2 to 12" in refused("sweep", tried={"rank": [4]})


def test_a_missing_package_and_a_full_disk_are_told_before_anything_starts(place, refused, monkeypatch):
    import importlib.util

    huge = place.folder / "huge"
    huge.mkdir()
    (huge / "config.json").write_text("{}")
    header = json.dumps({"model.layers.0.up.weight": {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}}).encode()
    (huge / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert "the tuning needs about 45056.0 GB of disk for its checkpoints" in refused(base=f"hf:{huge}", method="full")
    tried = {"learning_rate": [0.001, 0.003]}  # one after another: room for the checkpoints of one, and for what comes out of both
    assert "about 53248.0 GB of disk" in refused("sweep", base=f"hf:{huge}", method="full", tried=tried)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else find(name, *more))
    assert "bitsandbytes is not installed. Type: pip install 'llmops-lab[train]'" in refused(method="qlora")
