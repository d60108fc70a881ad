"""What is told to a person: which templates there are, what one wants, how far a job is, and what it came to."""

import json
import re
import shutil
import signal
import threading

import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput
from llmops_lab.flows.submit_job import submit
from llmops_lab.jobs import templates
from llmops_lab.jobs.outcome import told
from llmops_lab.settings import load
from tests.commands import Place
from tests.jobs.queues import notebook

TELLS = "import llmops_lab as lab\nlab.job_result({'verdict': 'better: b beats\\na', 'url': 'http://127.0.0.1:1/v1', 'rows': 3})"


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_mlflow):
    made = Place(tmp_path_factory.mktemp("words"))
    shutil.copytree(empty_mlflow, made.home)
    return made


def test_help_names_each_template_and_what_it_is_for(place):
    done = place.run("run", "--help")
    words = " ".join(done.out.split())
    assert done.code == 0 and all(f"{name} {about}" in words for name, about in templates.names().items())
    alone = place.run("run")
    assert alone.code == 2 and "nightly" in alone.out and "Name a template" in alone.err


def test_help_of_a_template_begins_with_what_must_be_typed(place):
    assert place.run("run", "deploy", "--help").out.startswith("usage: llmops-lab run deploy -p name=... -p candidate=... -p data=... [")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("finetune",), "missing: data (str): training rows: messages, or a question and its answer. All that there are: llmops-lab run"),
        (("finetune", "data=train.jsonl", "rank=4"), "A parameter of a job is given as -p data=train.jsonl."),
        (("finetune", ""), "too many words: an empty one."),
        (("finetune", "--timeout", "abc"), "--timeout must be a number above 0, not 'abc'"),
        (("finetune", "--gpus", "-1"), "--gpus must be a whole number, 0 or more, not '-1'"),
    ],
)
def test_a_wrong_word_is_answered_with_the_next_step(place, words, said):
    done = place.run("run", *words)
    assert done.code == 2 and said in done.err, done.err


def test_a_notebook_that_is_called_like_a_template_is_pointed_at(place):
    notebook(place.folder / "nigh.ipynb", "1")
    done = place.run("run", "nigh")
    assert done.code == 2 and "nightly" in done.err and "To run the notebook ./nigh.ipynb, type its path." in done.err


def test_the_end_of_a_job_says_its_verdict_on_one_line(place):
    notebook(place.folder / "tells.ipynb", "1", TELLS)
    done = place.run("run", "tells.ipynb", "--out", "told")
    assert done.code == 0 and "succeeded, 2 of 2 cells. It took " in done.err, done.err
    assert "\nverdict: better: b beats a\nurl: http://127.0.0.1:1/v1\n" in done.err and "rows" not in done.err
    assert done.out.strip() == str(place.folder / "told" / "notebook.ipynb")


def test_what_is_told_of_a_result_are_lines_of_text():
    assert told({"verdicts": [{"sentence": "worse: x"}, 3, None], "verdict": ["a: better", "a: better"]}) == [
        ("verdict", "a: better"),
        ("verdict", "worse: x"),
    ]
    assert told([1]) == told(None) == told({"url": None}) == []
    assert len(told({"verdict": "x" * 9999})[0][1]) == 400


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(place.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return place.folder


@pytest.fixture
def waiting(here):
    """A job that waits for a process that never takes it."""
    made = submit(notebook(here / "waits.ipynb", "1"), {}, settings=load())
    yield lab.job(made.id)
    lab.job(made.id).cancel()


def test_what_a_text_says_of_a_job_that_goes_on_names_the_moment(waiting):
    now = r"as of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.search(f"queued · .*{now}", repr(waiting)) and re.search(now, waiting.page()[1])
    table = lab.jobs()
    assert re.search(now, repr(table), re.IGNORECASE) and re.search(now, table.page()[1], re.IGNORECASE)
    assert "submitted (UTC)" in repr(table)
    waiting.cancel()
    assert "as of" not in repr(waiting).lower() + repr(lab.jobs()).lower()


def test_a_folder_that_is_none_is_refused(here):
    with pytest.raises(BadInput, match=r"out is a folder: a text or a Path, not 3\."):
        submit(notebook(here / "waits.ipynb", "1"), {}, out=3, settings=load())


def test_the_cell_that_failed_is_counted_as_people_were_told(place):
    notebook(place.folder / "fails.ipynb", "1", "1 / 0", "3")
    done = place.run("run", "fails.ipynb", "--out", "failed")
    assert "cell 2 of 3, after" in done.err and "failed, 1 of 3 cells: ZeroDivisionError in cell 2: division by zero." in done.err
    assert "ZeroDivisionError: division by zero (cell 2)" in place.run("jobs").out


def test_who_stops_waiting_is_told_that_the_job_goes_on(waiting, capsys):
    threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        waiting.wait()
    assert capsys.readouterr().err == f"Nobody waits any more; the job goes on. To end it: lab.job('{waiting.id}').cancel()\n"
    assert waiting.state == "queued"


def test_a_job_as_text_says_its_verdict(here):
    record = json.loads((here / "told" / "run.json").read_text())
    plain, page = lab.job(record["id"]).page()
    assert "\nverdict: better: b beats a\n" in plain and "verdict: better: b beats a" in page


def test_a_gate_takes_the_folder_of_a_tuning_job(here, place):
    record = here / "out" / "3" / "run.json"  # a path that looks like NAME/VERSION
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"state": "succeeded", "result": {"adapter": str(record.parent), "model": "echo"}}))
    rows = [{"q": f"say {number}", "a": f"say {number}"} for number in range(30)]
    found = lab.gate("out/3", "echo", rows, prompt="{{ q }}", expected="a", margin=0.2, progress=False)
    assert found.passed and found.result.candidate.name == "3" and found.result.candidate.digest.startswith("echo")
    for prompt in ("{{ a }}" + "x" * 300, "~nobody {{ a }}", "{{ a }}\0"):  # no path, and no reason to fail on one
        assert not lab.gate(prompt, "{{ a }}", rows, model="echo", expected="a", progress=False).passed
    listed = place.run("audit", "list").out.splitlines()  # in UTC, and how each gate ended
    assert [re.sub(r"^\d+  \S+Z  \S+  gate .*: ", "", line) for line in listed] == ["passed", "failed", "failed", "failed"], listed
    record.write_text(json.dumps({"state": "failed", "result": None}))
    with pytest.raises(BadInput, match="that job is failed and left no weights"):
        lab.gate(str(record), "echo", rows, prompt="{{ q }}", expected="a", progress=False)
