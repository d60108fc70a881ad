"""Run the notebooks and store what they show: `python tools/notebooks.py [FILE ...]`, or `make notebooks`.

Each runs in a folder of its own with an empty ledger, so that what is stored is what a new user sees. A path of this machine in an
output is an error: nobody else has it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def main(names: list[str]) -> None:
    """Run these notebooks, or all of them."""
    for path in [Path(name) for name in names] or sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"LLMOPS_LAB_HOME": str(Path(folder, ".llmops_lab")), "JUPYTERHUB_USER": "me"}
            NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
            found = [place for place in (folder, str(NOTEBOOKS.parent)) if place in str([cell.get("outputs") for cell in notebook.cells])]
        if found:
            sys.exit(f"{path.name}: an output shows {found[0]}, a path of this machine. Change the cell so that it does not.")
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
        nbformat.write(notebook, path)
        print(f"{path.name}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} cells run")


if __name__ == "__main__":
    main(sys.argv[1:])
