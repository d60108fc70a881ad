"""The review page as a reviewer has it: one link, no JupyterLab, no kernel. And the pages in a file, which need no server either."""

import json
import os
import signal
from pathlib import Path

import pytest

import llmops_lab as lab
from llmops_lab import settings
from tests.browser.conftest import CHROMIUM
from tests.browser.looks import grave
from tests.commands import Place

pytest.importorskip("jupyter_server", reason="jupyter_server is not installed")
PAGE = Path(lab.__file__).parent / "widgets" / "static" / "page.js"
HOSTILE = [
    "<script>window.ran = 1</script>",
    "</script><script>window.ran = 2</script>",
    "<!--<script>window.ran = 3",
    "<img src=x onerror='window.ran = 4'><img src='http://127.0.0.1:9/beacon.png'>",
    "![b](http://127.0.0.1:9/beacon.png) [c](javascript:window.ran=5)",
    "<svg onload='window.ran = 6'><use href='http://127.0.0.1:9/x.svg'/></svg>",
    "<style>@import url(http://127.0.0.1:9/x.css); body { display: none }</style>",
    '"}]}</script><iframe srcdoc="<script>parent.ran = 7</script>"></iframe>',
    "<base href='http://127.0.0.1:9/'><form action='http://127.0.0.1:9/'><button autofocus>go</button></form>",
    "\u2028\u2029\ud800 \x00 ]]> --> &lt;script&gt; \\u003cscript\\u003e ${window.ran = 8} {{ 1 + 1 }}",
    "<link rel=stylesheet href=http://127.0.0.1:9/x.css><meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "<a href='http://127.0.0.1:9/' ping='http://127.0.0.1:9/'>click</a><object data='http://127.0.0.1:9/'></object>",
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}: it comes with Debian's package chromium")
    if not PAGE.is_file():
        pytest.skip("the bundles were not built: node is not installed")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


class Tab:
    """A tab of its own person, with all that it sends and complains of."""

    def __init__(self, browser, **options):
        self.page = browser.new_context(**options).new_page()
        self.page.set_default_timeout(30_000)
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))

    def rate(self, key, count):
        """Press the key, and wait until the page says that this is saved, as the rater's rating number ``count``."""
        self.page.wait_for_timeout(400)  # a key that comes sooner was meant for the item before
        self.page.keyboard.press(key)
        self.saved(count)

    def saved(self, count):
        """Wait until so many items are done and the last of them is said to be saved."""
        self.page.wait_for_function(
            "count => document.querySelector('progress')?.value === count && /Saved #/.test(document.body.innerText)", arg=count
        )


@pytest.fixture
def tab(browser):
    made = []

    def new(**options):
        made.append(Tab(browser, **options))
        return made[-1]

    yield new
    for each in made:
        each.page.context.close()


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("LLMOPS_LAB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    made = Place(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(made.home))
    with settings.at(tmp_path):
        yield made


def hostile_queue(**given):
    texts = enumerate(HOSTILE)
    rows = [{"id": f"r{number}", "question": text, "x": f"{text} x{number}", "y": f"**{number}** {text}"} for number, text in texts]
    rubric = lab.Rubric(f"Which is better? {HOSTILE[1]}", guide=HOSTILE[3])
    return lab.rate(rows, rubric, mode="pairwise", a="x", b="y", prompt="question", seed=7, **given)


def test_two_reviewers_rate_with_the_keyboard_each_as_themselves_through_an_end_of_the_server(place, tab):
    queue = hostile_queue(raters=["ann", "bob"], name="tone")
    words = ("review", "tone")
    server = place.start(*words)
    links = dict(server.stdout.readline().rstrip("\n").split("\t") for _ in range(2))
    try:
        ann, bob = tab(color_scheme="light"), tab(color_scheme="dark")
        ann.page.goto(links["ann"])
        ann.page.wait_for_selector("h3")
        assert "token" not in ann.page.url and "rated by ann" in ann.page.inner_text("main")
        ann.rate("a", 1)  # nobody has clicked into the panel
        ann.rate("b", 2)
        bob.page.goto(links["bob"])
        bob.page.wait_for_selector("h3")
        assert "0 of 12" in bob.page.inner_text("main") and "ann" not in bob.page.content()
        bob.rate("e", 1)
        assert grave(bob.page, bob.page.locator("html")) == []
        table = queue.ratings()
        assert dict(table["rater"].value_counts()) == {"ann": 2, "bob": 1} and table["superseded_by"].isna().all()
        for each in (ann, bob):
            assert each.page.evaluate("window.ran") is None and each.complaints == []
            assert {url.split("/")[2] for url in each.requests} == {links["ann"].split("/")[2]}

        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)
        assert server.returncode == 130
        ann.page.keyboard.press("a")
        ann.page.wait_for_selector("text=NOT SAVED")
        assert len(queue.ratings()) == 3
        server = place.start(*words)
        links = dict(server.stdout.readline().rstrip("\n").split("\t") for _ in range(2))
        ann.page.goto(links["ann"])  # the same browser; what waited in it is sent under the same id
        ann.saved(3)
        table = queue.ratings()
        assert dict(table["rater"].value_counts()) == {"ann": 3, "bob": 1} and table["superseded_by"].isna().all()
    finally:
        server.kill()
        server.communicate(timeout=30)


