"""Ratings under everything that goes wrong: kernels that restart and die, tabs that reload, no network, hands that click twice.

Two people rate the same items: one in a notebook, one on the page for reviewers. What their panels said to be saved is held against the
ledger: nothing lost, nothing doubled, nothing overwritten. Short here; in full (200 ratings) with LLMOPS_LAB_FULL=1.
"""

import os
import random
import signal

import pytest

from tests.browser.rating import Panel

FULL = os.environ.get("LLMOPS_LAB_FULL") == "1"
RATINGS = 200 if FULL else 30
ITEMS = RATINGS // 2
MAKE = f"""
import os
import llmops_lab as lab
rows = [{{"id": f"item{{n:03}}", "prompt": f"question {{n}}", "text": f"answer {{n}}"}} for n in range({ITEMS})]
rubric = lab.Rubric("How kind is it?", levels={{1: "rude", 2: "plain", 3: "kind"}})
q = lab.rate(rows, rubric, raters=2, seed=3, name="faults")
"""
AGAIN = "import os\nimport llmops_lab as lab\nq = lab.queue('faults')\nq.show()"
KEYS = "123"


class Person:
    """Somebody who rates one item after the other, and writes down what they meant and what the panel said."""

    def __init__(self, page, draw):
        self.page, self.draw, self.panel = page, draw, None
        self.meant, self.named, self.said = {}, {}, set()

    @property
    def done(self):
        return self.panel.item is None

    def look(self):
        """Take the panel that is on the page now."""
        self.panel = Panel(self.page).ready()

    def leave(self):
        """Before the page or the panel goes: what it has said stays known."""
        self.said |= set(self.page.evaluate("() => window.told ?? []"))

    def press(self, after=lambda: None):
        """Answer the shown item by its key, right ``after`` something went wrong; the item. JupyterLab soon lays a dialog over the page."""
        item, key = self.panel.item, self.draw.choice(KEYS)
        self.panel.settle()
        self.panel.focus()
        after()
        self.page.keyboard.press(key)
        self.meant[item] = int(key)
        return item

    def rate(self):
        """Rate the shown item, and wait for the word that it is saved."""
        item = self.press()
        self.panel.moved(item)
        self.named[self.panel.saved()] = item

    def double(self):
        """Click twice, as people do."""
        item, number = self.panel.item, self.draw.randrange(len(KEYS))
        self.panel.settle()
        self.panel.place.locator(".lr-answer").nth(number).dblclick()
        self.panel.moved(item)
        self.named[self.panel.saved()] = item
        self.meant[item] = number + 1

    def cut(self):
        self.page.context.set_offline(True)

    def in_vain(self, after=lambda: None):
        """Rate the shown item where it cannot be saved: the panel says so at once, and names no number."""
        item = self.press(after)
        assert self.panel.not_saved() == 1
        assert self.panel.item == item and "#" not in self.panel.text("h3")
        assert [entry["item"] for entry in self.panel.kept()] == [item]
        return item


class Notebook(Person):
    """In a cell, with a kernel that restarts and dies."""

    def __init__(self, lab, draw):
        super().__init__(lab.page, draw)
        self.lab, self.cell = lab, AGAIN
        assert [output["output_type"] for output in lab.run(MAKE, timeout=90)] == ["display_data"]
        self.look()

    def show(self):
        """Run the cell again, in whatever kernel there is."""
        self.leave()
        self.lab.open("work.ipynb")
        self.lab.run(AGAIN, timeout=90)
        self.look()

    def restart(self):
        self.page.evaluate("() => window.panel.sessionContext.session.kernel.restart()")
        self.in_vain()
        assert "run the cell again or type lab.queue(" in self.panel.status
        self.show()
        self.panel.saved()

    def kill(self):
        kernel = self.lab.value("__import__('os').getpid()")
        self.in_vain(lambda: os.kill(kernel, signal.SIGKILL))
        self.page.locator(".jp-Dialog button").first.click()  # JupyterLab says that the kernel died, and begins anew
        self.show()
        self.panel.saved()

    def reload(self):
        self.leave()
        self.lab.save()  # else the browser asks whether to leave
        self.page.reload()
        self.page.wait_for_function("() => window.jupyterapp", timeout=60_000)
        self.page.evaluate("() => window.jupyterapp.restored")
        self.show()

    def offline(self):
        """JupyterLab may say over the page that it has lost the server: that is not the panel's."""
        item = self.in_vain(self.cut)
        self.page.context.set_offline(False)
        self.panel.moved(item)
        self.named[self.panel.saved()] = item
        for _ in range(self.page.locator(".jp-Dialog").count()):
            self.page.locator(".jp-Dialog button").first.click()

    FAULTS = ("restart", "double", "kill", "reload", "offline")


class Reviewer(Person):
    """On the page for reviewers, without a kernel."""

    def __init__(self, lab, draw):
        context = lab.page.context.browser.new_context()  # a browser of their own
        context.add_cookies(lab.page.context.cookies())
        super().__init__(context.new_page(), draw)
        self.url = f"{lab.url}llmops-lab/review/faults"
        self.reload()

    def reload(self):
        if self.panel:
            self.leave()
        self.page.goto(self.url)
        self.look()

    def offline(self):
        item = self.in_vain(self.cut)
        self.page.context.set_offline(False)
        self.panel.moved(item)
        self.named[self.panel.saved()] = item

    def offline_and_reload(self):
        """What could not be sent outlives the page."""
        self.in_vain(self.cut)
        self.page.context.set_offline(False)
        self.reload()
        self.panel.empty()

    FAULTS = ("offline", "double", "reload", "offline_and_reload")


@pytest.mark.timeout(1500 if FULL else 300)
def test_nothing_is_lost_doubled_or_overwritten(lab):
    draw = random.Random(7)
    people = [Notebook(lab, draw), Reviewer(lab, draw)]
    for turn in range(ITEMS):
        for person in people:
            person.page.bring_to_front()
            fault = person.FAULTS[turn // 3 % len(person.FAULTS)] if turn % 3 == 1 else "rate"
            getattr(person, fault)()
            if fault == "reload":
                person.rate()
    for person in people:
        person.page.bring_to_front()
        assert person.done and person.panel.kept() == []
        person.leave()
    people[0].page.bring_to_front()
    records = lab.value("lab.queue('faults').records()")
    raters = {record["rater"] for record in records}
    assert len(records) == RATINGS and len(raters) == 2, "each answer once, and nothing else"
    rows = {record["row"]: record for record in records}
    by_item = {(record["rater"], record["item"]): record for record in records}
    assert len(by_item) == RATINGS and all(record["superseded_by"] is None for record in records)
    for person in people:
        rater = rows[next(iter(person.named))]["rater"]
        assert {item: by_item[rater, item]["value"] for item in person.meant} == person.meant and len(person.meant) == ITEMS
        assert {row: rows[row]["item"] for row in person.named} == person.named
        assert set(person.named) <= person.said
        assert all(rows[row]["rater"] == rater for row in person.said), "what a panel calls saved is in the ledger, as this person's"
