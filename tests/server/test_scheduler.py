"""jupyter-scheduler runs its jobs through our engine: its own Scheduler and its own tables, our states and records."""

import json
import os

import pytest

import llmops_lab as lab
from tests.jobs.queues import notebook, project
from tests.waiting import until

_OPEN = ("STOPPED", "CREATED", "QUEUED", "IN_PROGRESS")  # a job that has not begun is "stopped" there
ENGINE = "llmops_lab.server.scheduler.LabExecutionManager"


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_mlflow):
    with project(tmp_path_factory.mktemp("scheduler"), empty_mlflow) as folder:
        yield folder


@pytest.fixture(scope="module")
def scheduler(place):
    pytest.importorskip("jupyter_scheduler", reason="jupyter-scheduler is not installed")
    from jupyter_scheduler.environments import CondaEnvironmentManager
    from jupyter_scheduler.orm import create_tables
    from jupyter_scheduler.scheduler import Scheduler
    from traitlets.config import Config

    url = f"sqlite:///{place}/scheduler.sqlite"
    create_tables(url)
    config = Config({"Scheduler": {"execution_manager_class": ENGINE, "task_runner_class": None, "staging_path": str(place / "staging")}})
    return Scheduler(root_dir=str(place), environments_manager=CondaEnvironmentManager(), db_url=url, config=config)


def submitted(scheduler, path, **more):
    from jupyter_scheduler.models import CreateJob

    asked = {"name": "job", "input_uri": os.path.basename(path), "runtime_environment_name": "base", "output_formats": ["ipynb", "html"]}
    return scheduler.create_job(CreateJob(**asked, **more))


def ended(scheduler, job):
    until(lambda: scheduler.get_job(job, False).status.value not in _OPEN, 120)
    return scheduler.get_job(job, False)


def test_a_scheduled_job_runs_through_our_engine(scheduler, place):
    path = notebook(place / "good.ipynb", "print(2 * number, type(number).__name__)", parameters="number: int = 1")
    told = ended(scheduler, job := submitted(scheduler, path, parameters={"number": "21"}))
    assert (told.status.value, told.status_message) == ("COMPLETED", None)
    made = scheduler.get_staging_paths(scheduler.get_job(job, False))
    with open(made["ipynb"], encoding="utf-8") as file:
        outputs = [output for cell in json.load(file)["cells"] for output in cell.get("outputs", [])]
    assert "".join(outputs[0]["text"]) == "42 int\n" and os.path.getsize(made["html"]) > 1000
    assert [(each.state, each.parameters) for each in lab.jobs()] == [("succeeded", {"number": 21})]


def test_a_scheduled_job_that_fails_says_how(scheduler, place):
    bad = submitted(scheduler, notebook(place / "bad.ipynb", "1", "import os\nos.kill(os.getpid(), 9)"))
    wrong = submitted(scheduler, notebook(place / "typed.ipynb", "1", parameters="number: int = 1"), parameters={"number": "many"})
    told = ended(scheduler, bad)
    assert told.status.value == "FAILED" and told.status_message.startswith("dead kernel: ")
    made = scheduler.get_staging_paths(scheduler.get_job(bad, False))
    assert os.path.isfile(made["ipynb"]), "what was executed so far can be read"
    told = ended(scheduler, wrong)
    assert told.status.value == "FAILED" and "number" in told.status_message
    assert lab.jobs()[0].state == "dead_kernel", "nothing was started for a wrong parameter"
