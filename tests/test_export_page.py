"""Grids, comparisons and queues in one HTML file: what is in it, what is not, and that the page finds what Python finds."""

import base64
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import llmops_lab as lab
from llmops_lab.api.views import _grid_recorded
from llmops_lab.api.views.grid import GridView
from llmops_lab.errors import BadInput
from tests.commands import Place
from tests.servers import ModelServer, last_text, refuses, replies

PACKAGE = Path(lab.__file__).parent
FRONT = PACKAGE.parent / "labextension"
ESBUILD = FRONT / "node_modules" / ".bin" / "esbuild"
built = pytest.mark.skipif(not (PACKAGE / "widgets" / "static" / "page.js").is_file(), reason="the bundles were not built: node is missing")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("LLMOPS_LAB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    made = Place(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(made.home))
    monkeypatch.chdir(tmp_path)
    return made


def small_grid(**more):
    rows = [{"id": f"r{number}", "q": f"</script><!--<script> & {number}", "answer": str(number)} for number in range(6)]
    prompts = {"plain": "{{ q }}", "polite": "Please: {{ q }}"}
    return lab.grid(prompts, rows, models=["echo"], scorers=["length", "exact"], expected="answer", track=False, progress=False, **more)


def data_of(path):
    """The data in a page, as a browser would find it."""
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", path.read_text("utf-8"), re.S)
    assert [attributes for attributes, _ in scripts] == [' type="application/json" id="llmops-lab-data"', ""]
    assert not re.search(r"[<>&]", scripts[0][1])
    return json.loads(scripts[0][1])


@built
def test_a_grid_a_comparison_and_a_queue_each_go_into_one_file_that_names_no_address(place):
    grid = small_grid(name="demo")
    queue = lab.rate(grid, lab.Rubric("Good?", levels={1: "no", 2: "yes"}), name="tone")
    made = [grid.export("g.html"), lab.diff(grid, a="plain", b="polite", scorer="exact").export("d.HTML"), queue.export("q.htm")]
    assert [data_of(path)["view"] for path in made] == ["grid", "diff", "queue"]
    for path in made:
        text = path.read_text("utf-8")
        head = text.partition("<body>")[0]
        assert "default-src 'none'" in head and "connect-src" not in head and "unsafe" not in head
        assert not re.search(
            r"""(?:src|href|action)\s*=\s*["']?(?!data:)(?:https?:)?//""", re.sub(r"<script>.*</script>", "", text, flags=re.S)
        )
        assert str(place.folder) not in text
    assert not list(place.folder.glob(".*.html.*"))


@built
def test_the_command_writes_a_grid_or_a_queue_by_its_name(place):
    grid = small_grid(name="demo")
    lab.rate(grid, lab.Rubric("Good?", levels={1: "no", 2: "yes"}), name="tone")
    for name, view in (("demo", "grid"), (grid.grid_id, "grid"), ("tone", "queue")):
        done = place.run("export", name, "--html", "out.html")
        assert done.code == 0, done.err
        assert done.out.strip() == str(place.folder / "out.html") and data_of(place.folder / "out.html")["view"] == view


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dema", "--html", "x.html"], "Did you mean demo?"),
        (["demo", "--html", "x.pdf"], ".html"),
        (["demo", "--html", "nosuch/x.html"], "does not exist"),
        (["demo"], "--html"),
        (["both", "--html", "x.html"], "a grid and a rating queue"),
    ],
)
def test_2_wrong_use_of_the_command_is_said_and_nothing_is_written(place, words, said):
    small_grid(name="demo")
    lab.rate(small_grid(name="both"), lab.Rubric("Good?", levels={1: "no", 2: "yes"}), name="both")
    done = place.run("export", *words)
    assert done.code == 2 and said in done.err
    assert not list(place.folder.rglob("x.*"))


