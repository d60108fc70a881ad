"""Side by side as a person has it: rows, flips, slices and texts in a notebook, by keys alone, in light and dark, small and large.

With LLMOPS_LAB_SHOTS=FOLDER the pictures of the guide are written there.
"""

import json

import pytest
from aiohttp import web

from llmops_lab.widgets import STATIC
from tests.browser.looks import grave, picture
from tests.servers import completion

pytest.importorskip("anywidget", reason="anywidget is not installed")
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
HOSTILE = "<script>window.hostile = 1</script><img src=x onerror='window.hostile = 2'><img src='http://127.0.0.1:9/b.png'>"
GRID = """
import llmops_lab as lab
late = "The parcel was promised for Monday, nobody called, and the page still shows the same line. "
rows = [{{"id": f"T{{n:03}}", "ticket": f"Ticket {{n}}: " + (late * 9 if n % 7 == 0 else "where is my order?"),
         "queue": ["refund", "delivery", "login"][n % 3], "lang": "de" if n < 30 else "en"}} for n in range(90)]
def right(reply, row):
    return row["queue"] in reply.text
ask = "Ticket: {{{{ ticket }}}} [{{{{ id }}}}|{{{{ queue }}}}|{{{{ lang }}}}]"
prompts = {{"plain": f"Sort this. {{ask}}", "steps": f"Think step by step, then sort this. {{ask}}", "json": f"Answer as JSON. {{ask}}"}}
g = lab.grid(prompts, rows, models=[lab.model({spec!r}, label="small")], scorers=[right], params={{"seed": 1}}, repeats=3, retries=0,
             track=False, progress=False, name="tickets")
"""
CELLS = "() => window.panel.content.widgets.map(cell => cell.model.type)"
TOO_WIDE = """() => [...document.querySelectorAll('.ll-diff, .ll-diff .ll-panes, .ll-diff .ll-detail')]
    .filter(each => each.scrollWidth > each.clientWidth + 1).map(each => each.className)"""


async def play(request, body):
    """``steps`` is wrong in German each time and in one row now and then; ``json`` answers as JSON and fails for one row."""
    text, seed = body["messages"][-1]["content"], body["seed"]
    row, queue, lang = text.rpartition("[")[2].rstrip("]").split("|")
    if "JSON" in text:
        if row == "T013":
            return web.json_response({"error": {"message": "overloaded"}}, status=400)
        if row == "T014":
            return web.json_response(completion(HOSTILE, body))
        values = {"queue": queue, "sure": 0.5, "why": ["asks for the order", f"reply {seed}"]}
        return web.json_response(completion(f"```json\n{json.dumps(values, indent=1 if seed == 1 else None)}\n```", body))
    steps = "Think" in text
    wrong = steps and (lang == "de" or (row == "T050" and seed == 2))
    reason = "First, the customer asks where the order is. So the" if steps else "The"
    return web.json_response(completion(f"{reason} queue is {'unknown' if wrong else queue}.", body))


class View:
    """The view that the notebook's only cell shows."""

    def __init__(self, lab):
        self.lab, self.page = lab, lab.page
        self.place = lab.page.locator(".ll-diff")
        self.place.wait_for()
        self.place.locator(".ll-line").first.wait_for()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def says(self, *texts):
        for text in texts:
            self.place.get_by_text(text).first.wait_for()

    def ids(self):
        return self.place.locator(".ll-id").all_inner_texts()

    def listed(self, *ids):
        self.page.wait_for_function(
            "ids => JSON.stringify([...document.querySelectorAll('.ll-diff .ll-id')].map(e => e.textContent)) === JSON.stringify(ids)",
            arg=list(ids),
        )


@pytest.fixture(scope="module")
def notebook(lab, server):
    """The notebook in which the grid has run."""
    if not (STATIC / "diff.js").is_file():
        pytest.skip("the bundles were not built: node is not installed")
    server.always(play)
    lab.run(GRID.format(spec=f"openai:m@{server.url}"), timeout=120)
    assert lab.value("g.state") == "done"
    return lab


def show(lab, code):
    (output,) = lab.run(code)
    assert output["metadata"] == {"llmops_lab": {"view": "diff"}}
    return View(lab)


