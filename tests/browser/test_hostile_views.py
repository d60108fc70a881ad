"""Fourteen ways in which the views show what models, people and files wrote: nothing of it runs, and nothing leaves the page.

And each view can be used by those who need a screen reader, large letters or a dark page.
"""

import os
from pathlib import Path

import pytest

import llmops_lab
from tests.browser.conftest import NOTEBOOK
from tests.browser.looks import grave
from tests.browser.rating import Panel

pytest.importorskip("anywidget", reason="anywidget is not installed")
STATIC = Path(llmops_lab.__file__).parent / "widgets" / "static"
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
# Requests to the page's own server are told by the name "beacon"; all others are seen by the fixture.
PAYLOADS = {
    "script": "<script>window.hurt = 'script'; alert(1)</script>",
    "broken out": "\"'></textarea></script></style></td></pre>--><script>window.hurt = 'broken out'</script>",
    "image": "<img src=x-beacon onerror=\"window.hurt = 'image'\"><img src='http://192.0.2.1/beacon.png'>",
    "markdown picture": "![b](http://192.0.2.1/beacon.png) ![b](/beacon.png 'x') ![b][1]\n\n[1]: http://192.0.2.1/beacon.png",
    "markdown link": "[c](javascript:window.hurt='link') [d](data:text/html,<script>alert(1)</script>) <javascript:alert(1)>",
    "svg": "<svg onload=\"window.hurt = 'svg'\"><script>window.hurt = 'svg'</script><image href='http://192.0.2.1/beacon.png'/></svg>",
    "style": "<style>@import url(http://192.0.2.1/beacon.css); * { background: url(/beacon.png); display: none !important }</style>",
    "styled": "<p style='position:fixed; inset:0; background: url(http://192.0.2.1/beacon.png)'>over all</p>",
    "frame": "<iframe src='javascript:parent.hurt=1'></iframe><iframe srcdoc='<script>parent.hurt = 2</script>'></iframe>",
    "form": "<form action='http://192.0.2.1/beacon'><input autofocus onfocus=\"window.hurt = 'form'\"><button>go</button></form>",
    "head": "<base href='http://192.0.2.1/'><meta http-equiv=refresh content='0;url=/beacon'><link rel=stylesheet href=/beacon.css>",
    "media": "<video autoplay src=/beacon.mp4 onerror=\"window.hurt = 'media'\"></video><object data=/beacon></object><embed src=/beacon>",
    "command": '<button data-commandlinker-command="notebook:delete-cell">run</button><a href="/lab?reset" ping="/beacon">a</a>',
    "formula": "$\\href{javascript:window.hurt=1}{x}$ $$\\style{background:url(http://192.0.2.1/beacon.png)}{y}$$ \\(z\\)",
}
HELD = "Object.values(HOSTILE)"
SETUP = f"""
import json, os
import llmops_lab as lab
from IPython.display import display
HOSTILE = {PAYLOADS!r}
every = "\\n".join(HOSTILE.values())
rows = [{{"id": name, "q": text, "group": text, every: "a column", "json": json.dumps({{text: [text]}}), "answer": "x"}}
        for name, text in HOSTILE.items()]

def judged(reply, row):
    return lab.Score(float(len(reply.text) % 5), reason=row["q"])

def broken(reply, row):
    raise ValueError(row["q"])
"""
GRID = """
prompts = {HOSTILE["image"]: "{{ q }}", HOSTILE["script"]: "Again: {{ q }}"}
g = lab.grid(prompts, rows, models=[lab.model("echo", label=HOSTILE["svg"])], scorers=[judged, broken], name=HOSTILE["frame"],
             track=False, progress=False)
"""
JSON_GRID = """
h = lab.grid({HOSTILE["image"]: '{"a": {{ json }}}', HOSTILE["script"]: '{"a": {{ json }}, "b": 1}'}, rows, models=["echo"],
             scorers=[judged], track=False, progress=False)
"""
RATING = """
rated = [{"id": name, "prompt": text, "one": text, "two": f"Two: {text}", "source": text, "hint": "a"} for name, text in HOSTILE.items()]
rubric = lab.Rubric(every, guide=every, examples=[(every, "a")])
q = lab.rate(rated, rubric, mode="pairwise", a="one", b="two", source="source", suggestions="hint", raters=2, seed=3, name="hostile")
for item, _ in q.items(q.rater):
    q.submit(item=item, rater=q.rater, value="a", comment=every, correction=every)
    q.submit(item=item, rater="bob", value="b", comment=every)
"""
SINGLE = """
rubric = lab.Rubric(every, levels={HOSTILE["image"]: every, HOSTILE["script"]: every}, guide=every, examples=[(every, HOSTILE["image"])])
p = lab.rate([{"id": name, "prompt": text, "text": text} for name, text in HOSTILE.items()], rubric, seed=3, name="levels")
"""
ORDINARY = """
import llmops_lab as lab
rows = [{"id": f"r{number}", "q": f"question {number}", "lang": ["de", "en"][number % 2], "answer": f"question {number}"}
        for number in range(40)]
def words(reply, row): return len(reply.text.split())
o = lab.grid({"plain": "{{ q }}", "polite": "Please answer **this**: {{ q }}"}, rows, models=["echo"], scorers=["exact", words],
             expected="answer", track=False, progress=False)
"""
OPENED = "([detail, text]) => detail.textContent.replace(/\\s+/g, '').includes(text)"
ACTS = "script iframe form object embed video base meta link style a[href] mjx-container [data-commandlinker-command]".split()


