"""One upstream and one local server for all tests of the folder that leave them as they are."""

import pytest

from tests.servers import ModelServer
from tests.serving.serving_process import Served


@pytest.fixture
def upstream():
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("tiny"), "tiny") as served:
        yield served


PRICE = '[tool.llmops_lab.prices]\n"openai:" = {{ input = {input}, output = {output} }}\n'


@pytest.fixture
def priced(tmp_path):
    """A folder whose settings say what a token costs, in USD per million."""

    def make(given=1.0, made=1_000_000.0):
        (tmp_path / "pyproject.toml").write_text(PRICE.format(input=given, output=made))
        return tmp_path

    return make
