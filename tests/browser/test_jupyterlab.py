"""What a person sees in JupyterLab: answers that come word by word, bars that move, colours that can be read.

And nothing that a model wrote is run, whatever shows it.
"""

import asyncio
import json
import shutil
import threading
from pathlib import Path

import pytest

from tests.browser.conftest import NOTEBOOK, write_notebook
from tests.servers import chunk, refuses

ROOT = Path(__file__).parents[2]
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"


class Gate:
    """Answers of a server that stop in the middle until the test opens the gate."""

    def __init__(self):
        self.opened = threading.Event()

    async def __call__(self, request, body):
        first = [chunk(body, {"role": "assistant", "content": ""}), chunk(body, {"content": "first "})]
        response = await stream_of(request, first)
        while not self.opened.is_set():
            await asyncio.sleep(0.02)
        for event in (chunk(body, {"content": "second"}), chunk(body, {}, "stop"), "[DONE]"):
            await response.write(b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n")
        await response.write_eof()
        return response


async def stream_of(request, events):
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
    return response


def model(server):
    return f"openai:m@{server.url}"


class TestPrompt:
    def test_an_answer_comes_word_by_word_and_leaves_one_output(self, lab, server):
        gate = Gate()
        server.always(gate)
        lab.start(f"%%prompt greeting --model {model(server)} --out a --no-track\nhello")
        lab.page.wait_for_function("() => document.querySelector('.jp-OutputArea-output')?.innerText.includes('first')")
        assert "second" not in lab.text
        gate.opened.set()
        (output,) = lab.finished()
        assert output["output_type"] == "display_data" and lab.shown.count() == 1
        text, footer = lab.text.split("\n")
        assert text == "first second" == lab.value("a.text")
        for part in (model(server), "tokens", "first token", "cost unknown", "greeting", "not tracked"):
            assert part in footer
        assert lab.value("a.prompt.name") == "greeting"

    def test_an_error_is_one_line(self, lab, server):
        server.always("401")
        outputs = lab.run(f"%%prompt --model {model(server)} --no-track\nhello")
        assert outputs[-1]["output_type"] == "error"
        line = lab.shown.last.inner_text().strip()
        assert line.startswith("ProviderFault: ") and "unauthorized" in line and "\n" not in line
        assert not lab.text.startswith("failed: unauthorized ·")
        (error,) = lab.run("%%prompt --model tini\nhello")
        assert error["output_type"] == "error" and "Did you mean tiny?" in lab.text and "\n" not in lab.text.strip()

    def test_the_stop_button_ends_it(self, lab, server):
        gate = Gate()
        server.always(gate)
        lab.start(f"%%prompt --model {model(server)} --no-track\nhello")
        lab.page.wait_for_function("() => document.querySelector('.jp-OutputArea-output')?.innerText.includes('first')")
        lab.command("notebook:interrupt-kernel")
        partial, error = lab.finished()
        gate.opened.set()
        assert partial["data"]["text/plain"].startswith("first") and error["ename"] == "Cancelled"
        assert "may have been paid for" in lab.text and "Traceback" not in lab.text


GRID = """g = lab.grid({{'p': '{{{{ q }}}}'}}, [{{'id': str(i), 'q': '{word} ' + str(i)}} for i in range({rows})],
             models=[{model!r}], scorers=['length'], concurrency=2, track=False)
"""


class TestGrid:
    @pytest.fixture(autouse=True)
    def _slow(self, lab, server):
        server.latency_s = 0.1
        lab.run("import llmops_lab as lab")
        yield
        server.latency_s = 0.0

    def test_a_bar_moves_and_one_line_is_left(self, lab, server):
        lab.start(GRID.format(word="bar", rows=30, model=model(server)) + "g")
        lab.page.evaluate("() => { window.bars = []; }")
        lab.page.wait_for_function("""() => {
            const bar = document.querySelector('.jp-OutputArea-output progress');
            if (bar && window.bars.at(-1) !== bar.value) window.bars.push(bar.value);
            return window.ran;
        }""")
        bars = lab.page.evaluate("() => window.bars")
        assert len(bars) >= 3 and bars == sorted(bars) and bars[-1] > 0.3
        outputs = lab.finished()
        assert [output["output_type"] for output in outputs] == ["display_data", "execute_result"]
        assert "30 calls sent" in outputs[1]["data"]["text/plain"]
        lab.page.wait_for_function("() => document.querySelector('.llmops-lab')?.innerText.includes('30 of 30 answered')")
        assert lab.page.locator(".jp-OutputArea-output progress").count() == 0 and lab.text.startswith("done: 30/30 cells")

    def test_the_stop_button_keeps_what_is_done_and_resume_completes_it(self, lab, server):
        lab.start(GRID.format(word="stop", rows=40, model=model(server)))
        lab.page.wait_for_function("() => document.querySelector('.jp-OutputArea-output progress')?.value > 0.1")
        lab.command("notebook:interrupt-kernel")
        (line,) = lab.finished()
        assert line["data"]["text/plain"].startswith("cancelled: ") and "goes on from here" in lab.text
        assert lab.value("g.state") == "cancelled"
        done = lab.value("[cell['text'] for cell in g.records() if cell['status'] == 'ok']")
        assert 0 < len(done) < 40
        outputs = lab.run("g.resume()\ng")
        assert lab.value("g.state") == "done" and "40 of 40 cells have a reply" in outputs[-1]["data"]["text/plain"]
        assert {server.count(text) for text in done} == {1}
        assert sum(server.counts.values()) <= 42  # the two that were in flight may be asked again

    def test_a_large_one_shows_a_line_a_variant(self, lab):
        rows = "[{'id': str(i), 'q': str(i)} for i in range(20_000)]"
        outputs = lab.run(
            f"big = lab.grid({{'p': '{{{{ q }}}}'}}, {rows}, models=['echo'], scorers=['length'], track=False)\nbig", timeout=120
        )
        lab.page.wait_for_function("() => document.querySelector('.llmops-lab')?.innerText.includes('20,000 of 20,000 answered')")
        assert lab.page.locator(f"{NOTEBOOK} .jp-OutputArea-output *").count() < 1_000 and len(json.dumps(outputs)) < 40_000
        for code in ("big.frame()", "big.plot(kind='latency')"):
            outputs = lab.run(code)
            assert [output["output_type"] for output in outputs] in (["execute_result"], ["display_data"]), outputs
            assert len(json.dumps(outputs)) < 60_000, code  # with the picture that plotly adds to a figure
            lab.shown.first.wait_for()
            assert lab.page.locator(f"{NOTEBOOK} .jp-OutputArea-output *").count() < 1_000, code


OVERLAPS = """() => {
    const boxes = [...document.querySelectorAll('.js-plotly-plot .textpoint text')].map(each => each.getBoundingClientRect());
    const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    return [boxes.length, boxes.flatMap((a, at) => boxes.slice(at + 1).filter(b => meet(a, b))).length];
}"""


def test_labels_of_a_cost_figure_keep_apart(lab):
    lab.run("import llmops_lab as lab\ndef right(reply, row): return len(reply.text.split()) != 43")
    lab.run("lab.configure(prices={'echo': {'input': 1000, 'output': 0}})")
    prompts = {f"a prompt with a name, {words} words": "word " * words + "{{ q }}" for words in (40, 42, 44, 90)}
    lab.run(f"lab.grid({prompts!r}, [{{'q': '1'}}, {{'q': '2'}}], models=['echo'], scorers=[right], track=False)"
            ".plot(kind='cost')")  # fmt: skip
    lab.page.wait_for_selector(".js-plotly-plot .textpoint text")
    assert lab.page.evaluate(OVERLAPS) == [4, 0]
    lab.run("lab.configure(prices=None)")


class TestCompletion:
    def test_the_tab_key_offers_models_and_saved_prompts(self, lab):
        lab.run("%%prompt ticket-kind --model tiny --no-track --save\nWhat is this ticket about?")
        for typed, wanted in (("%%prompt --model ti", "tiny"), ("%prompt show ", "ticket-kind"), ("%%grid --scorer exa", "exact")):
            offered = lab.page.locator(".jp-Completer .jp-Completer-match", has_text=wanted)
            for _ in range(20):  # names that must be looked up are there at the next TAB, when the machine is slow
                lab.press(typed, "Tab")
                lab.page.locator(".jp-Completer .jp-Completer-match").first.wait_for()
                if offered.count():
                    break
                lab.page.keyboard.press("Escape")
            taken = f"() => window.panel.content.model.sharedModel.cells[0].source == {typed.rpartition(' ')[0] + ' ' + wanted!r}"
            lab.page.keyboard.press("Enter")
            lab.page.wait_for_function(taken)


@pytest.fixture
def hostile(lab, server):
    """Texts that would harm the page that ran them, known to the kernel too; the server answers with them when it is asked their names."""
    beacon = f"http://127.0.0.1:{server.port}/beacon"
    texts = {
        "script": f"<script>fetch('{beacon}'); alert(1)</script>",
        "image": f'<img src="{beacon}" onerror="alert(1)"><img src=x onerror="fetch(\'{beacon}\')">',
        "markdown": f"![x]({beacon}) [click](javascript:alert(1))",
        "break out": f"</td></pre></script><svg onload=alert(1)><image href='{beacon}'/></svg>\"'`",
        "frame": f"<iframe src='{beacon}'></iframe><style>@import '{beacon}'; * {{background: url({beacon})}}</style>",
        "link": '<a href="javascript:alert(1)">click</a>',
        "formula": f"$\\href{{javascript:alert(1)}}{{x}}$ $\\style{{background:url({beacon})}}{{y}}$ $\\require{{{beacon}}}$ $5 and $6",
        "terminal": f"before\x1b[2J\x1b]0;t\x07\x1b[8mhidden\x1b[0m\x1b]8;;{beacon}\x1b\\click\x1b]8;;\x1b\\",
        "nul": "a\x00b\x01c\x7f",
        "surrogate": "half \ud83d and \udc00 alone",
        "bidi": "user\u202e\u2066txt.exe\u2069",
    }
    before, server.answer = server.answer, lambda text: texts.get(text, text)
    lab.run(f"import llmops_lab as lab\nfrom IPython.display import HTML, display\nHOSTILE = {texts!a}")
    yield texts
    server.answer = before


def grid_of_hostiles(server):
    """A cell that runs a grid with hostile prompts, models, rows, scorers' errors and name."""
    return f"""
def rank(reply, row): return float(len(reply.text) % 7)
def breaks(reply, row): raise ValueError(reply.text)
lab.configure(prices={{{model(server)!r}: {{"input": 1, "output": 2}}}})
named = lab.model({model(server)!r}, label=HOSTILE["image"])
plain = {{text: "{{{{ q }}}}" for text in HOSTILE.values()}}
g = lab.grid(plain, [{{"id": text, "q": name}} for name, text in HOSTILE.items()], models=[named],
             scorers=[lab.scorer(rank, higher_is_better=True), breaks], name=HOSTILE["script"], track=False)
"""


def assert_nothing_ran(lab, *, links=False):
    assert lab.elsewhere == [] and lab.dialogs == []
    elements = lab.page.evaluate(
        """where => [...document.querySelectorAll(where + ' .jp-OutputArea-output *')]
        .filter(each => !each.closest('.js-plotly-plot, .llmops-lab') && !(each.tagName == 'IMG' && each.src.startsWith('data:')))
        .map(each => each.tagName + (each.hasAttribute('onerror') || each.hasAttribute('onload') ? '!' : ''))""",
        NOTEBOOK,
    )
    allowed = "DIV PRE SPAN TABLE THEAD TBODY TR TH TD P B STRONG SMALL DETAILS SUMMARY INS DEL"
    assert set(elements) <= {*allowed.split(), *(["A"] if links else [])}
    places = lab.page.evaluate("() => [...document.querySelectorAll('.jp-OutputArea-output a')].map(each => each.href)")
    assert [place for place in places if place.startswith("javascript")] == []


class TestHostile:
    def test_the_watch_sees_what_runs(self, lab, server, hostile):
        lab.run("HTML(HOSTILE['image'] + HOSTILE['script'])")
        lab.page.wait_for_timeout(500)
        assert lab.dialogs and any("beacon" in url for url in lab.elsewhere)

    def test_an_answer_is_shown_as_text(self, lab, server, hostile):
        for name, text in hostile.items():
            lab.run(f"%%prompt --model {model(server)} --no-track --out a\n{name}")
            assert lab.value("a.text") == text
            printable = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
            assert lab.shown.first.locator("pre").inner_text() == printable
            assert_nothing_ran(lab)

    def test_a_grid_with_all_that_it_shows_is_text(self, lab, server, hostile):
        lab.run(grid_of_hostiles(server))
        for code in (
            "g",
            "g.frame()",
            "g.summary()",
            "lab.compare_all(g, baseline=HOSTILE['script'], scorer='rank')",
            "%lab runs",
            "%lab cost",
        ):
            outputs = lab.run(code)
            assert [output["output_type"] for output in outputs] in (["execute_result"], ["display_data"])
            if code == "g":  # the view asks for its cells when it stands; test_hostile_views looks at all of it
                says = "text => document.querySelector('.llmops-lab').innerText.includes(text)"
                lab.page.wait_for_function(says, arg=hostile["image"])
            shown = lab.text
            if code in ("g", "%lab cost"):
                assert hostile["image"] in shown
            if code == "g":
                told = outputs[0]["data"]["text/plain"]
                assert hostile["break out"] in told and hostile["formula"] in told
        lab.run(
            "\n".join(
                ["display(g.frame())", "display(g)", "display(lab.compare(g, a=HOSTILE['script'], b=HOSTILE['link'], scorer='rank'))"]
            )
        )
        lab.page.wait_for_timeout(500)
        # pandas shows a frame as it likes: there a text between dollar signs is a formula, whose links MathJax takes away.
        lab.page.evaluate("() => document.querySelectorAll('.jp-OutputArea-output mjx-container').forEach(each => each.remove())")
        lab.page.evaluate(
            "() => document.querySelectorAll('.jp-OutputArea-output .dataframe').forEach(each => each.closest('div').remove())"
        )
        assert_nothing_ran(lab)

    def test_a_figure_shows_its_labels_as_text(self, lab, server, hostile):
        lab.run(grid_of_hostiles(server))
        for code in ("g.plot()", "g.plot(kind='latency')", "g.plot(kind='cost')"):
            lab.run(code)
            lab.page.wait_for_function("() => document.querySelector('.js-plotly-plot .main-svg text')")
            lab.page.wait_for_timeout(300)
            assert_nothing_ran(lab)
            labels = lab.page.locator(".js-plotly-plot").inner_text() + lab.page.locator(".js-plotly-plot").text_content()
            assert f"{hostile['script']} / {hostile['image']}" in labels and "user\\u202e\\u2066txt.exe\\u2069" in labels
            assert lab.page.locator(".js-plotly-plot a[*|href^='javascript']").count() == 0
        assert lab.complaints == []

    def test_an_error_is_text(self, lab, server, hostile):
        for text in hostile.values():
            server.script(refuses(400, text))
            error = lab.run(f"%%prompt --model {model(server)} --no-track\nx")[-1]
            assert error["ename"] == "ProviderFault" and "\x1b" not in error["evalue"] and "\x00" not in error["evalue"]
            assert "hidden" not in text or "hidden" in lab.text
            assert_nothing_ran(lab, links=True)  # JupyterLab makes links of an error's addresses; nothing follows them by itself

    def test_dollar_signs_make_no_formula(self, lab, server, hostile):
        lab.run(grid_of_hostiles(server))
        lab.run("\n".join([
            "print('from here')", "display(g, lab.compare(g, a=HOSTILE['formula'], b=HOSTILE['link'], scorer='rank'))",
            f"display(lab.ask('formula', model={model(server)!r}, track=False))", "%lab cost", "%lab runs",
            "display(HTML('<p class=control>$x$</p>'))",
        ]))  # fmt: skip
        lab.page.wait_for_selector(".control mjx-container")  # the last one, so those before it have been looked at
        assert lab.page.locator(f"{NOTEBOOK} mjx-container").count() == 1
        assert lab.text.count("$5 and $6") >= 3

    def test_a_stored_notebook_shows_the_same_to_a_stranger(self, lab, server, hostile):
        asked = [f"%%prompt --model {model(server)} --no-track\n{name}" for name in hostile]
        verdict = "lab.compare(g, a=HOSTILE['script'], b=HOSTILE['formula'], scorer='rank')"
        begin = f"%load_ext llmops_lab\nimport llmops_lab as lab\nHOSTILE = {hostile!a}"
        cells = [begin, *asked, grid_of_hostiles(server) + "g", "g.plot()", verdict, "%lab runs"]
        mine = write_notebook(lab.folder / "mine.ipynb", *cells)
        lab.open(mine.name)
        lab.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        lab.page.wait_for_function("() => window.panel.content.widgets.slice(1).every(each => each.model.outputs.length)")
        lab.save()
        lab.close()
        book = json.loads(mine.read_text())
        assert all(cell["outputs"] for cell in book["cells"][1:])
        book["cells"][0]["source"] = "# this is no longer what was signed"
        (lab.folder / "strange.ipynb").write_text(json.dumps(book))
        for name, trusted in (("mine.ipynb", True), ("strange.ipynb", False)):
            lab.forget()
            lab.open(name, usable=False)
            assert lab.page.evaluate("() => window.panel.content.widgets.at(-1).model.trusted") is trusted
            for number in range(0, len(cells), 3):
                lab.scroll_to(number)
            lab.page.wait_for_function("() => window.panel.node.querySelector('.js-plotly-plot, .jp-OutputArea-output img')")
            assert hostile["break out"] in lab.text and hostile["image"] in lab.text
            assert_nothing_ran(lab)
            lab.close()


@pytest.mark.parametrize("name", ["01_first_prompt", "02_compare_prompts", "03_bring_your_own_model"])
def test_a_notebook_of_ours_opens_with_its_figures(lab, name):
    shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", lab.folder)
    cells = json.loads((lab.folder / f"{name}.ipynb").read_text())["cells"]
    figures = [number for number, cell in enumerate(cells) if "application/vnd.plotly" in json.dumps(cell.get("outputs", []))]
    assert figures
    lab.open(f"{name}.ipynb")
    for number in figures:
        lab.scroll_to(number)
        lab.page.wait_for_function("number => window.panel.content.widgets[number].node.querySelector('.main-svg .trace')", arg=number)
    assert lab.complaints == [] and lab.elsewhere == [] and lab.dialogs == []
    lab.close()


# Of what stands beside the views: those are held to axe-core's rules.
CONTRASTS = """where => {
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const over = (front, back) => front.slice(0, 3).map((part, at) => part * (front[3] ?? 1) + back[at] * (1 - (front[3] ?? 1)));
    const light = colour => {
        const [red, green, blue] = colour.map(part => part / 255)
            .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const ground = each => {
        if (!each) return [255, 255, 255];
        const own = numbers(getComputedStyle(each).backgroundColor);
        return own[3] === 0 ? ground(each.parentElement) : own.length < 4 ? own : over(own, ground(each.parentElement));
    };
    const says = each => [...each.childNodes].some(node => node.nodeType == 3 && node.data.trim());
    return [...document.querySelectorAll(where)].filter(each => !each.closest('.llmops-lab') && says(each))
        .map(each => {
            const back = ground(each), [one, other] = [over(numbers(getComputedStyle(each).color), back), back].map(light);
            return [each.tagName + ' ' + each.textContent.slice(0, 40), (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)];
        });
}"""
COLOURFUL = """
import llmops_lab as lab
def right(reply, row): return reply.text.startswith("good")
def half(reply, row): return reply.text.startswith("good") or int(row["id"]) % 2 == 0
rows = [{"id": str(number)} for number in range(40)]
c = lab.grid({"bad": "bad", "good": "good", "same": "good "}, rows, models=["echo"], scorers=[right, half], track=False)
pairs = [lab.compare(c, a="bad", b="good", scorer="right"), lab.compare(c, a="good", b="bad", scorer="right"),
         lab.compare(c, a="good", b="same", scorer="right", margin=0.2), lab.compare(c, a="good", b="same", scorer="right")]
display(c, *pairs)
display({"text/html": c._repr_html_()}, raw=True)  # the table that stands where no view can
print([v.outcome for v in pairs])
"""


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_text_of_ours_can_be_read_in_both_themes(lab, server, theme):
    server.always("length")
    lab.theme(theme)
    try:
        asked = [
            f"get_ipython().run_cell_magic('prompt', 'colours{len(theme)} --model tiny --no-track --save', {text!r})"
            for text in ("one two", "one six")
        ]
        cut = f"get_ipython().run_cell_magic('prompt', '--model {model(server)} --no-track', 'x')"
        lab.run("\n".join([COLOURFUL, *asked, cut, "%lab"]), timeout=90)
        shown = lab.text
        for wanted in ("['better', 'worse', 'equivalent', 'inconclusive']", "cut by the token limit", "what changed since"):
            assert wanted in shown
        found = lab.page.evaluate(CONTRASTS, f"{NOTEBOOK} .jp-OutputArea-output *")
        assert len(found) > 40
        assert [each for each in found if each[1] < 4.5] == []
    finally:
        lab.theme(LIGHT)
