"""What a cell's outputs in the notebook are, where the kernel's own messages get lost."""

from __future__ import annotations

import nbformat

from llmops_lab.jobs.client import client_class

_MUTE = "get_ipython().kernel._publish_status = lambda *a, **k: None  # the sign that all outputs have been sent does not come"


def test_outputs_that_did_not_arrive_are_said_to_be_missing():
    cells = [nbformat.v4.new_code_cell(source) for source in ("print('whole')", f"print('so far')\n{_MUTE}")]
    nb = nbformat.v4.new_notebook(cells=cells)
    client_class()(nb, kernel_name="python3", iopub_timeout=3).execute()
    whole, cut = ("".join(output["text"] for output in cell.outputs) for cell in nb.cells)
    assert whole == "whole\n"
    assert cut == "so far\nThe cell has ended, and its last outputs did not arrive within 3 s: some are missing here.\n"
