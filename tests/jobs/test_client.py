"""What a cell's outputs in the notebook are, where the kernel's own messages get lost."""

from __future__ import annotations

import time

import nbformat
import pytest
from nbclient.exceptions import DeadKernelError

from llmops_lab.jobs.client import client_class

_MUTE = "get_ipython().kernel._publish_status = lambda *a, **k: None  # the sign that all outputs have been sent does not come"


def test_outputs_that_did_not_arrive_are_said_to_be_missing():
    cells = [nbformat.v4.new_code_cell(source) for source in ("print('whole')", f"print('so far')\n{_MUTE}")]
    nb = nbformat.v4.new_notebook(cells=cells)
    client_class()(nb, kernel_name="python3", iopub_timeout=3).execute()
    whole, cut = ("".join(output["text"] for output in cell.outputs) for cell in nb.cells)
    assert whole == "whole\n"
    assert cut == "so far\nThe cell has ended, and its last outputs did not arrive within 3 s: some are missing here.\n"


def test_what_a_kernel_sent_before_it_died_is_read_to_its_end():
    said = "from IPython.display import display\nfor number in range(1500): display(number)"
    died = "import os, time\ntime.sleep(0.5)  # what was sent is on its way\nos.kill(os.getpid(), 9)"
    cell = nbformat.v4.new_code_cell(f"{said}\n{died}")
    client = client_class()(nbformat.v4.new_notebook(cells=[cell]), kernel_name="python3")
    client.on_change = lambda: time.sleep(0.002)  # a reader that is seconds behind when the kernel is found dead
    with pytest.raises(DeadKernelError):
        client.execute()
    assert [each["data"]["text/plain"] for each in client.nb.cells[0].outputs] == [str(number) for number in range(1500)]
