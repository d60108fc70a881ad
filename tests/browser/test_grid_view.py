"""The grid as a person looks through it in JupyterLab: with the keyboard, while it runs, in both themes, with texts that mean harm.

With LLMOPS_LAB_SHOTS=FOLDER the pictures are written there; grid-light.png is the guide's img/grid.png.
"""

import json
import re
from pathlib import Path

import pytest

from tests.browser.conftest import NOTEBOOK
from tests.browser.looks import grave, picture
from tests.waiting import until

BUNDLE = Path(__file__).parents[2] / "llmops_lab" / "widgets" / "static" / "grid.js"
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
MADE = """
import llmops_lab as lab
def right(reply, row): return int(row["id"]) % 3 != 0 if "Think" in reply.text else int(row["id"]) % 2 == 0
def grade(reply, row): return lab.Score(len(reply.text) % 17 / 16, reason=f"it has {len(reply.text)} letters")
rows = [{"id": str(n), "question": f"Ticket {n}: it is broken" + " again" * (n % 9), "kind": ["hardware", "billing"][n % 2]}
        for n in range(300)]
g = lab.grid({"plain": "{{ question }}", "steps": "Think. {{ question }}"}, rows, models=["echo"], track=False, name="tickets",
             scorers=[lab.scorer(right, higher_is_better=True), lab.scorer(grade, higher_is_better=True)])
g"""


@pytest.fixture(autouse=True)
def _built():
    if not BUNDLE.is_file():
        pytest.skip("the grid's bundle was not built: install node and type make front")


class Sheet:
    """The grid on the page."""

    def __init__(self, lab):
        self.lab, self.page = lab, lab.page
        self.place = self.page.locator(f"{NOTEBOOK} .llg")
        self.grid = self.place.locator("[role=grid]")
        self.grid.wait_for()
        self.place.locator("[role=gridcell] >> nth=1").wait_for()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def choose(self, label, value):
        self.place.locator(".llg-tools label").filter(has_text=re.compile(f"^{re.escape(label)} ")).locator("select").select_option(value)

    def wait(self, text):
        """Until the view shows this text."""
        self.page.wait_for_function(
            "([where, text]) => document.querySelector(where + ' .llg')?.innerText.includes(text)", arg=[NOTEBOOK, text]
        )

    def rows(self):
        """The texts of the lines that are in the page, by their number in the whole table."""
        told = "rows => rows.map(row => [row.getAttribute('aria-rowindex'), row.innerText])"
        return {int(at) - 2: text for at, text in self.grid.locator("[role=row].llg-row").evaluate_all(told)}

    @property
    def active(self):
        """The cell that the keys are at."""
        return self.page.evaluate(
            """where => {
                const grid = document.querySelector(where + ' [role=grid]');
                return document.getElementById(grid.getAttribute('aria-activedescendant')).innerText;
            }""",
            NOTEBOOK,
        )


def test_a_grid_is_looked_through_with_the_keyboard(lab):
    (_, output) = lab.run(MADE)
    assert output["output_type"] == "execute_result" and "600 of 600 cells" in output["data"]["text/plain"]
    sheet = Sheet(lab)
    sheet.wait("verdict: better: steps beats plain on right")
    assert sheet.grid.get_attribute("aria-rowcount") == "301" and len(sheet.rows()) < 30
    sheet.grid.focus()
    sheet.press("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight")
    assert sheet.active.startswith("Ticket 2: it is broken again again")
    sheet.press("Enter")
    sheet.wait("Where it comes from")
    opened = sheet.place.locator(".llg-detail").inner_text()
    for part in ("Asked", "Ticket 2: it is broken again again", "it has 34 letters", "tokens in", "no version", "dataset digest"):
        assert part in opened
    sheet.press("ArrowRight")  # the open cell goes along
    sheet.wait("Think. Ticket 2: it is broken again again\nReply")
    sheet.press("Escape")
    assert sheet.place.locator(".llg-detail").count() == 0
    sheet.press("Control+End")
    sheet.wait("Ticket 299")
    assert max(sheet.rows()) == 299
    sheet.press("Control+Home", " ", "Shift+ArrowDown")
    sheet.wait("4 selected")  # both variants of two rows
    # The view answers beside the cells, so a cell may be quicker than what it was just told.
    until(lambda: lab.value("[int(cell) for cell in g.selected()['cell']]") == [0, 1, 2, 3])
    sheet.press("b", "j", "m", "d", "d", "Escape")
    assert lab.page.evaluate("() => window.panel.content.widgets.map(each => each.model.type)") == ["code"]
    sheet.page.wait_for_function("where => !document.querySelector(where + ' .llg-selected')", arg=NOTEBOOK)
    sheet.press("Control+s")
    lab.page.wait_for_function("() => !window.panel.context.model.dirty")
    assert lab.complaints == [] and lab.elsewhere == []


