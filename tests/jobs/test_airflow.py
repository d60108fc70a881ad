"""The example DAG, imported by the real Airflow; its commands, read by our own command line."""

import json
import os
import shlex
import string
import subprocess
import sys
from pathlib import Path

import pytest

from llmops_lab.cli import parser
from llmops_lab.flows.check_job import parameters_of
from llmops_lab.jobs.parameters import from_text

ROOT = Path(__file__).parents[2]
DAG = ROOT / "docs" / "examples" / "airflow_nightly.py"
AIRFLOW = ROOT / ".airflow"
LOOK = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("example", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
dag = module.dag
dag.check_cycle()
tasks = {t.task_id: {"command": t.bash_command, "env": t.env, "cwd": t.cwd, "retries": t.retries, "after": sorted(t.upstream_task_ids)}
         for t in dag.tasks}
print(json.dumps({"id": dag.dag_id, "schedule": dag.schedule, "catchup": dag.catchup, "tasks": tasks}))
"""


@pytest.fixture(scope="module")
def dag(tmp_path_factory):
    if not (AIRFLOW / "airflow").is_dir():
        pytest.skip("Airflow is not there: type make airflow")
    home = str(tmp_path_factory.mktemp("airflow"))
    told = subprocess.run(
        [sys.executable, "-c", LOOK, str(DAG)],
        env={**os.environ, "PYTHONPATH": str(AIRFLOW), "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout.splitlines()[-1])


def test_airflow_imports_the_example(dag):
    assert (dag["id"], dag["schedule"], dag["catchup"]) == ("llmops_lab_nightly", "30 2 * * *", False)
    assert {name: task["after"] for name, task in dag["tasks"].items()} == {"nightly": [], "deploy": ["nightly"]}
    assert all(task["cwd"] == "/srv/support-bot" and task["retries"] == 0 for task in dag["tasks"].values())


def test_its_commands_are_ones_that_llmops_lab_takes(dag):
    for name, task in dag["tasks"].items():
        words = shlex.split(task["command"])
        assert words[0].endswith("/llmops-lab")
        given = [string.Template(word).substitute(task["env"]) for word in words[1:]]
        options = parser().parse_args(given)
        assert (options.command, options.template, options.json) == ("run", name, True)
        _, declared = parameters_of(options.template)
        values = from_text(declared, options.pairs)
        assert {each.name for each in declared if each.required} <= set(values)


def test_no_value_can_become_a_command(dag):
    for task in dag["tasks"].values():
        bare = task["command"].replace('"', "\x00")
        parts = bare.split("\x00")
        assert all("$" not in outside for outside in parts[::2])  # what comes from outside stands in quotation marks
        hostile = dict.fromkeys(task["env"], "\"; touch owned; $(touch owned) `touch owned` '")
        told = subprocess.run(
            ["bash", "-c", f"llmops() {{ printf '%s\\n' \"$#\"; }}; llmops {task['command']}"],
            env={"PATH": os.environ["PATH"], **hostile},
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert (told.stdout.strip(), told.stderr) == (str(len(shlex.split(task["command"]))), "")
