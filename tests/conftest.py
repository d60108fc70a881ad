"""What tests of several folders need."""

import os
import shutil

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


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A ledger's folder, yet to be made, in an empty project; nothing of the machine's own settings."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # so that what the package exports is undone too
    for name in list(os.environ):
        if name.startswith(("LLMOPS_LAB_", "MLFLOW_TRACKING_URI", "OPENAI_")) and name not in ("LLMOPS_LAB_FULL", "LLMOPS_LAB_SEED"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def mlflow_store(home, empty_mlflow):
    """MLflow's store, empty, where a grid will look for it."""
    home.mkdir()
    return shutil.copy(empty_mlflow / "mlflow.db", home / "mlflow.db")


@pytest.fixture
def server():
    """A server of models for one test."""
    from tests.servers import ModelServer

    with ModelServer() as made:
        yield made


@pytest.fixture(autouse=True)
def _no_experiment_is_left_behind():
    """``mlflow.set_experiment`` writes its choice into the environment, where it would outlive the test and its store."""
    before = os.environ.get("MLFLOW_EXPERIMENT_ID")
    yield
    if before is None:
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    else:
        os.environ["MLFLOW_EXPERIMENT_ID"] = before