def test_cells_are_found_sorted_and_grouped(lab):
    lab.run(MADE)
    sheet = Sheet(lab)
    sheet.grid.focus()
    sheet.press("/")
    sheet.page.keyboard.type("ticket 7:")
    sheet.wait("2 of 600 cells")
    assert list(sheet.rows()) == [0] and "Ticket 7:" in sheet.rows()[0]
    sheet.place.locator("input[type=search]").fill(r"^Ticket \d\d: it is broken$")
    sheet.place.get_by_label("regex").check()
    sheet.wait("20 of 600 cells")
    sheet.place.locator("input[type=search]").fill("(")
    sheet.wait("is no regular expression")
    sheet.place.get_by_role("button", name="Clear filters").click()
    sheet.wait("600 cells")
    sheet.choose("differs from", "0")
    sheet.choose("in", "right")
    sheet.wait("of 600 cells")
    sheet.place.get_by_role("button", name="Clear filters").click()
    sheet.choose("group by", "kind")
    sheet.wait("hardware")
    groups = sheet.place.locator(".llg-groups")
    groups.get_by_role("button", name="billing").click()
    sheet.wait("300 of 600 cells")
    assert all(int(text.split()[1]) % 2 for text in sheet.rows().values())
    sheet.choose("lines", "cells")
    sheet.page.wait_for_function(
        "where => document.querySelector(where + ' [role=grid]').getAttribute('aria-rowcount') == '301'", arg=NOTEBOOK
    )
    sheet.grid.get_by_role("button", name="grade").click()
    sheet.grid.locator("[aria-sort=ascending]").wait_for()
    sheet.grid.get_by_role("button", name="grade").click()
    sheet.grid.locator("[aria-sort=descending]").wait_for()
    assert lab.complaints == []


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_it_can_be_read_by_all(lab, theme):
    lab.theme(theme)
    try:
        lab.run(MADE)
        sheet = Sheet(lab)
        sheet.choose("group by", "kind")
        sheet.grid.focus()
        sheet.press("ArrowRight", "ArrowRight", "ArrowRight", " ", "Enter")
        sheet.wait("Where it comes from")
        assert grave(sheet.page, sheet.place) == []
        picture(sheet.place, f"grid-{theme.split()[-1].lower()}")
        sheet.choose("lines", "cells")
        sheet.page.locator(".llg-row .llg-status").first.wait_for()
        assert grave(sheet.page, sheet.place) == []
        sheet.page.set_viewport_size({"width": 640, "height": 500})  # as wide as 1280 at 200 %
        sheet.grid.scroll_into_view_if_needed()
        assert sheet.grid.bounding_box()["width"] <= 640
        assert grave(sheet.page, sheet.place) == []
    finally:
        lab.page.set_viewport_size({"width": 1280, "height": 1000})
        lab.theme(LIGHT)


