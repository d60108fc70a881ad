"""What a runner leaves out of its own loading changes nothing for the rest of its process."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