@pytest.fixture(scope="module")
def hostile(lab):
    """The notebook with all that is hostile in it, and a list of the requests to its own server that no view makes."""
    if not all((STATIC / f"{name}.js").is_file() for name in ("grid", "diff", "rating")):
        pytest.skip("the bundles are not built: install node and type make front")
    lab.beacons = []
    lab.page.context.on("request", lambda request: lab.beacons.append(request.url) if "beacon" in request.url else None)
    for code in (SETUP, GRID, JSON_GRID, RATING, SINGLE):
        assert [output for output in lab.run(code, timeout=120) if output["output_type"] == "error"] == []
    return lab


def view(lab, code, ready):
    """Run this cell; the view that it shows, when the given part of it is there."""
    assert [output for output in lab.run(code, timeout=120) if output["output_type"] == "error"] == []
    place = lab.page.locator(f"{NOTEBOOK} .llmops-lab").last
    place.locator(ready).first.wait_for()
    return place


def assert_nothing_ran(lab, *, pandas=False):
    lab.page.wait_for_timeout(300)  # what would run would have run
    assert lab.page.evaluate("() => window.hurt") is None
    assert (lab.elsewhere, lab.dialogs, lab.beacons) == ([], [], [])
    outputs = f"{NOTEBOOK} .jp-OutputArea-output"
    for what in ACTS:
        if not (pandas and what in ("mjx-container", "style")):  # of its own making
            assert lab.page.locator(f"{outputs} {what}").count() == 0, what
    every = lab.page.locator(f"{outputs} *")
    assert every.evaluate_all("all => all.flatMap(each => each.getAttributeNames()).filter(name => name.startsWith('on'))") == []
    assert lab.page.locator(f"{outputs} img").count() == 0


def squeezed(text):
    """The text without white space: a page breaks lines where it likes."""
    return "".join(text.split())


def assert_readable(shown, texts):
    """All these texts stand there, as they were written."""
    shown = squeezed(shown)
    assert [text for text in texts if squeezed(text) not in shown] == []


def test_the_watch_sees_what_runs(hostile):
    hostile.run("from IPython.display import HTML\nHTML(HOSTILE['image'])")
    hostile.page.wait_for_function("() => window.hurt === 'image'")
    hostile.page.wait_for_timeout(300)
    assert hostile.elsewhere and hostile.beacons
    hostile.page.evaluate("() => { delete window.hurt; }")
    hostile.run("")
    hostile.forget()
    hostile.beacons.clear()


def test_a_grid_shows_texts(hostile):
    hostile.beacons.clear()
    grid = view(hostile, "g.show()", "[role=gridcell]")
    assert_readable(grid.inner_text(), [PAYLOADS["frame"], PAYLOADS["script"], "Again: "])  # its name, and its columns
    grid.get_by_label("group by").select_option("group")
    groups = grid.get_by_role("region", name="Groups by")
    groups.wait_for()
    assert_readable(groups.inner_text(), [PAYLOADS["script"]])  # a name that is too long is cut
    grid.get_by_label("group by").select_option(index=0)
    grid.locator("[role=gridcell]:nth-child(4)").first.click()
    detail = grid.get_by_role("region", name="The open cell")
    for text in map(squeezed, PAYLOADS.values()):
        hostile.page.keyboard.press("Enter")
        detail.wait_for()
        hostile.page.wait_for_function(OPENED, arg=[detail.element_handle(), text])
        shown = squeezed(detail.text_content())
        # The prompt and the reply, the reason of one score, the fault of the other; and the names of model and prompt.
        assert shown.count(text) >= 4, text
        assert squeezed(PAYLOADS["svg"]) in shown and squeezed(PAYLOADS["image"]) in shown
        hostile.page.keyboard.press("Escape")
        grid.locator("[role=grid]").focus()
        hostile.page.keyboard.press("ArrowDown")
    assert_nothing_ran(hostile)


@pytest.mark.parametrize("grid", ["g", "h"])
def test_a_comparison_shows_texts(hostile, grid):
    hostile.beacons.clear()
    diff = view(hostile, f"lab.diff({grid}, a=HOSTILE['image'], b=HOSTILE['script'], scorer='judged').show()", "[role=option]")
    seen = ""
    for number in range(1, len(PAYLOADS) + 1):
        diff.get_by_text(f"{number} of {len(PAYLOADS)}", exact=True).wait_for()
        for way in ("In one text", "JSON as text", "In columns"):
            if diff.get_by_role("button", name=way).count():
                diff.get_by_role("button", name=way).click()
        seen += diff.inner_text()
        diff.get_by_role("button", name="Next").click() if number < len(PAYLOADS) else None
    assert_readable(seen, PAYLOADS.values())
    for part in ("Slices", "Question", "Scores"):
        diff.get_by_role("button", name=part).click()
        diff.locator(".ll-diff").wait_for()
        assert_readable(diff.inner_text(), [PAYLOADS["script"]])
    assert_nothing_ran(hostile)


