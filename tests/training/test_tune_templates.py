"""The templates finetune and sweep as jobs on a real kernel, with real MLflow, as a person starts them."""

import json
import shutil
import subprocess
import sys

import pytest

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
    assert set(result["means"]) == {"base", "rank=2", "rank=4"} and result["recipe"]["rank"] == int(result["leader"][-1])


def test_what_is_wrong_with_the_files_is_said_before_a_job_begins(place):
    (place.folder / "empty.jsonl").write_text("")
    (place.folder / "text.jsonl").write_text('{"text": "x"}\n')
    for given, said in (
        ({"data": "none.jsonl"}, "none.jsonl does not exist"),
        ({"data": "empty.jsonl"}, "has no rows"),
        ({"data": "text.jsonl"}, "it needs messages, or prompt and completion, or input and output"),
        ({"data": "train.jsonl", "base": "hf:no/model"}, "no/model"),
        ({"data": "train.jsonl", "method": "dora"}, "method"),
        ({}, "data"),
    ):
        record, done = place("finetune", "refused", **given)
        assert record is None and done.returncode == 2 and said in done.stderr, done.stderr
