"""The grid's view in JupyterLab: from the cell run to the painted table, scrolling, and what a saved notebook holds of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.processes import script
from tests.bench.rows import Row, middle, ratio

REPEATS = 5
PAINTED = """async () => {
    const begun = performance.now();
    window.jupyterapp.commands.execute('notebook:run-cell');
    for (;;) {
        await new Promise(requestAnimationFrame);
        const view = document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .llg [role=row][aria-rowindex="2"]');
        if (view && view.innerText.includes('What is')) break;
    }
    await new Promise(requestAnimationFrame);
    return performance.now() - begun;
}"""
SCROLLED = """async rows => {
    const grid = document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .llg [role=grid]');
    const last = grid.scrollTop + rows * 66, times = [];
    let before = await new Promise(requestAnimationFrame);
    while (grid.scrollTop < last && grid.scrollTop + grid.clientHeight < grid.scrollHeight - 1) {
        grid.scrollTop += 400;
        const now = await new Promise(requestAnimationFrame);
        times.push(now - before);
        before = now;
    }
    return times;
}"""


def measure(*, repeats: int, small: bool) -> list[Row]:
    few, many, scrolled = (100, 3_000, 300) if small else (1_000, 100_000, 10_000)
    told = _told(few, many, 3_000 if small else 10_000, scrolled, 1 if small else repeats)
    what = f"from cell run to painted, {many:,} cells against {few:,}"
    if told is None:
        note = "playwright, Chromium or the view's bundle is not there"
        return [Row(what, None, "x", at_most=2.5, note=note)]
    slow = sum(time > 33.4 for time in told["frames"]) / len(told["frames"])
    note = f"{len(told['frames'])} frames, load {os.getloadavg()[0]:.1f}; the bound is for an idle machine"
    return [
        Row(what, ratio(told["many"], told["few"]), "x", at_most=2.5, note=f"{middle(told['many'], 'ms')} / {middle(told['few'], 'ms')}"),
        Row(f"scrolling {scrolled:,} rows, share of frames over 33 ms", 100 * slow, "%", at_most=2, note=note),
        Row(
            "a notebook saved with a shown 10,000-cell grid",
            told["saved"] / 1024,
            "KB",
            at_most=40,
            note=middle(told["frames"], "ms a frame"),
        ),
    ]


def _told(few: int, many: int, saved: int, scrolled: int, repeats: int) -> dict[str, Any] | None:
    try:
        from playwright import sync_api

        from llmops_lab.widgets import STATIC
        from tests.browser.conftest import CHROMIUM, Lab, jupyterlab, write_notebook
    except ImportError:
        return None
    if not Path(CHROMIUM).exists() or not (STATIC / "grid.js").is_file():
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for cells in {few, many, saved}:
            script("recorded_grid", cells, f"grid{cells}", home=folder / "home")
        with jupyterlab(folder) as (url, token), sync_api.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            lab = Lab(browser.new_page(viewport={"width": 1280, "height": 1000}), url, folder / "work")
            lab.page.goto(f"{url}lab?token={token}&reset")
            lab.page.wait_for_function("() => window.jupyterapp", timeout=60_000)
            lab.page.evaluate("() => window.jupyterapp.restored")
            write_notebook(lab.folder / "work.ipynb", "")
            lab.open("work.ipynb")
            lab.run("import llmops_lab as lab")
            painted: dict[int, list[float]] = {few: [], many: []}
            for turn in range(-1, repeats):
                for cells in (few, many):
                    lab.type(f"g = lab.load('grid{cells}')\ng")
                    took = lab.page.evaluate(PAINTED)
                    if turn >= 0:  # the round before loaded the scripts and the packages
                        painted[cells].append(took)
                    _settled(lab)
            frames = lab.page.evaluate(SCROLLED, scrolled)
            lab.run(f"g = lab.load('grid{saved}')\ng")
            _settled(lab)
            lab.save()
            size = (lab.folder / "work.ipynb").stat().st_size
            browser.close()
    return {"few": painted[few], "many": painted[many], "frames": frames, "saved": size}


def _settled(lab: Any) -> None:
    lab.page.wait_for_function(
        "() => /verdict: /.test(document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .llg')?.innerText)", timeout=60_000
    )
