"""What a runner leaves out of its own loading changes nothing for the rest of its process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmops_lab.settings import Settings
from llmops_lab.store.ledger import open_ledger
from tests.commands import Place
from tests.jobs.queues import notebook

_SPARED = """
import sys
from llmops_lab.jobs.lean import spare_grammar
spare_grammar()
assert "jsonschema" in sys.modules and "rfc3987_syntax" not in sys.modules
import nbformat
page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
nbformat.validate(page)
page.cells[0].source = 1
try:
    nbformat.validate(page)
except nbformat.ValidationError:
    import rfc3987_syntax  # whoever wants it has it
    print("as ever")
"""
_RESTED = """
import gc, sys, weakref
from llmops_lab.jobs.lean import loading
class Ring:
    def __init__(self): self.me = self
if sys.argv[1] == "off":
    gc.disable()
try:
    with loading():
        assert not gc.isenabled()
        raise OSError
except OSError:
    print(gc.isenabled())
left = weakref.ref(Ring())
gc.collect()
print(left() is None)
"""


def told(script, *words):
    return subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60, check=True).stdout.split("\n")


def test_notebooks_are_validated_without_the_grammar_and_others_can_still_have_it():
    assert told(_SPARED) == ["as ever", ""]


@pytest.mark.parametrize(("before", "after"), [("on", "True"), ("off", "False")])
def test_the_collector_is_as_it_was_after_loading_that_failed_too(before, after):
    assert told(_RESTED, before) == [after, "True", ""]


def test_a_job_sends_a_waiting_grid_with_its_table_as_anybody_would(tmp_path):
    place = Place(tmp_path)
    (tmp_path / "rows.csv").write_text("question,answer\na,a\n")
    (tmp_path / "prompts.toml").write_text('[plain]\ntemplate = "{{ question }}"\n')
    words = ("grid", "--prompts", "prompts.toml", "--rows", "rows.csv", "--model", "echo", "--scorer", "exact", "--expected", "answer")
    assert place.run(*words, MLFLOW_TRACKING_URI="http://127.0.0.1:9").code == 0
    notebook(tmp_path / "one.ipynb", "1")
    ledger = open_ledger(Settings(home=str(place.home)))
    ((_, kind, payload),) = ledger.outbox_pending()
    assert kind == "grid"
    Path(payload["cells_path"]).unlink()  # it is made anew
    done = place.run("run", "one.ipynb", "--json", "--out", "out")
    assert done.code == 0 and json.loads(done.out)["mlflow_run_id"], done.err
    assert ledger.outbox_pending() == []
