"""What tests of several folders need."""

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
