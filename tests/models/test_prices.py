"""What a call costs: own prices, the shipped lists, and the many models whose price nobody knows."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmops_lab
from llmops_lab import plugins
from llmops_lab.errors import BadInput
from llmops_lab.models import _prices, echo, openai
from llmops_lab.models._prices import price_of
from llmops_lab.models._provider import Price
from llmops_lab.models.tiny import FOLDER
from llmops_lab.records import Usage
from llmops_lab.settings import Settings

SERVER = "openai:m@http://127.0.0.1:8000/v1"


@pytest.fixture(autouse=True)
def no_servers(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)


def price(spec, **own):
    return price_of(spec, Settings(prices=own.pop("prices", {})))


@pytest.mark.parametrize(
    "spec",
    ["echo", "tiny", "hf:/models/a", "mlflow:models:/a/1", SERVER, "openai:gpt-4o-mini@https://other.example/v1", "openai:no-such-model",
     "litellm:ollama/llama2", "litellm:openai/no-such-model", "litellm:../openai/gpt-4o-mini", "litellm:openai", "openai:", ""],
)  # fmt: skip
def test_an_unknown_price_is_missing_and_not_0(spec):
    assert price(spec) is None


def test_the_shipped_list_of_mlflow():
    for spec in ("openai:gpt-4o-mini", "openai:gpt-4o-mini@https://api.openai.com/v1", "litellm:openai/gpt-4o-mini"):
        found = price(spec)
        assert (found.input, found.output, found.gpu_hour) == (pytest.approx(0.15e-6), pytest.approx(0.6e-6), None)


def test_the_shipped_list_of_litellm_when_mlflow_has_none(monkeypatch):
    if importlib.util.find_spec("litellm") is None:
        pytest.skip("litellm is not installed")
    read = _prices._read
    monkeypatch.setattr(_prices, "_read", lambda package, path: {} if package == "mlflow" else read(package, path))
    assert price("openai:gpt-4o-mini").output == pytest.approx(0.6e-6)
    assert price("litellm:anthropic/gpt-4o-mini") is None  # another provider's model


def test_a_list_is_not_asked_about_somebody_elses_server(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:4000/v1")
    assert price("openai:gpt-4o-mini") is None
    assert price("litellm:openai/gpt-4o-mini") is None
    assert price("openai:gpt-4o-mini@https://api.openai.com/v1/").input == pytest.approx(0.15e-6)


@pytest.mark.parametrize(
    ("key", "covered"),
    [
        (SERVER, [SERVER]),
        ("openai:m", [SERVER, "openai:m", "openai:m@https://x.example/v1"]),
        ("hf:", ["hf:/models/a", "hf:/models/a+b", "hf:/models/a/b", "hf:/models/ab"]),
        ("hf:/models/a", ["hf:/models/a", "hf:/models/a+b", "hf:/models/a/b"]),
        ("litellm:groq", ["litellm:groq/llama"]),
        ("tiny", ["tiny"]),
    ],
)
def test_own_prices_cover_a_spec_or_its_beginning(key, covered):
    own = {key: {"input": 1, "output": 2}}
    specs = [SERVER, "openai:m", "openai:m2", "openai:m@https://x.example/v1", "hf:/models/a", "hf:/models/a+b", "hf:/models/a/b",
             "hf:/models/ab", "litellm:groq/llama", "litellm:groq2/llama", "tiny", "tinyer"]  # fmt: skip
    assert {spec for spec in specs if price(spec, prices=own) is not None} == set(covered)


def test_the_longest_own_price_wins_and_any_wins_over_the_list():
    own = {"openai:": {"input": 9}, "openai:gpt-4o-mini": {"input": 1, "output": 2}}
    assert price("openai:gpt-4o-mini", prices=own) == Price(pytest.approx(1e-6), pytest.approx(2e-6))


@pytest.mark.parametrize(
    "table", [{}, {"inputs": 1}, {"input": "1"}, {"input": -1}, {"output": math.nan}, {"gpu_hour": math.inf}, {"input": True}, 3]
)
def test_an_own_price_that_is_none_is_refused(table):
    with pytest.raises(BadInput, match="'tiny'"):
        price("tiny", prices={"tiny": table})


def test_an_own_price_of_0_is_free():
    assert price("tiny", prices={"tiny": {"input": 0, "output": 0}}).cost(Usage(5, 5), 1.0) == 0.0


def test_an_hour_of_the_machine():
    assert price(SERVER, prices={SERVER: {"gpu_hour": 3.6}}).cost(Usage(), 10.0) == pytest.approx(0.01)


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.floats(0, 1e4), st.floats(0, 1e4))
def test_the_cost_is_the_sum_of_its_parts(given_tokens, made_tokens, seconds, usd):
    found = price("tiny", prices={"tiny": {"input": usd, "output": 2 * usd, "gpu_hour": 1.0}})
    expected = given_tokens * usd / 1e6 + made_tokens * 2 * usd / 1e6 + seconds / 3600
    assert found.cost(Usage(given_tokens, made_tokens), seconds) == pytest.approx(expected)
    assert found.cost(Usage(given_tokens, None), seconds) is None


def test_a_provider_carries_its_price():
    settings = Settings(prices={"echo": {"input": 1, "output": 1}, "openai:m": {"gpu_hour": 2}})
    assert echo.connect("", settings=settings).price.input == pytest.approx(1e-6)
    assert openai.connect("m@http://127.0.0.1:8000/v1", settings=settings).price.gpu_hour == 2


def test_a_fixture_that_computes_in_this_process_costs_nothing_and_a_local_model_is_unknown():
    for name, target, costs in (("echo", "", 0.0), ("tiny", "", 0.0), ("hf", str(FOLDER), None)):
        found = plugins.find("models", name).connect(target, settings=Settings()).price
        assert (found.cost(Usage(5, 5), 1.0) if found else None) == costs, name


def test_a_budget_is_taken_where_calls_are_free_and_refused_where_their_price_is_unknown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
    asked = {"prompts": {"plain": "{{ text }}"}, "rows": [{"text": "one"}, {"text": "two"}], "track": False, "budget": 0.01}
    grid = llmops_lab.grid(models=["echo", "tiny"], **asked)
    assert (grid.state, grid.calls, grid.spent) == ("done", 4, 0.0)
    with pytest.raises(BadInput, match="price"):
        llmops_lab.grid(models=[f"hf:{FOLDER}"], **asked)


def test_the_lists_are_read_without_importing_their_packages():
    code = (
        "import sys; from llmops_lab.models._prices import price_of; from llmops_lab.settings import Settings;"
        "assert price_of('litellm:anthropic/no-such', Settings()) is None;"
        "assert price_of('openai:gpt-4o-mini', Settings());"
        "print(sorted({'mlflow', 'litellm'} & set(sys.modules)))"
    )
    root = str(Path(llmops_lab.__path__[0]).parent)
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": root, "PATH": ""}, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
