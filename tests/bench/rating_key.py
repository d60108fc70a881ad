"""Rating with the keyboard in JupyterLab: from the key that is pressed to the panel's word that the rating is saved."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.bench.rows import Row, middle

REPEATS = 100
WHAT = 'rating: key pressed to "saved", median'
MAKE = """
import llmops_lab as lab
rows = [{{"id": f"r{{n}}", "prompt": f"question {{n}}", "text": f"answer {{n}}"}} for n in range({count})]
q = lab.rate(rows, lab.Rubric("How kind?", levels={{1: "rude", 2: "plain", 3: "kind"}}), name="bench")
"""
# The time of the key is the event's own; "saved" counts when it stands in the page.
WATCH = """() => {
    const panel = document.querySelector('.lr-panel');
    let pressed, last;
    window.times = [];
    panel.addEventListener('keydown', event => { pressed = event.timeStamp; }, true);
    new MutationObserver(() => {
        const said = panel.querySelector('.lr-saved')?.innerText.match(/#(\\d+)/)?.[1];
        if (said && said !== last) window.times.push(performance.now() - pressed);
        last = said ?? last;
    }).observe(panel, {subtree: true, childList: true, characterData: true});
}"""


def measure(*, repeats: int, small: bool) -> list[Row]:
    count = 3 if small else max(3, repeats)
    times = _times(count)
    note = (
        f"{count} ratings in Chromium, each committed to disk: {middle(times, 'ms')}"
        if times
        else "playwright or Chromium is not installed"
    )
    return [Row(WHAT, median(times) if times else None, "ms", at_most=100, note=note)]


def _times(count: int) -> list[float]:
    try:
        from playwright import sync_api

        from tests.browser.conftest import CHROMIUM, Lab, jupyterlab, write_notebook
        from tests.browser.rating import Panel
    except ImportError:
        return []
    if not Path(CHROMIUM).exists():
        return []
    with tempfile.TemporaryDirectory() as folder, jupyterlab(Path(folder)) as (url, token), sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        lab = Lab(browser.new_page(viewport={"width": 1280, "height": 1000}), url, Path(folder) / "work")
        lab.page.goto(f"{url}lab?token={token}&reset")
        lab.page.wait_for_function("() => window.jupyterapp", timeout=60_000)
        lab.page.evaluate("() => window.jupyterapp.restored")
        write_notebook(lab.folder / "work.ipynb", "")
        lab.open("work.ipynb")
        lab.run(MAKE.format(count=count), timeout=90)
        panel = Panel(lab.page).ready()
        lab.page.evaluate(WATCH)
        for number in range(count):
            panel.settle()
            before = panel.item
            lab.page.keyboard.press("123"[number % 3])
            panel.moved(before)
        times: list[float] = lab.page.evaluate("() => window.times")
        browser.close()
    assert len(times) == count, "each rating was said to be saved once"
    return times
