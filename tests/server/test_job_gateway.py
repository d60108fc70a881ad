"""Kernels of a gateway: a Jupyter server of its own, whose kernels run our jobs."""

import pytest

import llmops_lab as lab
from llmops_lab.errors import UnknownName, Unreachable
from llmops_lab.jobs import kernels
from tests.jobs.queues import notebook, project
from tests.local_server import free_port
from tests.server.conftest import jupyter_server


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_mlflow):
    with project(tmp_path_factory.mktemp("gateway"), empty_mlflow) as folder:
        yield folder


@pytest.fixture(scope="module")
def gateway(place):
    root = place / "remote"
    root.mkdir()
    with jupyter_server(place, root) as (url, token), pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_GATEWAY_AUTH_TOKEN", token)
        lab.configure(kernel_gateway=url.rstrip("/"))
        yield root
        lab.configure(kernel_gateway=None)


def test_a_job_runs_on_a_kernel_of_the_gateway(place, gateway):
    assert "gateway:python3" in kernels.names(lab.configure())
    parent = "print(b'jupyter_server' in open(f'/proc/{os.getppid()}/cmdline', 'rb').read())"
    cells = ["import os", parent, "print('LLMOPS_LAB_JOB' in os.environ)", "print(twice * 2)"]
    path = notebook(place / "where.ipynb", *cells, parameters="twice: int = 4")
    job = lab.run(path, kernel="gateway:python3", wait=True).check()
    assert job.logs().split() == ["True", "False", "8"]
    bad = lab.run(notebook(place / "bad.ipynb", "1", "raise ValueError('there')"), kernel="gateway:python3", wait=True)
    assert (bad.state, bad.error["type"], bad.seen.record.cells_done) == ("failed", "ValueError", 1)
    gone = lab.run(notebook(place / "gone.ipynb", "import os\nos.kill(os.getpid(), 9)"), kernel="gateway:python3", wait=True)
    assert (gone.state, gone.exit_code) == ("dead_kernel", 138)


def test_what_the_gateway_has_not_is_said(place, gateway):
    path = notebook(place / "one.ipynb", "1")
    with pytest.raises(UnknownName, match=r"no kernel called 'gateway:pithon3'\. Did you mean gateway:python3"):
        lab.run(path, kernel="gateway:pithon3")


def test_a_gateway_that_is_away_is_named(place, gateway):
    before = lab.configure().kernel_gateway
    address = f"http://127.0.0.1:{free_port()}"
    try:
        lab.configure(kernel_gateway=address)
        with pytest.raises(Unreachable, match=address):
            lab.run(notebook(place / "one.ipynb", "1"), kernel="gateway:python3")
    finally:
        lab.configure(kernel_gateway=before)
