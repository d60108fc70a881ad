"""Grids as MLflow runs. Pitfalls of MLflow that these tests hold (others: test_traces, test_outbox, test_connect, test_prompts):

- its default store is relative to the working directory: ``test_the_store_does_not_move_with_the_working_directory``;
  a store that the user chose is kept: ``test_a_tracking_uri_in_the_settings_is_honoured_every_time``
- a half-written run stays RUNNING and a second try doubles it: ``test_a_try_that_broke_off_anywhere_is_finished_not_doubled``
- logging draws names from the global random state and may touch the active run: ``test_the_users_run_experiment_and_random_state_stay``
- the author is empty: ``test_a_run_tells_all_that_is_known``; a dataset has a digest: the same test
- ``list_logged_prompts`` finds nothing: ``test_prompt_links_are_those_that_mlflow_writes`` searches by the tag that works
- rows are lost with a warning only: ``test_every_row_comes_back``
"""

import dataclasses
import json
import os
import random
import shutil

import mlflow
import pandas
import pytest

from llmops_lab.errors import BadInput, LabError, UnknownName
from llmops_lab.track import connect, runs


def runs_of(lab):
    client = connect.client(lab)
    return client.search_runs([client.get_experiment_by_name(lab.experiment).experiment_id])


def test_a_run_tells_all_that_is_known(lab, grid_entry):
    entry = grid_entry()
    run = runs.find_run(lab, runs.log_grid(entry, lab))
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")
    assert (run.info.start_time, run.info.end_time) == (1_700_000_000_250, 1_700_000_060_750)
    assert run.data.params == {
        "temperature": "0",
        "expected": "answer",
        "prompt.plain": "sha256:" + "ab" * 32,
        "model.tiny": "tiny:" + "cd" * 32 + ' {"seed": 7}',
    }
    assert run.data.metrics == entry["metrics"]
    assert run.data.tags["mlflow.user"] == runs.author() != ""
    assert run.data.tags["mlflow.source.git.commit"] == "f" * 40
    assert run.data.tags["mlflow.source.git.dirty"] == "true"
    assert (run.data.tags["team"], run.data.tags["llmops_lab.state"]) == ("search", "done")
    assert runs.LINKED_PROMPTS not in run.data.tags
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("data.csv", entry["dataset"]["digest"][:36])
    assert json.loads(dataset.dataset.profile)["num_rows"] == 4
    assert run.data.tags["llmops_lab.dataset.digest"] == entry["dataset"]["digest"]
    names = {file.path for file in connect.client(lab).list_artifacts(run.info.run_id)}
    assert names == {"cells.parquet", "grid.json", "summary.json", "environment.json", "requirements.txt"}


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("done", "FINISHED"),
        ("decided", "FINISHED"),
        ("cancelled", "KILLED"),
        ("budget", "KILLED"),
        ("unreachable", "FAILED"),
        ("failed", "FAILED"),
    ],
)
def test_the_status_is_true_to_the_state(lab, grid_entry, state, status):
    run = runs.find_run(lab, runs.log_grid(grid_entry(state=state), lab))
    assert (run.info.status, run.data.tags["llmops_lab.state"]) == (status, state)


def test_an_unknown_state_writes_nothing(lab, grid_entry):
    with pytest.raises(BadInput, match=r"'asleep'.*Known: done"):
        runs.log_grid(grid_entry(state="asleep"), lab)
    assert runs.list_runs(lab) == []


def test_every_row_comes_back(lab, grid_entry):
    entry = grid_entry(rows=1000)
    cells, info = runs.load_cells(runs.log_grid(entry, lab), lab)
    pandas.testing.assert_frame_equal(pandas.read_parquet(cells), pandas.read_parquet(entry["cells_path"]))
    assert info["prompts"] == entry["prompts"] and info["params"] == entry["params"] and info["metrics"] == entry["metrics"]


def test_the_same_grid_again_is_the_same_run(lab, grid_entry):
    entry = grid_entry()
    first = runs.log_grid(entry, lab)
    os.unlink(entry["cells_path"])  # delivered; the outbox's copy is gone and not needed
    assert runs.log_grid(entry, lab) == first
    assert len(runs_of(lab)) == 1


def test_a_try_that_broke_off_anywhere_is_finished_not_doubled(lab, grid_entry):
    steps = []
    whole = runs.find_run(lab, runs.log_grid(grid_entry(), lab, on_progress=lambda: steps.append(1)))
    for broken in range(1, len(steps) + 1):
        entry, left = grid_entry(), iter(range(broken))

        def break_off(left=left, last=broken - 1):
            if next(left) == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            runs.log_grid(entry, lab, on_progress=break_off)
        again = runs.find_run(lab, runs.log_grid(entry, lab))
        assert (again.info.status, again.info.end_time) == ("FINISHED", whole.info.end_time)
        assert (again.data.params, again.data.metrics) == (whole.data.params, whole.data.metrics)
        history = connect.client(lab).get_metric_history(again.info.run_id, "exact/plain/tiny")
        assert len(history) == len(again.inputs.dataset_inputs) == 1
        assert len(pandas.read_parquet(runs.load_cells(again.info.run_id, lab)[0])) == 4
    assert len(steps) > 5
    assert len(runs_of(lab)) == len(steps) + 1


