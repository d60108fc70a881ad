"""What tests of several folders need."""

import os

import pytest

from llmops_lab.settings import Settings
from llmops_lab.track import connect


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory):
    """A folder with MLflow's store as a first run makes it, to be copied: made once, for it takes many seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")
        connect.client(Settings(home=str(folder)))
    return folder


@pytest.fixture(autouse=True)
def _no_experiment_is_left_behind():
    """``mlflow.set_experiment`` writes its choice into the environment, where it would outlive the test and its store."""
    before = os.environ.get("MLFLOW_EXPERIMENT_ID")
    yield
    if before is None:
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    else:
        os.environ["MLFLOW_EXPERIMENT_ID"] = before
