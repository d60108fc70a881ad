"""The shipped templates: what each says of itself; two of them as real jobs on the embedded model; bad input ends one before it starts."""

import ast
import csv
import json
import shutil
from pathlib import Path

import pytest

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows.check_job import check
from llmops_lab.flows.submit_job import submit
from llmops_lab.jobs import templates
from llmops_lab.jobs.parameters import RESERVED, declared, read_notebook
from llmops_lab.settings import Settings
from tests.commands import Place

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "templates").glob("*.ipynb"))
GOOD = "Classify the support ticket. Answer with one word: refund, delivery, login, invoice, cancel or broken.\nTicket: {{ ticket }}"
POOR = "What is this ticket about?\n{{ ticket }}"
ECHOED = "Say <img src=x onerror=alert(1)> | `{{ ticket }}`"


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_mlflow):
    made = Place(tmp_path_factory.mktemp("jobs"))
    shutil.copytree(empty_mlflow, made.home)
    with (ROOT / "llmops_lab" / "data" / "tickets.csv").open(encoding="utf-8") as file:
        lines = list(csv.reader(file))
    for name, rows in (("few.csv", lines[:13]), ("other.csv", [lines[0], *lines[20:32]]), ("empty.csv", lines[:1])):
        with (made.folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return made


def run(place, template, out, **parameters):
    given = [word for name, value in parameters.items() for word in ("-p", f"{name}={value}")]
    done = place.run("run", template, *given, "--out", out, "--json", timeout=200)
    return done, json.loads((place.folder / out / "run.json").read_text()) if (place.folder / out / "run.json").exists() else None


def test_templates_are_found_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(templates.names()) == [path.stem for path in SHIPPED]
    assert templates.find("evaluate") == ROOT / "templates" / "evaluate.ipynb"
    shutil.copy(templates.find("evaluate"), "mine.ipynb")
    assert templates.find("mine.ipynb") == templates.find(tmp_path / "mine.ipynb") == tmp_path / "mine.ipynb"
    with pytest.raises(UnknownName, match=r"no template called 'evalute'\. Did you mean evaluate"):
        templates.find("evalute")
    with pytest.raises(BadInput, match=r"no notebook main\.ipynb\. In that folder: mine\.ipynb\. Templates by name: .*evaluate"):
        templates.find("main.ipynb")
    for odd in (
        "../evaluate",
        "/etc/passwd",
        "evaluate\x00.ipynb",
        "x" * 5000 + ".ipynb",
        "http://127.0.0.1/a.ipynb",
        "~nobody-here/a.ipynb",
        "",
    ):
        with pytest.raises(BadInput):
            templates.find(odd)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_template_says_what_it_is_for_and_holds_no_output(path):
    notebook = read_notebook(path)
    assert 20 < len(templates.summary(path)) < 160
    found = declared(path)
    assert found and all(each.help for each in found) and not {each.name for each in found} & RESERVED
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            ast.parse("".join(cell["source"]))
    assert "lab.job_result(" in path.read_text("utf-8")


def test_evaluate_ends_in_a_table_verdicts_and_a_report_and_names_what_failed(place):
    prompts = {"poor": POOR, "good": GOOD}
    done, record = run(place, "evaluate", "a", prompts=json.dumps(prompts), data="few.csv", expected="answer", baseline="poor")
    assert done.code == 0, done.err
    result = record["result"]
    assert (record["state"], result["state"], result["cells"], result["failed"]) == ("succeeded", "done", 24, 0)
    (verdict,) = result["verdicts"]
    assert (verdict["a"], verdict["b"], verdict["scorer"], verdict["outcome"]) == ("poor", "good", "exact", "better")
    assert {line["prompt"]: line["exact"] for line in result["summary"]}["good"] == 1.0
    report = Path(result["report"][0]).read_text("utf-8")
    assert Path(result["report"][0]).parent == place.folder / "a" and verdict["sentence"] in report
    assert record["parameters"]["data"] == str(place.folder / "few.csv") and record["digests"]["data"]["data"]
    assert place.run("compare", "poor", "good", "--grid", result["run_id"], "--json").json["outcome"] == "better"


def test_evaluate_fails_where_cells_have_no_answer_and_what_it_found_is_kept(place):
    server = "openai:m@http://127.0.0.1:9/v1"  # nobody listens there
    done, record = run(place, "evaluate", "b", prompts=ECHOED, data="few.csv", models=json.dumps(["echo", server]), scorers="[]")
    assert (done.code, record["state"]) == (1, "failed"), done.err
    assert "12 of 24 cells have no answer" in record["error"]["message"]
    assert (record["result"]["failed"], record["result"]["cells"]) == (12, 24)
    page = Path(record["result"]["report"][1]).read_text("utf-8")
    assert page.count("<td") > 12 and "<img" not in page


@pytest.fixture(scope="module")
def first_night(place):
    """The first night of all: good answers."""
    done, record = run(place, "nightly", "n", prompts=GOOD, data="few.csv", expected="answer", margin="0.1")
    assert (done.code, record["result"]["verdicts"]) == (0, []), done.err
    (place.folder / "n" / "notes.txt").write_text("a person's own")
    return record["result"] | {"job": record["id"], "text": (place.folder / "n" / "report.md").read_text("utf-8")}


def test_nightly_says_that_there_is_no_night_before_and_fails_the_first_worse_one(place, first_night):
    assert first_night["notes"] == ["There is no earlier run called 'nightly' to compare with: this one is the first."]
    done, record = run(place, "nightly", "n", prompts=POOR, data="few.csv", expected="answer", margin="0.1")
    assert (done.code, record["state"], record["error"]["type"]) == (5, "gate_failed", "GateFailed")
    assert record["result"]["against"]["run_id"] == first_night["run_id"]
    assert [each["outcome"] for each in record["result"]["verdicts"]] == ["worse"]
    assert "worse: now loses to before on exact" in (place.folder / "n" / "report.md").read_text("utf-8")
    kept = place.folder / "n" / "previous" / first_night["job"]
    assert {path.name for path in kept.iterdir()} == {"notebook.ipynb", "run.json", "report.md", "report.html"}
    assert (kept / "report.md").read_text("utf-8") == first_night["text"], "the first night's report stays"


def test_nightly_against_a_pinned_run_on_other_rows_gives_no_verdict_and_says_so(place, first_night):
    pinned = first_night["run_id"]
    done, record = run(place, "nightly", "p", prompts=GOOD, data="other.csv", expected="answer", name="tonight", against=pinned)
    assert (done.code, record["result"]["verdicts"]) == (0, []), done.err
    assert record["result"]["against"]["run_id"] == pinned
    (note,) = record["result"]["notes"]
    assert note.startswith("exact: no verdict.")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": "none.csv"}, r"data: .*none\.csv does not exist\. In that folder: empty\.csv, few\.csv"),
        ({"data": "empty.csv"}, r"data: .*empty\.csv has no rows"),
        ({"expected": "answr"}, "no column called 'answr'. Did you mean answer"),
        ({"prompts": "none.toml"}, r"prompts: .*none\.toml cannot be read"),
        ({"prompts": {"a": 3}}, "prompts must be"),
        ({"models": ["tinny"]}, "no model provider called 'tinny'. Did you mean tiny"),
        ({"models": ["hf:/no/such/folder"]}, "models: no folder '/no/such/folder'"),
        ({"scorers": ["exac"]}, "no scorer called 'exac'. Did you mean exact"),
        ({"scorers": [{"pattern": "a"}]}, "no scorer called ''"),
        ({"repeats": "2"}, "repeats must be int"),
        ({"out": "/tmp"}, "no parameter called 'out'"),
        ({"output_path": "../../x"}, "no parameter called 'output_path'"),
    ],
)
def test_bad_input_is_named_before_anything_starts(place, given, said):
    whole = {"prompts": GOOD, "data": "few.csv", **given}
    with pytest.raises(BadInput, match=said):
        check("evaluate", whole, settings=Settings(home=str(place.home)), cwd=place.folder)


