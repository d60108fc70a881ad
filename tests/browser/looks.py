"""How a view looks: to axe-core, and on a picture for whoever wants one."""

import os
from pathlib import Path

import pytest

AXE = Path(__file__).parents[2] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"


def grave(page, place):
    """What axe-core finds serious or critical in this part of the page, as it stands now: the rule, and where."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: type make front")
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text("utf-8"))
    found = place.evaluate("view => axe.run(view, {resultTypes: ['violations']})")
    assert found["passes"]
    named = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
    return [(each["id"], [node["html"][:160] for node in each["nodes"]]) for each in named]


def picture(place, name):
    """A picture of this part of the page, in the folder that LLMOPS_LAB_SHOTS names; without it, none."""
    folder = os.environ.get("LLMOPS_LAB_SHOTS")
    if folder:
        place.page.wait_for_timeout(300)
        place.screenshot(path=Path(folder) / f"{name}.png", style=".Toastify { display: none }")
