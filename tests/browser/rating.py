"""A hand that rates in the panel, and remembers what the panel said."""

import contextlib
import json

SETTLED_MS = 320  # the panel takes no answer for an item that has only just appeared
# Every word that the panel says about saving, as it stands on the page, with the item that is shown at that moment.
LISTEN = """() => {
    window.told = window.told ?? [];
    const look = () => {
        for (const panel of document.querySelectorAll('.lr-panel')) {
            const text = panel.querySelector('.lr-status [role=status]')?.innerText ?? '';
            const found = text.match(/Saved #(\\d+) (\\d\\d:\\d\\d)/);
            if (found && window.told.at(-1) !== Number(found[1])) window.told.push(Number(found[1]));
        }
    };
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
    look();
}"""


class Panel:
    """One panel on a page: in a notebook, or the page for reviewers."""

    def __init__(self, page, inside=".lr-panel"):
        self.page, self.place = page, page.locator(inside).last

    def ready(self):
        """Wait for an item (or the end of the queue), put the focus into the panel and listen to what it says."""
        self.place.locator(".lr-item").wait_for()
        self.page.evaluate(LISTEN)
        self.focus()
        return self

    def focus(self):
        self.place.evaluate("panel => panel.focus()")

    @property
    def item(self):
        """The item that is shown, None at the end."""
        return self.place.locator(".lr-item").get_attribute("data-item")

    @property
    def status(self):
        return self.place.locator(".lr-status").inner_text()

    def text(self, part):
        return self.place.locator(part).inner_text()

    def settle(self):
        self.page.wait_for_timeout(SETTLED_MS)

    def moved(self, before, timeout=20):
        """Wait until another item is shown."""
        with self._telling():
            self.page.wait_for_function(
                "([panel, before]) => panel.querySelector('.lr-item')?.dataset.item !== before",
                arg=[self.place.element_handle(), before],
                timeout=1000 * timeout,
            )

    def saved(self, timeout=20):
        """Wait until everything is saved; the row that was named last."""
        self._wait_for(self.place.locator(".lr-saved"), timeout)
        return int(self.text(".lr-saved").split("#")[1].split()[0])

    def not_saved(self, timeout=8):
        """Wait until the panel says that something is not saved; how many answers it names."""
        place = self.place.locator(".lr-not-saved strong")
        self._wait_for(place, timeout)
        return int(place.inner_text().split("(")[1].rstrip(")"))

    def _wait_for(self, place, timeout):
        with self._telling():
            place.wait_for(timeout=1000 * timeout)

    @contextlib.contextmanager
    def _telling(self):
        try:
            yield
        except Exception as error:
            raise AssertionError(f"{error}\nThe panel says:\n{self.place.inner_text()}\nkept: {self.kept()}") from error

    def empty(self):
        """Wait until nothing is kept in the browser."""
        self.page.wait_for_function("() => !Object.keys(localStorage).some(name => name.startsWith('llmops-lab/outbox/'))")

    def kept(self):
        """What the browser's outbox holds."""
        script = "() => Object.entries(localStorage).filter(([name]) => name.startsWith('llmops-lab/outbox/')).map(([, entry]) => entry)"
        return [json.loads(entry) for entry in self.page.evaluate(script)]