def test_kernels_gpus_and_pinned_runs_that_are_not_there_are_named(place, monkeypatch):
    whole, settings = {"prompts": GOOD, "data": "few.csv"}, Settings(home=str(place.home))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(UnknownName, match=r"no kernel called 'pyton3'\. Did you mean python3"):
        check("evaluate", whole, kernel="pyton3", settings=settings, cwd=place.folder)
    with pytest.raises(BadInput, match="asks for 3 GPUs, and there are 2"):
        check("evaluate", whole, gpus=3, settings=settings, cwd=place.folder)
    with pytest.raises(UnknownName, match="no grid called 'yesterday'"):
        check("nightly", {**whole, "against": "yesterday"}, settings=settings, cwd=place.folder)


def test_what_an_earlier_job_is_to_make_need_not_be_there_yet(place):
    whole, settings = (
        {"prompts": GOOD, "data": "to_come.csv", "expected": "answer", "models": ["hf:to_come"]},
        Settings(home=str(place.home)),
    )
    found = check("evaluate", whole, settings=settings, cwd=place.folder, pending=True)
    assert found.parameters["data"] == str(place.folder / "to_come.csv")
    for given, said in (
        ({"data": "empty.csv"}, "has no rows"),
        ({"models": ["tinny"]}, "Did you mean tiny"),
        ({"repeats": "2"}, "must be int"),
    ):
        with pytest.raises(BadInput, match=said):
            check("evaluate", {**whole, **given}, settings=settings, cwd=place.folder, pending=True)


