"""The gate and deploy templates as jobs: real kernels, real servers, exit codes, and what the registry holds afterwards."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput, LabError, UnknownName
from llmops_lab.flows import deploy
from llmops_lab.flows.promote import Wish
from llmops_lab.settings import load
from llmops_lab.track import connect
from llmops_lab.track.registry import Registry

pytest.importorskip("papermill")
pytest.importorskip("uvicorn")
GOOD, BAD = "{{ text }}", "wrong {{ text }}"


@pytest.fixture(scope="module")
def project(tmp_path_factory, empty_mlflow):
    """A project with two versions of a prompt and rows that only the second one answers."""
    folder = tmp_path_factory.mktemp("gates")
    shutil.copytree(empty_mlflow, folder / "home")
    (folder / "pyproject.toml").write_text('[tool.llmops_lab]\nmodel = "echo"\n')
    rows = "".join(f"r{number},word {number},word {number}\n" for number in range(30))
    (folder / "rows.csv").write_text(f"id,text,answer\n{rows}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LLMOPS_LAB_HOME", str(folder / "home"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for text in (BAD, GOOD, f"{GOOD} "):
            lab.prompts.save(text, "support")
        yield folder


def job(folder, template, **parameters):
    """Run a template by the command; its exit code and its record."""
    out = folder / f"{template}-{time.monotonic_ns()}"
    pairs = [word for name, value in parameters.items() for word in ("-p", f"{name}={value}")]
    command = [sys.executable, "-m", "llmops_lab.cli", "run", template, *pairs, "--out", str(out)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    record = json.loads((out / "run.json").read_text("utf-8"))
    assert done.returncode == record["exit_code"], done.stderr
    return record, (out / "notebook.ipynb").read_text("utf-8")


def at(alias):
    """The version of ``support`` that an alias points at."""
    return Registry(load()).find("support").aliases.get(alias)


@contextlib.contextmanager
def taken_port():
    """A port on which something else listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def runs(pid):
    """Whether this process is alive and no zombie."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_gate_that_fails_ends_its_job_with_five_and_keeps_its_reasons(project):
    asked = {"candidate": "support/1", "champion": "support/2", "data": "rows.csv", "expected": "answer"}
    record, notebook = job(project, "gate", **asked)
    assert (record["state"], record["exit_code"], record["error"]["type"]) == ("gate_failed", 5, "GateFailed")
    assert "support/1 did not pass: main: worse" in record["error"]["message"]
    assert record["result"]["passed"] is False and record["result"]["candidate"]["version"] == "1"
    assert "gate failed" in notebook and "wrong word 7" in notebook  # the rows that count against it are shown


def test_a_gate_without_a_champion_ends_well_as_a_job_too(project):
    record, notebook = job(project, "gate", candidate="support/2", data="rows.csv", expected="answer", floor=0.8)
    assert (record["state"], record["exit_code"], record["result"]["passed"]) == ("succeeded", 0, True), record["error"]
    assert "clears the floor of 0.8; there is no champion to compare with" in notebook


def test_deploy_gates_promotes_serves_and_leaves_the_server_only_where_that_is_asked_for(project):
    asked = {"name": "support", "candidate": "support/2", "champion": "support/1", "data": "rows.csv", "expected": "answer"}
    record, notebook = job(project, "deploy", **asked, question="ping", keep="true")
    result = record["result"]
    assert (record["state"], result["version"], result["reply"], at("staging")) == ("succeeded", 2, "ping", 2), record["error"]
    assert "better" in notebook
    try:
        assert runs(result["pid"])  # though its job has ended, with all else that it started
        with urllib.request.urlopen(f"{result['url']}/models", timeout=20) as answer:
            assert "support@staging" in answer.read().decode()
    finally:
        os.kill(result["pid"], signal.SIGTERM)


def test_a_failed_gate_changes_nothing(project):
    before = at("staging")
    record, _ = job(project, "deploy", name="support", candidate="support/1", champion="support/2", data="rows.csv", expected="answer")
    assert (record["state"], record["exit_code"]) == ("gate_failed", 5)
    assert record["result"]["gate"]["passed"] is False and at("staging") == before


def test_an_alias_whose_server_does_not_answer_goes_back_to_where_it_was(project):
    asked = {"expected": "answer", "margin": 0.2, "scorer": "contains", "progress": False}
    if at("staging") is None:
        lab.promote("support", 2, "staging", gate=lab.gate("support/2", "support/1", "rows.csv", **asked).check())
    lab.gate("support/3", "support@staging", "rows.csv", **asked).check()
    with pytest.raises(LabError, match="did not answer as it must: the server ended with 2") as told, taken_port() as port:
        deploy.go_live(Wish("support", 3, "staging"), load(), port=port)
    assert "Rolled back: support@staging is at version 2 again" in str(told.value)
    assert at("staging") == 2


def test_a_first_version_whose_server_does_not_answer_is_taken_off_again(project):
    lab.prompts.save(GOOD, "first")
    with pytest.raises(LabError, match="did not answer as it must") as told, taken_port() as port:
        deploy.go_live(Wish("first", 1, "dev"), load(), port=port)
    assert "taken off again: first@dev points nowhere, as before" in str(told.value) and deploy.current("first", "dev", load()) == ""
    story = list(lab.history("first"))
    assert [line.what for line in story] == ["promoted", "rolled_back"] and "rolled back @dev: 1 -> none" in repr(lab.history("first"))
    assert (story[-1].previous, story[-1].version, story[-1].why) == (1, None, "the server under it did not answer as it must")
    with pytest.raises(BadInput, match="no earlier version"):
        lab.rollback("first", "dev")  # not to the one that was taken off


def test_a_rollback_that_fails_too_is_told_and_the_alias_is_said_to_be_where_it_is(project):
    for text in ("old {{ text }}", GOOD):
        lab.prompts.save(text, "twice")
    lab.promote("twice", 1, "dev")
    connect.client(load()).set_prompt_version_tag("twice", 1, "mlflow.prompt.text", "changed {{ text }}")
    with pytest.raises(LabError, match="did not answer as it must: the server ended with 2") as told, taken_port() as port:
        deploy.go_live(Wish("twice", 2, "dev"), load(), port=port)
    assert "could not be rolled back either: " in str(told.value) and "twice@dev still points at twice/2" in str(told.value)
    assert deploy.current("twice", "dev", load()) == "twice/2"
    assert [line.what for line in lab.history("twice")][-2:] == ["promoted", "refused"]  # the rollback's try


def test_what_somebody_released_meanwhile_is_not_rolled_back(project):
    for version in (1, 2):
        lab.promote("support", version, "dev")
    released = lab.promote("support", 3, "dev")
    lab.promote("support", 1, "dev", why="a colleague was faster")
    assert "not rolled back, for somebody moved it meanwhile: support@dev is at version 1" in deploy._take_back(released, load())
    assert at("dev") == 1


def test_a_bundle_is_deployed(project):
    lab.bundle("app", prompts={"main": "support/2"}, model="echo")
    standing = deploy.contender("app/1")
    gate = lab.gate(standing.spec, None, "rows.csv", expected="answer", floor=0.8, alias="staging", progress=False).check()
    side = gate.result.candidate
    live = deploy.go_live(Wish(side.registered, side.version, "staging"), load(), question="ping")
    assert (live.released.kind, live.reply) == ("bundle", "ping") and deploy.current("app", "staging", load()) == "app/1"


def test_a_smoke_test_asks_with_a_key_of_its_own_where_there_are_keys_and_ends_it(project):
    from llmops_lab.flows import keys

    if at("staging") is None:
        lab.promote("support", 2, "staging", gate=lab.gate("support/2", "support/1", "rows.csv", expected="answer", progress=False))
    keys.create("somebody")
    try:
        live = deploy.go_live(Wish("support", 2, "staging"), load(), question="ping")
        assert (live.reply, live.pid, live.url) == ("ping", None, None)
        assert [each.name for each in keys.listed() if each.revoked is None] == ["somebody"]
    finally:
        keys.revoke("somebody")


def test_a_candidate_is_a_job_a_folder_or_what_is_registered(project, tmp_path):
    assert deploy.contender("support/2") == deploy.Contender("support/2")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match="nothing without its base"):
        deploy.contender(str(tmp_path))
    assert deploy.contender(str(tmp_path), "hf:base").spec == f"hf:base+{tmp_path}"
    assert deploy.contender(f"hf:tiny+{tmp_path}").spec == f"hf:tiny+{tmp_path}"  # as a gate's candidate is called
    (tmp_path / "run.json").write_text(json.dumps({"state": "failed", "result": None}))
    with pytest.raises(BadInput, match="that job is failed and left no weights"):
        deploy.contender(str(tmp_path))
    (tmp_path / "run.json").write_text(json.dumps({"state": "succeeded", "result": {"adapter": "a", "model": "hf:tiny+a"}}))
    assert deploy.contender(str(tmp_path)).spec == "hf:tiny+a"
    with pytest.raises(BadInput, match="no candidate 'nothing'"):
        deploy.contender("nothing")


def test_an_alias_that_is_none_a_name_that_cannot_be_and_a_port_that_is_taken_are_refused_before_the_gate(project):
    deploy.check("support", "staging", 0, load())
    with pytest.raises(UnknownName, match="Did you mean staging"):
        deploy.check("support", "stagin", 0, load())
    with pytest.raises(BadInput, match="cannot be a name"):
        deploy.check("sup/port", "staging", 0, load())
    with pytest.raises(BadInput, match="cannot be used"), taken_port() as port:
        deploy.check("support", "staging", port, load())


def test_where_an_alias_points_nowhere_there_is_no_champion(project):
    assert deploy.current("support", "production", load()) == "" and deploy.current("nobody", "staging", load()) == ""
    lab.promote("support", 2, "dev")
    said = [deploy.champion(*where, "tiny", load()) for where in (("support", "dev"), ("support", "production"), ("nobody", "staging"))]
    assert said == ["support/2", "tiny", "tiny"]  # what is named is measured against only while there is nothing to replace