def test_what_changed_is_read_by_keys_alone_and_none_reaches_the_notebook(notebook):
    view, page = show(notebook, "lab.diff(g, a='plain', b='steps')"), notebook.page
    before = page.evaluate(CELLS)
    view.says("worse", "steps loses to plain on right", "Passed: 3 of 3 → 0 of 3", "This flip repeats")
    assert view.ids()[:3] == ["T000", "T001", "T002"]
    view.place.locator("[role=listbox]").focus()
    view.press("j", "ArrowDown", "k")
    page.wait_for_function("() => document.querySelector('.ll-diff [aria-selected=true] .ll-id').textContent === 'T001'")
    assert view.place.locator("del").first.text_content() == "[removed: The]"
    assert "[added: unknown]" in view.place.locator("ins").all_text_contents()
    view.press("f")
    view.says("1 of 31")
    view.place.get_by_role("button", name="that do not (noise)").click()
    view.listed("T050")
    view.says("This flip does not repeat", "Passed: 3 of 3 → 2 of 3")
    view.press("]")
    view.says("score false")
    view.press("a", "s")  # the list had the focus, and goes
    view.says("Found", "lang: de", "unlike the rest", "false discovery rate held at 10 %")
    picture(view.place, "diff-slices")
    view.place.get_by_role("button", name="lang: de").click()
    view.says("1 of 30")
    view.press("p")
    view.says("Think")
    view.press("h")
    assert view.place.get_by_role("img").count() == 2
    view.press("r", "?", "/")
    page.keyboard.type("ticket 33:")
    view.press("Enter")
    view.place.get_by_text("No such rows").wait_for()  # it is not in the slice
    view.press("Escape")
    view.place.get_by_role("button", name="All slices").click()
    view.says("1 of 90")
    view.press("d", "b", "m", "x", "d", "d", "y", "c", "z")
    assert page.evaluate(CELLS) == before and view.place.is_visible()
    assert (notebook.complaints, notebook.elsewhere, notebook.dialogs) == ([], [], [])


def test_three_variants_json_missing_and_hostile_replies(notebook):
    view, page = show(notebook, "lab.diff(g)"), notebook.page
    view.place.locator("[role=listbox]").focus()
    assert view.place.locator(".ll-side").count() == 3
    view.press("2", "m")
    view.listed("T013")
    view.says("No reply: failed (bad_request)", "baseline; marked against json")
    view.press("a", "/")
    page.keyboard.type("T014")
    view.press("Enter")
    view.listed("T014")
    page.get_by_label("Row T014").wait_for()
    assert "onerror" in view.place.inner_text() and page.evaluate("window.hostile") is None
    view.press("Escape", "t", "d", "/")
    page.keyboard.type("T021")
    view.press("Enter")
    page.get_by_label("Row T021").wait_for()
    assert view.place.locator(".ll-side").count() == 2  # in one text: each of the others against the baseline
    assert (notebook.elsewhere, notebook.dialogs) == ([], [])


def test_a_verdict_shows_its_rows_at_any_size_and_in_both_themes(notebook):
    view, page = show(notebook, "v = lab.compare(g, a='plain', b='steps', scorer='right', margin=0.5)\nv.show()"), notebook.page
    view.says(notebook.value("v.sentence").partition(": ")[2])
    view.place.locator("[role=listbox]").focus()
    try:
        for theme in (DARK, LIGHT):
            notebook.theme(theme)
            for key, word in (("r", "baseline"), ("s", "Found"), ("p", "Think"), ("h", "mean")):
                view.place.focus()
                view.press(key)
                view.says(word)
                assert grave(view.page, view.place) == []
        view.press("r")
        view.says("baseline")
        picture(view.place, "diff-rows")
        page.set_viewport_size({"width": 640, "height": 500})  # what 200 % leaves of 1280 x 1000
        page.wait_for_timeout(300)
        assert page.evaluate(TOO_WIDE) == []
        assert grave(view.page, view.place) == []
    finally:
        page.set_viewport_size({"width": 1280, "height": 1000})
        notebook.theme(LIGHT)


def test_the_saved_notebook_is_small_and_holds_the_static_twin(notebook):
    show(notebook, "lab.diff(g, a='plain', b='steps')")
    notebook.save()
    notebook.page.wait_for_function("() => !window.panel.context.model.dirty")
    saved = (notebook.folder / "work.ipynb").read_text("utf-8")
    (output,) = json.loads(saved)["cells"][0]["outputs"]
    assert len(saved) < 40_000
    assert "worse: steps loses to plain" in "".join(output["data"]["text/plain"])
    assert "<del" in "".join(output["data"]["text/html"]) and "<script" not in "".join(output["data"]["text/html"])