def test_a_resumed_grid_brings_its_run_up_to_date_and_an_older_entry_does_not_take_it_back(lab, grid_entry):
    old = grid_entry(state="cancelled", metrics={"exact/plain/tiny": 0.25})
    new = grid_entry(
        grid=old["grid"], ended=old["ended"] + 10, metrics={"exact/plain/tiny": 0.75}, params={"temperature": 0, "concurrency": 4}
    )
    first = runs.log_grid(old, lab)
    assert runs.log_grid(new, lab) == runs.log_grid(old, lab) == first
    run = runs.find_run(lab, first)
    assert (run.info.status, run.data.tags["llmops_lab.state"], run.data.metrics["exact/plain/tiny"]) == ("FINISHED", "done", 0.75)
    assert run.data.params["concurrency"] == "4"


def test_the_users_run_experiment_and_random_state_stay(lab, grid_entry):
    connect.client(lab)
    mine = mlflow.set_experiment(f"{lab.experiment}-mine").experiment_id
    random.seed(42)
    state = random.getstate()
    with mlflow.start_run() as active:
        state = random.getstate()
        logged = runs.log_grid(grid_entry(name=""), lab)
        assert mlflow.active_run().info.run_id == active.info.run_id != logged
        assert random.getstate() == state
        mlflow.log_metric("mine", 1)
    assert mlflow.tracking.fluent._get_experiment_id() == mine
    assert runs.find_run(lab, active.info.run_id).data.metrics == {"mine": 1.0}
    assert runs.find_run(lab, logged).info.experiment_id != mine


def test_the_store_does_not_move_with_the_working_directory(lab, grid_entry, tmp_path, monkeypatch):
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found.append(runs.log_grid(grid_entry(), lab))
        assert list((tmp_path / name).iterdir()) == []
    assert {run["run_id"] for run in runs.list_runs(lab)} == set(found)
    cells, _ = runs.load_cells(found[0], lab)
    assert cells.is_file()


def test_a_tracking_uri_in_the_settings_is_honoured_every_time(lab, grid_entry, tmp_path, monkeypatch):
    shutil.copy(connect.tracking_uri(lab).removeprefix("sqlite:///"), tmp_path / "other.db")
    monkeypatch.chdir(tmp_path)  # MLflow puts the artifacts of a store that is not ours into the working directory
    other = dataclasses.replace(lab, tracking_uri=f"sqlite:///{tmp_path}/other.db")
    logged = {runs.log_grid(grid_entry(), other) for _ in range(2)}
    assert {run["run_id"] for run in runs.list_runs(other)} == logged
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert runs.list_runs(lab) == []


def test_prompt_links_are_those_that_mlflow_writes(lab, grid_entry):
    client = connect.client(lab)
    name = f"qa-{lab.experiment}"
    version = client.register_prompt(name, "{{ question }}").version
    prompts = [
        {"label": "v1", "name": name, "version": version, "sha256": "ab" * 32, "template": "{{ question }}"},
        {"label": "again", "name": name, "version": version, "sha256": "ab" * 32, "template": "{{ question }}"},
        {"label": "loose", "name": "", "version": None, "sha256": "cd" * 32, "template": "x"},
    ]
    ours = runs.find_run(lab, runs.log_grid(grid_entry(prompts=prompts), lab))
    theirs = client.create_run(ours.info.experiment_id, run_name="theirs").info.run_id
    client.link_prompt_version_to_run(theirs, f"prompts:/{name}/{version}")
    assert ours.data.tags[runs.LINKED_PROMPTS] == client.get_run(theirs).data.tags[runs.LINKED_PROMPTS]
    by_prompt = client.search_runs([ours.info.experiment_id], f'tags.`{runs.LINKED_PROMPTS}` LIKE \'%"{name}", "version": "{version}"%\'')
    assert {run.info.run_id for run in by_prompt} == {ours.info.run_id, theirs}
    assert ours.data.params["prompt.v1"].startswith(f"{name}/{version} sha256:abab")


def test_links_of_too_many_prompts_are_still_json():
    links = runs.linked_prompts([{"name": f"prompt-{number}", "version": 1} for number in range(1000)])
    assert 50 < len(json.loads(links)) < 1000 and len(links) <= 5000