def test_a_required_set_of_columns_is_named_whole(tmp_path):
    cell = "from typing import Annotated\ndata: Annotated[str, 'rows: prompt, completion | messages']"
    code = {"cell_type": "code", "id": "a", "metadata": {"tags": ["parameters"]}, "source": cell, "outputs": [], "execution_count": None}
    (tmp_path / "t.ipynb").write_text(json.dumps({"cells": [code], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    settings = Settings(home=str(tmp_path / "home"))
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    (tmp_path / "b.jsonl").write_text('{"messages": []}\n')
    (tmp_path / "c.csv").write_text("completion,prompt,more\na,b,c\n")
    with pytest.raises(BadInput, match=r"data: a\.jsonl has the columns prompt, answer; it needs prompt and completion, or messages"):
        check(tmp_path / "t.ipynb", {"data": "a.jsonl"}, settings=settings, cwd=tmp_path)
    for name in ("b.jsonl", "c.csv"):
        found = check(tmp_path / "t.ipynb", {"data": name}, settings=settings, cwd=tmp_path)
        assert (found.parameters["data"], found.kernel, found.template) == (str(tmp_path / name), "python3", str(tmp_path / "t.ipynb"))


def test_bad_input_of_the_command_makes_no_job(place):
    done, record = run(place, "evaluate", "never", prompts=GOOD, data="none.csv")
    assert (done.code, record) == (2, None)
    assert "BadInput: data:" in done.err and not (place.folder / "never").exists()


def test_help_of_the_command_is_the_declaration(place):
    told = place.run("run", "nightly", "--help").out
    for each in declared(templates.find("nightly")):
        assert f"  {each.name}: {each.type}" in told and each.help in told


@pytest.mark.parametrize("out", ["{data}", "{data.__class__.__mro__}", "$HOME", "a;touch owned", "%s", "%%bash"])
def test_the_output_folder_is_the_one_that_was_written_whatever_a_parameter_says(out, place, monkeypatch):
    monkeypatch.chdir(place.folder)
    given = {"prompts": "../../{data}/../x {{ ticket }}", "data": "few.csv", "name": "../../../outside"}
    spec = submit("evaluate", given, out=out, settings=Settings(home=str(place.home)))
    assert spec.folder == place.folder / out and sorted(path.name for path in spec.folder.iterdir()) == ["notebook.ipynb", "run.json"]
    assert not {"owned", "outside"} & {path.name for folder in place.folder.parents[:3] for path in folder.iterdir()}
    assert json.loads((spec.folder / "run.json").read_text())["parameters"]["name"] == "../../../outside"