def walk(panel, count):
    """Look at each item as Markdown, plain and as source; all that was shown plainly."""
    seen = ""
    while f"Item 1 of {count}" not in panel.place.inner_text():
        before = panel.item
        panel.page.keyboard.press("k")
        panel.moved(before)
    for number in range(1, count + 1):
        panel.page.evaluate("() => document.querySelectorAll('.lr-panel details').forEach(each => { each.open = true; })")
        for way in ("Markdown", "Source", "Plain"):
            panel.place.get_by_role("button", name=way, exact=True).click()
            panel.focus()
            if number % 2:
                panel.page.keyboard.press("d")
        seen += panel.place.inner_text()
        if number < count:
            before = panel.item
            panel.page.keyboard.press("j")
            panel.moved(before)
    return seen


def test_the_rating_panel_shows_texts_and_so_do_the_tables_of_its_queue(hostile):
    hostile.beacons.clear()
    assert [output["output_type"] for output in hostile.run("q.show()")] == ["display_data"]
    panel = Panel(hostile.page).ready()
    seen = walk(panel, len(PAYLOADS))
    for text in PAYLOADS.values():
        assert squeezed(seen).count(squeezed(text)) >= 4, text  # prompt, source and two sides
    panel.page.keyboard.press("g")
    panel.page.keyboard.press("c")
    panel.page.keyboard.type("".join(PAYLOADS.values()).replace("\n", ""))
    assert_nothing_ran(hostile)
    hostile.run("p.show()")
    assert_readable(walk(Panel(hostile.page).ready(), len(PAYLOADS)), PAYLOADS.values())
    assert_nothing_ran(hostile)
    hostile.run("display(q.adjudicate())\ndisplay(q.ratings())\ndisplay(q.settled())")
    assert_readable(hostile.text, [PAYLOADS["script"]])  # who disagreed, and what they wrote beside it
    assert_nothing_ran(hostile, pandas=True)


def test_what_stays_in_the_notebook_is_text_too(hostile):
    hostile.beacons.clear()
    shown = "g.show()\nlab.diff(g, a=HOSTILE['image'], b=HOSTILE['script'], scorer='judged').show()\nq.show()\np.show()"
    hostile.run("os.environ['LLMOPS_LAB_STATIC'] = '1'")
    hostile.run(shown)
    hostile.page.locator(f"{NOTEBOOK} .jp-OutputArea-output table").first.wait_for()
    assert hostile.page.locator(f"{NOTEBOOK} .llmops-lab").count() == 0
    outputs = hostile.outputs()
    assert hostile.value("os.environ.pop('LLMOPS_LAB_STATIC')") == "1"
    assert [set(output.get("data", output)) for output in outputs] == 4 * [{"text/plain", "text/html"}]
    assert_readable(hostile.text, [PAYLOADS["script"], PAYLOADS["image"]])
    assert_nothing_ran(hostile)


def test_every_view_can_be_used_with_a_reader_in_the_dark_and_in_large_letters(hostile):
    hostile.run(ORDINARY, timeout=120)
    views = {
        "o.show()": ("[role=gridcell]", "[role=grid]"),
        "lab.diff(o, a='plain', b='polite', scorer='exact').show()": ("[role=option]", "[role=listbox]"),
        "lab.rate(o, lab.Rubric('Polite?', levels={1: 'no', 2: 'yes'}), limit=5, name='reader')": (".lr-item", ".lr-item"),
    }
    whole = hostile.page.viewport_size
    hostile.command("application:toggle-left-area")
    found = {}
    try:
        for code, (ready, main) in views.items():
            place = view(hostile, code, ready)
            for theme in (LIGHT, DARK):
                hostile.theme(theme)
                found[code, theme] = grave(hostile.page, place)
            # At 200 % a page has half as many points to each side.
            hostile.page.set_viewport_size({"width": whole["width"] // 2, "height": whole["height"] // 2})
            hostile.page.wait_for_timeout(300)
            found[code, "200 %"] = grave(hostile.page, place)
            wide = place.evaluate("root => [root.scrollWidth, root.clientWidth]")
            assert wide[0] <= wide[1] + 1, (code, wide)
            place.locator(main).first.scroll_into_view_if_needed()
            assert place.locator(main).first.bounding_box()["width"] > 200, code
            if os.environ.get("LLMOPS_LAB_SHOTS"):
                hostile.page.screenshot(path=Path(os.environ["LLMOPS_LAB_SHOTS"]) / f"large-{len(found)}.png")
            hostile.page.set_viewport_size(whole)
            hostile.theme(LIGHT)
    finally:
        hostile.page.set_viewport_size(whole)
        hostile.command("application:toggle-left-area")
    assert {name: each for name, each in found.items() if each} == {}
