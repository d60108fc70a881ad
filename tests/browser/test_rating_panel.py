"""The rating panel as a rater has it: keys that rate and stay in the panel, words that are true, nobody who is left out.

With LLMOPS_LAB_SHOTS=FOLDER the pictures of the guide are written there.
"""

import json

from tests.browser.looks import grave, picture
from tests.browser.rating import Panel

LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HOSTILE = "<script>window.hostile = 1</script><img src=x onerror='window.hostile = 2'> [a](javascript:window.hostile=3) ![b](http://127.0.0.1:9/beacon.png)"
SINGLE = f"""
import llmops_lab as lab
levels = {{1: "rude: blames or mocks the reader", 2: "cold: correct, and not a word more", 3: "warm: sees what the reader needs"}}
rubric = lab.Rubric("How polite is the answer?", levels=levels, guide="Judge the **tone** alone, not whether it is right.",
                    examples=[("Send it again.", 2), ("Thank you for waiting, we are on it.", 3)])
long = "\\n\\n".join(f"Paragraph {{number}} of a long answer, with *marks* and `code`." for number in range(40))
pictured = [{{"type": "text", "text": "A picture:"}}, {{"type": "image_url", "image_url": {{"url": {PICTURE!r}}}}}]
texts = ["Your parcel is late. It was posted on Monday.", long, pictured, {HOSTILE!r}, "one more", "and another", "the last"]
rows = [{{"id": f"r{{number}}", "prompt": "Where is my **parcel**?", "text": text, "policy": "Parcels take three days."}}
        for number, text in enumerate(texts)]
q = lab.rate(rows, rubric, source="policy", seed=1, name="polite")
"""
PAIRS = """
import llmops_lab as lab
rows = [{"id": f"r{number}", "prompt": "Tell a child about rain.", "terse": f"Rain is water that falls from clouds, number {number}.",
         "steps": f"Rain is water. It rises, cools in clouds and falls, number {number}."} for number in range(8)]
q = lab.rate(rows, "Which answer would a child rather read?", mode="pairwise", a="terse", b="steps", seed=2, name="children")
"""
RANKING = """
import llmops_lab as lab
rows = [{"id": f"r{number}", "prompt": "Name three fruits.", "one": "apple, pear, plum", "two": "Apple; pear; cherry", "three": "fruit"}
        for number in range(3)]
q = lab.rate(rows, "Which list is best?", mode="ranking", variants=["one", "two", "three"], name="lists")
"""

SAVES = """() => {
    window.saves = 0;
    window.panel.context.saveState.connect((_, state) => { if (state === 'completed') window.saves += 1; });
}"""
BELOW = """async code => {
    const book = window.panel.content;
    book.model.sharedModel.insertCell(1, {cell_type: 'code', source: code, metadata: {}});
    book.activeCellIndex = 1;
    await window.jupyterapp.commands.execute('notebook:run-cell');
}"""


def show(lab, code):
    assert [output["output_type"] for output in lab.run(code)] == ["display_data"]
    return Panel(lab.page).ready()


def press(panel, *keys):
    panel.settle()
    for key in keys:
        panel.page.keyboard.press(key)


def rate(panel, *keys):
    """Answer the shown item; its name."""
    item = panel.item
    press(panel, *keys)
    panel.moved(item)
    panel.saved()
    return item


def records(lab, name):
    """What holds in the ledger: item -> record."""
    found = lab.value(f"lab.queue({name!r}).records()")
    return {record["item"]: record for record in found if record["superseded_by"] is None}


def test_levels_are_rated_by_key_and_by_click_and_nothing_reaches_the_notebook(lab):
    panel = show(lab, SINGLE)
    assert "0 of 7" in panel.text(".lr-head") and panel.status.strip() == ""
    first = rate(panel, "3")
    second = panel.item
    panel.settle()
    panel.place.get_by_role("button", name="cold").click()
    panel.moved(second)
    panel.saved()
    third = panel.item
    press(panel, "c")
    panel.page.keyboard.type("jumbled 123")
    panel.page.keyboard.press("Escape")
    press(panel, "f")
    assert "not saved before" in panel.text(".lr-notes")
    rate(panel, "1")
    held = records(lab, "polite")
    assert [held[item]["value"] for item in (first, second, third)] == [3, 2, 1]
    assert (held[third]["comment"], held[third]["flag"]) == ("jumbled 123", True)
    assert all(0 < held[item]["seconds"] < 30 for item in held)
    press(panel, "u")
    panel.page.wait_for_function("() => document.querySelector('.lr-saved')?.innerText.includes('taken back')")
    assert panel.item == third and records(lab, "polite")[third]["kind"] == "undo"
    press(panel, "s")
    panel.page.keyboard.type("not my language")
    panel.page.keyboard.press("Enter")
    panel.moved(third)
    panel.saved()
    assert records(lab, "polite")[third]["skip"] == "not my language"

    before = lab.page.evaluate("() => JSON.stringify(window.panel.content.model.toJSON())")
    press(panel, "b", "j", "m", "d", "d", "x", "a", "y", "ArrowDown", "?", "Escape", "k")
    assert lab.page.evaluate("() => JSON.stringify(window.panel.content.model.toJSON())") == before
    lab.page.evaluate(SAVES)
    panel.focus()
    panel.page.keyboard.press("Control+s")
    panel.page.wait_for_function("() => window.saves === 1")