def test_an_ending_that_nobody_writes_is_refused_with_all_that_are_known(place):
    grid = small_grid()
    with pytest.raises(BadInput, match=r"\.parquet, \.html\."):
        grid.export("x.pdf")
    with pytest.raises(BadInput, match=r"d\.frame"):
        lab.diff(grid, a="plain", b="polite", scorer="exact").export("x.csv")


@built
def test_a_grid_that_is_too_large_for_a_page_is_refused_with_what_to_do(place, monkeypatch):
    monkeypatch.setattr(_grid_recorded, "MOST_CELLS", 10)
    with pytest.raises(BadInput, match=r"12 cells, and a page holds 10 at most\. Export to a \.parquet"):
        small_grid().export("x.html")
    assert not (place.folder / "x.html").exists()


def test_an_installation_without_the_bundles_names_the_next_step_and_keeps_what_was_there(place):
    small_grid(name="demo")
    shutil.copytree(PACKAGE, place.folder / "bare" / "llmops_lab", ignore=shutil.ignore_patterns("static", "__pycache__"))
    before = place.write("x.html", "what was there before")
    code = "import sys; from llmops_lab.cli import main; sys.exit(main(['export', 'demo', '--html', 'x.html']))"
    environment = place.environment(PYTHONPATH=str(place.folder / "bare"))
    done = subprocess.run([sys.executable, "-c", code], cwd=place.folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "Install node" in done.stderr and ".parquet" in done.stderr
    assert before.read_text() == "what was there before"


# -- the page looks for cells as Python does -----------------------------------------------------------------------------------
ASK = """
import { readFileSync } from "node:fs";
import { lines } from "FRONT/src/grid/wire";
import { Grid } from "FRONT/src/page/grid";
const [recorded, calls] = process.argv.slice(2).map((path) => JSON.parse(readFileSync(path, "utf8")));
const grid = new Grid(recorded);
const names = grid.opened.scorers.map(({ name }) => name);
const told = [];
for (const [method, params] of calls) {
  const answer = await grid.answer(method, params);
  told.push(method === "page" ? { ...answer.data, lines_: lines(answer, names) } : answer.data);
}
console.log(JSON.stringify(told));
"""


def lines_of(answer, names):
    """What ``lines`` of grid/wire.ts makes of a page, from Python's answer."""
    import pyarrow

    cells, heads = (pyarrow.ipc.open_stream(buffer).read_all().to_pylist() for buffer in answer.buffers)
    statuses = ("open", "ok", "failed", "cancelled", "skipped")
    numbers = ("input_tokens", "output_tokens", "cost_usd", "latency_s", "ttft_s")
    made = [{"row": head["row_id"], "replicate": head["replicate"], "asked": head["asked"], "cells": []} for head in heads]
    for cell in cells:
        own = {name: cell[name] for name in ("cell", "variant", "text", "finish", "error", "kept")}
        own |= {"status": statuses[cell["status"]], "numbers": [cell[name] for name in numbers]}
        made[cell["line"] - answer.data["start"]]["cells"].append(own | {"scores": [cell[f"score:{name}"] for name in names]})
    return made


def mixed_grid():
    """Two prompts, repeats, replies of many lengths and texts, failures, cells without a score, and columns of all kinds."""

    texts = ["", "Straße ", "alpha\nbeta ", "ZETA <b>", "naïve "]

    def behaviour(request, body):
        asked = last_text(body)
        number = int(re.search(r"\d+", asked)[0])
        if number % 7 == 3:
            return refuses(400, f"refused {number}")(request, body)
        return replies(texts[number % 5] + ("z" * (number % 4) if "polite" in asked else asked))(request, body)

    def odd(reply, target):
        return None if "9" in reply else len(reply) % 5 / 4

    langs = ["de", "en", None]
    rows = [{"id": f"r{number}", "q": f"question {number}", "lang": langs[number % 3], "size": number * 37 % 101} for number in range(40)]
    with ModelServer() as server:
        server.always(behaviour)
        prompts = {"plain": "plain {{ q }}", "polite": "polite {{ q }}"}
        return lab.grid(
            prompts, rows, models=[f"openai:m@{server.url}"], scorers=[odd, "length"], repeats=2, track=False, progress=False, name="mixed"
        )


@pytest.mark.skipif(not ESBUILD.exists(), reason="the front end's packages are not installed")
def test_the_page_sorts_filters_groups_and_opens_as_python_does(place):
    grid = mixed_grid()
    view = GridView(grid)
    answers, buffers = view.recorded()
    recorded = {"view": "grid", "answers": answers, "buffers": [base64.b64encode(each).decode() for each in buffers]}
    sorts = ["", "row", "variant", "status", "finish_reason", "error", "text", "odd", "length", "input_tokens", "cost_usd"]
    filters = [
        {},
        {"shown": "failed"},
        {"shown": "ok"},
        {"shown": "open"},
        {"shown": "unscored"},
        {"variant": 1},
        {"scorer": "odd", "low": 0.25, "high": 0.75},
        {"low": 0.5},
        {"differs": 0},
        {"differs": 1, "differs_in": "length"},
        {"where": ["lang", "de"]},
        {"where": ["size", "76 to 100"]},
        {"where": ["lang", "(none)"]},
        {"search": "ZET"},
        {"search": "question 1"},
        {"search": "^plain .*[13]$", "regex": True},
        {"search": "bad_request"},
        {"search": "r7"},
        {"search": "STRASSE"},
        {"search": "stra"},
        {"search": "polite", "variant": 0},
    ]
    queries = [
        {"layout": layout, "sort": sort, "descending": descending, "by": by, **kept}
        for layout, sort, descending, by, kept in itertools.product(("cells", "rows"), sorts, (False, True), (-1, 1), filters)
    ]
    chosen = random.Random(1).sample(queries, 120) + [{"layout": layout, **kept} for layout in ("cells", "rows") for kept in filters]
    calls = [("page", {"query": query, "start": start}) for query in chosen for start in (0, 60)]
    calls += [("select", {"query": kept}) for kept in filters]
    calls += [("summary", {"query": kept, "scorer": name}) for kept in filters for name in ("odd", "length")]
    by = ("lang", "size", "prompt", "model", "status", "finish reason", "q")
    calls += [("groups", {"query": kept, "scorer": "odd", "by": column}) for kept in filters for column in by]
    calls += [("cell", {"cell": number}) for number in (0, 49, 50, 159)]
    script = place.write("ask.ts", ASK.replace("FRONT", str(FRONT)))
    place.write("recorded.json", json.dumps(recorded))
    place.write("calls.json", json.dumps(calls))
    made = f"--outfile={place.folder / 'ask.mjs'}"
    words = [str(ESBUILD), str(script), "--bundle", "--platform=node", "--format=esm", made, "--log-level=error"]
    subprocess.run([*words, f"--tsconfig={FRONT / 'tsconfig.json'}"], check=True, cwd=FRONT, timeout=60)
    done = subprocess.run(["node", "ask.mjs", "recorded.json", "calls.json"], cwd=place.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    for (method, params), told in zip(calls, json.loads(done.stdout), strict=True):
        wanted = view.call(method, params, user="")
        if method == "page":
            assert told.pop("lines_") == lines_of(wanted, grid.scorers), params
            assert told == dict(wanted.data), params
        elif method in ("summary", "groups") and params["query"]:
            assert without_intervals(told) == without_intervals(wanted.data), params
        else:
            assert told == json.loads(json.dumps(wanted.data)), (method, params)


def without_intervals(value):
    """Figures of a filter: their means to nine digits, their counts exactly, no intervals, and groups in the order of their names."""
    if isinstance(value, dict):
        kept = {name: without_intervals(each) for name, each in value.items() if name not in ("low", "high")}
        return kept | {"groups": sorted(kept["groups"], key=lambda group: group["group"])} if "groups" in kept else kept
    if isinstance(value, list | tuple):
        return [without_intervals(each) for each in value]
    return round(value, 9) if isinstance(value, float) else value