def test_odd_names_long_values_and_many_of_them(lab, grid_entry):
    label = "openai:m@http://127.0.0.1:1/v1"
    entry = grid_entry(
        params={"long": "ü" * 20_000, "odd@name": True, "none": None, "text": "a\x00b\ud800c"}
        | {f"p{number}": number for number in range(250)},
        metrics={f"exact/plain/{label}": 1.0, "missing": None, "nan": float("nan"), "flag": True}
        | {f"m{number}": number for number in range(1200)},
        summary=[{"exact": float("nan")}],
        tags={f"t{number}": number for number in range(150)},
        models=[{"label": label, "identity": label, "params": {}}],
    )
    run_id = runs.log_grid(entry, lab)
    run = runs.find_run(lab, run_id)
    assert len(run.data.params["long"]) == 1000 and "cut from 20000 characters" in run.data.params["long"]
    assert (run.data.params["odd_name"], run.data.params["none"], run.data.params["text"]) == ("true", "null", "a\\x00b\\ud800c")
    assert (run.data.params["p249"], run.data.tags["t149"]) == ("249", "149")
    assert run.data.metrics["exact/plain/openai:m_http:/_/127.0.0.1:1/v1"] == 1.0
    assert len(run.data.metrics) == 1202 and not {"missing", "nan"} & set(run.data.metrics)  # missing is missing, not 0
    _, info = runs.load_cells(run_id, lab)
    assert info["params"]["long"] == "ü" * 20_000 and info["summary"] == [{"exact": None}]


def test_secrets_do_not_reach_mlflow(lab, grid_entry, mlflow_home, monkeypatch):
    secret = "correct-horse-battery-" + lab.experiment
    monkeypatch.setenv("SOME_API_KEY", secret)
    entry = grid_entry(
        name=f"n {secret}",
        params={"note": secret},
        tags={"note": secret},
        prompts=[{"label": secret, "name": "", "version": None, "sha256": "ab", "template": secret}],
        summary=[{"x": secret}],
        figures={"scores.html": f"<p>{secret}</p>"},
        environment={"packages": [f"a @ https://{secret}/a"]},
        dataset={"name": "d", "source": f"https://{secret}/d.csv", "digest": "00", "rows": 1, "columns": [secret]},
    )
    run_id = runs.log_grid(entry, lab)
    assert runs.find_run(lab, run_id).data.params["note"] == "[redacted]"
    for path in mlflow_home.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path
    assert [file.path for file in connect.client(lab).list_artifacts(run_id, "figures")] == ["figures/scores.html"]


def test_runs_that_cannot_be_found_or_read(lab, grid_entry):
    known = runs.log_grid(grid_entry(), lab)
    for unknown in ("0" * 32, "no such run"):
        with pytest.raises(UnknownName, match="no run called") as caught:
            runs.load_cells(unknown, lab)
        assert caught.value.known == [known]
    client = connect.client(lab)
    other = client.create_run(runs.experiment_id(client, lab.experiment), run_name="other").info.run_id
    with pytest.raises(LabError, match=r"\(other\) is not a grid"):
        runs.load_cells(other, lab)
    cells, _ = runs.load_cells(known, lab)
    cells.unlink()
    with pytest.raises(LabError, match=f"files of run {known} cannot be read"):
        runs.load_cells(known, lab)


def test_what_cannot_be_logged_says_what_to_do(lab, grid_entry):
    gone = grid_entry()
    os.unlink(gone["cells_path"])
    with pytest.raises(LabError, match=r"parquet does not exist. Run the grid again"):
        runs.log_grid(gone, lab)
    with pytest.raises(BadInput, match="letters and digits"):
        runs.log_grid(grid_entry(grid="a' OR '1'='1"), lab)
    client = connect.client(lab)
    client.delete_experiment(runs.experiment_id(client, lab.experiment))
    with pytest.raises(LabError, match=r"was deleted\. Restore it"):
        runs.log_grid(grid_entry(), lab)


def test_the_list_is_newest_first_and_of_grids_only(lab, grid_entry):
    assert runs.list_runs(lab) == []
    first, second = (runs.log_grid(grid_entry(name=name, started=1_700_000_000 + at), lab) for at, name in enumerate(("one", "two")))
    client = connect.client(lab)
    client.create_run(runs.experiment_id(client, lab.experiment), run_name="other")
    listed = runs.list_runs(lab)
    assert [(run["run_id"], run["name"]) for run in listed] == [(second, "two"), (first, "one")]
    assert listed[0]["ended"] == 1_700_000_060.75 and listed[0]["metrics"]["exact/plain/tiny"] == 0.5
    assert [run["run_id"] for run in runs.list_runs(lab, limit=1)] == [second]