def test_every_item_can_be_read_in_both_themes_and_by_everybody(lab):
    panel = show(lab, SINGLE.replace('name="polite"', 'name="polite again"'))
    for theme in (DARK, LIGHT):
        lab.theme(theme)
        panel.focus()
        for number in range(7):
            if panel.place.locator(".lr-more").count():
                assert panel.place.locator(".lr-cut").count() == 1
                press(panel, "x")
                assert panel.place.locator(".lr-cut").count() == 0
                press(panel, "x")
            press(panel, "v")
            if number == (0 if theme == DARK else 3):
                panel.place.locator("details:not([open]) summary").click()
                press(panel, "g")
                assert "Thank you for waiting" in panel.text(".lr-drawer")
                assert grave(panel.page, panel.place) == []
                press(panel, "Escape", "?")
                assert grave(panel.page, panel.place) == []
                press(panel, "Escape", "s")
                assert grave(panel.page, panel.place) == []
                panel.page.keyboard.press("Escape")
            before = panel.item
            press(panel, "j" if theme == DARK else "k")
            if number < 6:
                panel.moved(before)
        assert "This is the last item" in panel.text(".lr-hint") or theme == LIGHT
    assert lab.page.evaluate("() => 'hostile' in window") is False and lab.dialogs == [] and lab.elsewhere == []
    assert panel.place.locator("a, script, iframe").count() == 0
    wide = lab.page.viewport_size
    lab.page.set_viewport_size({"width": wide["width"] // 2, "height": wide["height"] // 2})  # what 200 % leaves of the page
    try:
        sticks_out = panel.place.evaluate("panel => panel.scrollWidth - panel.clientWidth")
        assert sticks_out <= 0
        assert grave(panel.page, panel.place) == []
    finally:
        lab.page.set_viewport_size(wide)


def test_pairs_are_blind_and_a_conflict_is_asked_about(lab):
    panel = show(lab, PAIRS)
    assert "terse" not in panel.place.inner_text() and "steps" not in panel.place.inner_text()
    picture(panel.place, "rating-pairwise")
    press(panel, "d")
    assert panel.place.locator("mark").count() >= 2
    assert grave(panel.page, panel.place) == []
    press(panel, "d")
    meant = {}
    for key, letter in (("a", 0), ("b", 1), ("e", "tie"), ("n", "bad")):
        order = lab.value(f"lab.queue('children').task(item={panel.item!r})['side_order']")
        meant[rate(panel, key)] = order[letter] if isinstance(letter, int) else letter
    assert {item: record["value"] for item, record in records(lab, "children").items()} == meant

    item = panel.item
    theirs = lab.value(f"lab.queue('children').submit(item={item!r}, value='bad', comment='in another window')")
    press(panel, "a")
    asked = panel.place.locator("[role=alertdialog]")
    asked.wait_for()
    assert panel.not_saved() == 1 and "both bad" in asked.inner_text() and f"#{theirs}" in asked.inner_text()
    assert records(lab, "children")[item]["value"] == "bad", "nothing is overwritten before somebody has said so"
    assert grave(panel.page, panel.place) == []
    picture(panel.place, "rating-conflict")
    asked.get_by_role("button", name="Save this one instead").click()
    panel.moved(item)
    panel.saved()
    assert records(lab, "children")[item]["value"] in ("a", "b")
    item = panel.item
    lab.value(f"lab.queue('children').submit(item={item!r}, value='tie')")
    press(panel, "b")
    asked.wait_for()
    asked.get_by_role("button", name="Keep what is saved").click()
    asked.wait_for(state="detached")
    assert records(lab, "children")[item]["value"] == "tie" and panel.kept() == []


def test_a_ranking_is_given_by_keys(lab):
    panel = show(lab, RANKING)
    order = lab.value(f"lab.queue('lists').task(item={panel.item!r})['side_order']")
    item = panel.item
    press(panel, "2", "3", "=", "1")
    assert grave(panel.page, panel.place) == []
    picture(panel.place, "rating-ranking")
    press(panel, "Enter")
    panel.moved(item)
    panel.saved()
    assert records(lab, "lists")[item]["value"] == f"{order[1]}>{'='.join(sorted((order[2], order[0])))}"


def test_the_panel_of_a_dead_kernel_says_so_and_the_next_one_sends_what_it_kept(lab, tmp_path):
    panel = show(lab, SINGLE.replace('name="polite"', 'name="kept"'))
    picture(panel.place, "rating-single")
    rate(panel, "2")
    lab.page.evaluate("() => window.panel.sessionContext.session.kernel.restart()")
    item = panel.item
    press(panel, "1")
    assert panel.not_saved() == 1
    press(panel, "3")
    panel.page.wait_for_function("() => document.querySelector('.lr-not-saved strong').innerText.includes('(2)')")
    assert "ended" in panel.status and "lab.queue('kept').show()" in panel.status
    assert grave(panel.page, panel.place) == []
    picture(panel.place, "rating-not-saved")
    with lab.page.expect_download() as download:
        panel.place.get_by_role("button", name="Download what is not saved").click()
    download.value.save_as(tmp_path / "not-saved.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "not-saved.jsonl").read_text().splitlines()]
    assert [(line["item"], line["value"]) for line in lines] == [(item, 1), (item, 3)]

    # In a cell of its own, below: the old panel is still there and learns it too.
    lab.page.evaluate(BELOW, "import llmops_lab as lab\nlab.queue('kept').show()")
    panel.page.wait_for_function("() => document.querySelectorAll('.lr-item').length === 2")
    Panel(lab.page).empty()
    for number in range(2):
        lab.page.locator(".lr-panel").nth(number).locator(".lr-saved").wait_for()
    held = [record for record in lab.value("lab.queue('kept').records()") if record["item"] == item]
    assert [record["value"] for record in held] == [1, 3], "in the order in which they were given, each once"
    assert lab.value(f"lab.queue('kept').import_ratings({str(tmp_path / 'not-saved.jsonl')!r})") == [record["row"] for record in held]
    assert len(lab.value("lab.queue('kept').records()")) == 3, "what has arrived is not doubled by the file"
