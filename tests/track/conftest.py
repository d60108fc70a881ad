import dataclasses
import shutil
import time
import uuid

import pytest

from llmops_lab.settings import Settings
from tests.track.outbox_store import FileOutbox


@pytest.fixture(scope="session")
def mlflow_home(empty_mlflow, tmp_path_factory):
    """A ledger's folder with MLflow's store in it, for all tests of this folder."""
    return shutil.copytree(empty_mlflow, tmp_path_factory.mktemp("track") / "home")


@pytest.fixture
def lab(mlflow_home, monkeypatch):
    """Settings with an experiment of the test's own in the shared store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # undone afterwards, and with it what a test exports
    (mlflow_home / "outbox").mkdir(exist_ok=True)
    return dataclasses.replace(Settings(home=str(mlflow_home)), experiment=f"e-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def outbox(tmp_path):
    return FileOutbox(tmp_path / "outbox.db")


@pytest.fixture
def grid_entry(mlflow_home):
    """Makes entries as a flow does: a small Parquet file and all that is known of the grid."""
    import pandas

    def make(rows=4, **changes):
        grid = uuid.uuid4().hex
        cells = mlflow_home / "outbox" / f"{grid}.parquet"
        pandas.DataFrame({"row_id": [str(row) for row in range(rows)], "exact": [row % 2 == 0 for row in range(rows)]}).to_parquet(cells)
        entry = {
            "grid": grid,
            "name": "first",
            "state": "done",
            "started": 1_700_000_000.25,
            "ended": 1_700_000_060.75,
            "params": {"temperature": 0, "expected": "answer"},
            "prompts": [{"label": "plain", "name": "", "version": None, "sha256": "ab" * 32, "template": "{{ question }}"}],
            "models": [{"label": "tiny", "identity": "tiny:" + "cd" * 32, "params": {"seed": 7}}],
            "dataset": {
                "name": "data.csv",
                "source": "/data/data.csv",
                "digest": "0123456789abcdef" * 4,
                "rows": rows,
                "columns": ["id", "answer"],
            },
            "metrics": {"exact/plain/tiny": 0.5, "exact/plain/tiny_low": 0.1, "exact/plain/tiny_high": 0.9},
            "tags": {"team": "search"},
            "summary": [{"prompt": "plain", "model": "tiny", "exact": 0.5}],
            "environment": {
                "python": "3.12.0",
                "git": {"commit": "f" * 40, "branch": "main", "dirty": True, "changed": 2},
                "packages": ["a==1", "b==2"],
            },
            "cells_path": str(cells),
        }
        return entry | changes

    return make


@pytest.fixture
def call():
    """Makes the payload of one prompt call."""

    def make(**changes):
        now = time.time()
        payload = {
            "id": uuid.uuid4().hex,
            "name": "qa",
            "started": now - 100,
            "ended": now - 98.5,
            "inputs": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is it?"}],
            "params": {"temperature": 0},
            "output": "Here.",
            "finish_reason": "stop",
            "model": "tiny",
            "usage": {"input_tokens": 11, "output_tokens": 3},
            "cost_usd": 0.25,
            "ttft_s": 0.1,
            "status": "ok",
        }
        return payload | changes

    return make