def test_it_fills_beside_a_busy_cell_is_cancelled_and_goes_on(lab, server):
    server.latency_s = 0.1
    try:
        lab.run("import llmops_lab as lab, time")
        lab.start(f"""rows = [{{'id': str(n), 'q': f'live {{n}}'}} for n in range(100)]
g = lab.grid({{'p': '{{{{ q }}}}'}}, rows, models=['openai:m@{server.url}'], scorers=['length'], concurrency=2, track=False, wait=False)
display(g)
time.sleep(8)""")
        sheet = Sheet(lab)
        done = lambda: int(sheet.place.locator(".llg-title").inner_text().split(" of 100")[0].split()[-1])  # noqa: E731
        sheet.wait("still runs")
        seen = {done()}
        while len(seen) < 4:
            sheet.page.wait_for_timeout(200)
            seen.add(done())
        assert lab.page.evaluate("() => window.ran") is False  # all that was told while the cell was busy
        assert "live 0" in sheet.rows()[0]
        sheet.place.get_by_role("button", name="Cancel").click()
        sheet.wait("cancelled")
        some = done()
        assert 0 < some < 100
        lab.finished()
        server.latency_s = 0.0
        sheet.place.get_by_role("button", name="Resume").click()
        sheet.wait("100 of 100 answered")
        sheet.wait("done")
        assert lab.value("g.state") == "done" and lab.complaints == []
    finally:
        server.latency_s = 0.0


def test_a_cell_is_asked_again_and_added_to_a_dataset(lab, server):
    server.answer = lambda text: "the first answer"
    lab.run(f"""import llmops_lab as lab
g = lab.grid({{'p': '{{{{ q }}}}'}}, [{{'id': '1', 'q': 'asked twice'}}], models=['openai:m@{server.url}'], track=False)
g""")
    sheet = Sheet(lab)
    sheet.grid.focus()
    sheet.press("Enter")
    sheet.wait("the first answer")
    server.answer = lambda text: "the second answer"
    sheet.place.locator(".llg-detail").get_by_role("button", name="Run again").click()
    sheet.page.wait_for_function(
        "where => document.querySelector(where + ' [role=grid]').innerText.includes('the second answer')", arg=NOTEBOOK
    )
    sheet.grid.focus()
    sheet.press("Enter")
    sheet.wait("Other outcomes on record (1)")
    sheet.place.get_by_role("button", name="Add to dataset").click()
    sheet.place.get_by_label("MLflow dataset").fill("picked")
    sheet.place.get_by_role("button", name="Add", exact=True).click()
    sheet.page.wait_for_function(
        "where => document.querySelector(where + ' .llg-deeds [role=status]')?.innerText.includes('picked')", arg=NOTEBOOK
    )
    assert "Added 1 row" in sheet.place.locator(".llg-deeds [role=status]").first.inner_text()
    server.answer = lambda text: text
    assert lab.complaints == []


def test_what_models_and_files_say_is_text(lab, server):
    beacon = f"http://127.0.0.1:{server.port}/beacon"
    harm = f"<img src='{beacon}' onerror='alert(1)'><script>fetch('{beacon}')</script><svg onload=alert(1)>![x]({beacon})"
    lab.run(f"""import llmops_lab as lab
harm = {harm!r}
def says(reply, row): return lab.Score(0.5, reason=harm, detail={{harm: harm}})
rows = [{{'id': harm, 'q': harm, harm: harm, 'documents': [harm]}}]
g = lab.grid({{harm: '{{{{ q }}}}', 'two': '{{{{ q }}}} 2'}}, rows, models=[lab.model('echo', label=harm)], scorers=[says],
             track=False, name=harm)
g""")
    sheet = Sheet(lab)
    sheet.grid.focus()
    sheet.press("ArrowRight", "ArrowRight", "ArrowRight", "Enter")
    sheet.wait("Where it comes from")
    sheet.choose("group by", harm)
    sheet.page.wait_for_timeout(700)
    shown = sheet.place.inner_text()
    assert shown.count(harm) >= 6
    elements = sheet.place.evaluate("view => [...new Set([...view.querySelectorAll('*')].map(each => each.tagName.toLowerCase()))]")
    assert not {"img", "script", "iframe", "style", "object", "a"} & set(elements)
    assert sheet.place.locator("svg[onload]").count() == 0
    assert lab.dialogs == [] and lab.elsewhere == [] and lab.complaints == []
    assert "<script" not in json.dumps([output["data"]["text/html"] for output in lab.outputs()])