def test_a_queue_in_a_file_is_blind_while_open_and_complete_when_closed_and_sends_nothing(place, tab):
    queue = hostile_queue(raters=["ann", "bob"], name="tone")
    secret = "what-ann-said</script><script>window.ran = 9</script>"
    queue.submit(item="r3", rater="ann", value="a", comment=secret, flag=True)
    queue.submit(item="r3", rater="bob", value="b")
    opened = queue.export(place.folder / "open.html")
    text = opened.read_text("utf-8")
    data = json.loads(text.partition('id="llmops-lab-data">')[2].partition("</script>")[0])
    assert "what-ann-said" not in text and "ann" not in json.dumps(data) and "bob" not in json.dumps(data)
    assert all(line.keys() == {"task", "ratings"} and line["ratings"] == [] for line in data["answers"]["open"]["data"]["items"])
    first = [line["task"]["side_order"] for line in data["answers"]["open"]["data"]["items"]]
    assert set(first) == {"ab", "ba"}  # no place stands for one of the two
    queue.close()
    closed = queue.export(place.folder / "closed.html")
    for path, scheme in ((opened, "light"), (closed, "dark")):
        each = tab(color_scheme=scheme)
        each.page.goto(path.as_uri())
        each.page.wait_for_selector("article")
        assert each.page.locator("article").count() == 12
        each.page.get_by_label("Search texts").fill("X3")
        assert each.page.locator("article h2").all_inner_texts() == ["r3"]
        each.page.get_by_label("Search texts").fill("")
        each.page.get_by_label("Order").select_option("item")
        assert each.page.locator("article h2").all_inner_texts() == [f"r{number}" for number in range(12)]
        assert each.page.evaluate("window.ran") is None and each.complaints == [] and each.requests == [path.as_uri()]
    assert grave(each.page, each.page.locator("html")) == []
    shown = each.page
    shown.get_by_label("Which items").select_option("differing")
    assert shown.locator("article h2").all_inner_texts() == ["r3"]
    assert "A is x" in shown.inner_text("article") and "B is y" in shown.inner_text("article")
    cells = shown.locator("article table td").all_inner_texts()
    assert [cells[0], cells[1].strip(" ⚑"), cells[2], cells[4], cells[5]] == ["ann", "A", secret, "bob", "B"]


def hostile_grid():
    rows = [{"id": f"r{number}", "q": text, "lang": ["de", "en"][number % 2], "answer": "x"} for number, text in enumerate(HOSTILE)]
    prompts = {"plain": "{{ q }}", "again": "{{ q }} {{ q }}"}
    return lab.grid(
        prompts, rows, models=["echo"], scorers=["exact", "length"], expected="answer", name=HOSTILE[1], track=False, progress=False
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_grid_and_a_comparison_in_a_file_are_looked_through_without_a_request(place, tab, scheme):
    grid = hostile_grid()
    made = grid.export(place.folder / "grid.html")
    each = tab(color_scheme=scheme, viewport={"width": 1200, "height": 900})
    page = each.page
    page.goto(made.as_uri())
    page.wait_for_selector("[role=grid] [role=row]")
    assert "24 of 24 answered" in page.inner_text("main") and "A copy to be read" in page.inner_text("main")
    rows = page.locator("[role=grid] [role=row] [role=gridcell]:nth-child(2)")
    page.locator("[role=columnheader] button", has_text="row").click()
    page.locator("[role=columnheader] button", has_text="row").click()
    page.wait_for_function("() => document.querySelector('[role=columnheader][aria-sort=descending]')")
    page.wait_for_function("() => document.querySelector('[role=gridcell]:nth-child(2)').innerText.trim() === 'r11'")
    page.get_by_role("searchbox").fill("onload")
    page.wait_for_function("() => document.querySelectorAll('[role=gridcell]:nth-child(2)').length === 1")
    assert rows.all_inner_texts() == ["r5"]
    page.locator("[role=gridcell]:nth-child(4)").first.click()
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Asked")
    assert "<svg onload=" in page.inner_text("main")
    page.get_by_role("searchbox").fill("")
    page.get_by_label("group by").select_option("lang")
    page.wait_for_selector("table")
    assert grave(each.page, each.page.locator("html")) == []
    assert each.complaints == [] and each.requests == [made.as_uri()] and page.evaluate("window.ran") is None

    made = lab.diff(grid, a="plain", b="again", scorer="length").export(place.folder / "diff.html")
    page.goto(made.as_uri())
    page.wait_for_selector("text=1 of 12")
    page.keyboard.press("j")
    page.wait_for_selector("text=2 of 12")
    for tab_name in ("Slices", "Question", "Scores", "Rows"):
        page.get_by_role("tab" if page.get_by_role("tab").count() else "button", name=tab_name).click()
    assert each.complaints == [] and each.requests[-1] == made.as_uri() and len(each.requests) == 2 and page.evaluate("window.ran") is None
