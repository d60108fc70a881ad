"""A rating queue from a terminal."""

import csv
import json

import pytest

import llmops_lab as lab
from llmops_lab import cli


@pytest.fixture(autouse=True)
def queue(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
    rows = [{"id": "1", "reply": "one"}, {"id": "2", "reply": "two"}]
    made = lab.rate(rows, lab.Rubric("Good?", levels={1: "no", 2: "yes"}), text="reply", name="tone")
    made.submit(item="1", rater="ann", value=2, comment="=HYPERLINK(1)")
    made.submit(item="1", rater="ann", value=1)
    capsys.readouterr()
    return made


def test_it_says_how_far_the_queue_is(capsys):
    assert cli.main(["rate", "tone"]) == 0
    out = capsys.readouterr().out
    assert "tone: Good?" in out and "1 of 2 items have a rating" in out and "ann" in out


def test_the_ratings_become_a_file_that_no_spreadsheet_runs(tmp_path, capsys):
    assert cli.main(["rate", "tone", "--export", "out.csv"]) == 0
    assert f"2 ratings written to {tmp_path / 'out.csv'}" in capsys.readouterr().out
    with open("out.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["item"], line["rater"], line["value"]) for line in lines] == [("1", "ann", "2"), ("1", "ann", "1")]
    assert lines[0]["comment"] == "'=HYPERLINK(1)" and lines[0]["superseded_by"] == lines[1]["row"]


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "json"])
def test_in_other_files_too(ending, queue):
    assert cli.main(["rate", "tone", "--export", f"out.{ending}"]) == 0
    import pandas

    read = {"jsonl": lambda path: pandas.read_json(path, lines=True), "json": pandas.read_json, "parquet": pandas.read_parquet}[ending]
    assert read(f"out.{ending}").value.tolist() == [2, 1]
    assert list(read(f"out.{ending}").columns) == list(queue.records()[0])


def test_who_made_what_stands_in_the_file_only_after_closing(queue):
    assert cli.main(["rate", "tone", "--export", "before.jsonl"]) == 0
    queue.close()
    assert cli.main(["rate", "tone", "--export", "after.jsonl"]) == 0
    before, after = ([json.loads(line)["sides"] for line in open(f"{name}.jsonl", encoding="utf-8")] for name in ("before", "after"))
    assert before == [None, None] and after == [{"a": "reply"}] * 2


def test_a_name_that_is_not_there_and_an_ending_that_is_not_known(capsys):
    assert cli.main(["rate", "tune"]) == 2
    assert "Did you mean tone" in capsys.readouterr().err
    assert cli.main(["rate", "tone", "--export", "out.doc"]) == 2
    assert ".parquet" in capsys.readouterr().err
