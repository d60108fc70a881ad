"""What a grid came to: verdicts inside it and against an earlier one, failures by name, what could not be compared, a report, an end."""

import json
import shutil

import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput, GateFailed, LabError, UnknownName, Unreachable

SERVER = "openai:m@http://127.0.0.1:9/v1"  # nobody listens there


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, empty_mlflow):
    """An empty project."""
    shutil.copytree(empty_mlflow, tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("LLMOPS_LAB_JOB", raising=False)
    return tmp_path


def rows(good, bad, first=0):
    """Rows whose column ``a`` is always right, and ``b`` in the first ``good`` of them."""
    made = [{"answer": "yes", "a": "yes", "b": "yes" if number < good else "no"} for number in range(good + bad)]
    return [{"id": f"r{first + number}", **row} for number, row in enumerate(made)]


def grid(prompts, table, *, scorers=("exact",), models=("echo",), track=False, **more):
    return lab.grid(prompts, table, models=models, scorers=list(scorers), expected="answer", track=track, progress=False, **more)


def test_two_prompts_get_a_verdict_with_the_margin_and_three_are_judged_without_one():
    table = rows(20, 20)
    found = lab.evaluation(grid({"a": "{{ a }}", "b": "{{ b }}"}, table), margin=0.9)
    assert [(each.a, each.b, each.outcome, each.margin) for each in found.verdicts] == [("a", "b", "worse", 0.9)] and found.notes == []
    found = lab.evaluation(grid({"a": "{{ a }}", "b": "{{ b }}", "c": "{{ b }}."}, table), baseline="b", margin=0.9)
    assert [(each.a, each.b, each.outcome) for each in found.verdicts[:1]] == [("b", "a", "better")]
    assert [each.margin for each in found.verdicts] == [None, None]
    assert found.notes == ["Of three and more, each is judged against the baseline without a margin."]
    with pytest.raises(BadInput, match=r"no prompt is called 'd'\. Known: a, b"):
        lab.evaluation(grid({"a": "{{ a }}", "b": "{{ b }}"}, table), baseline="d")


def test_the_last_run_is_the_newest_whole_one_of_the_same_name():
    table = rows(20, 20)
    first = grid("{{ a }}", table, name="night")
    assert lab.evaluation(first, "last").notes == ["There is no earlier run called 'night' to compare with: this one is the first."]
    second = grid("{{ b }}", table, name="night")
    grid("{{ a }}", table, name="another")
    with pytest.raises(Unreachable):
        lab.evaluation(grid("{{ a }}", rows(3, 0), models=[SERVER], retries=0, name="night")).check()
    third = grid("{{ a }}", table, name="night")
    found = lab.evaluation(third, "last")
    assert found.against.grid_id == second.grid_id
    assert [(each.a, each.b, each.outcome) for each in found.verdicts] == [("before", "now", "better")]
    found = lab.evaluation(second, first)
    assert [each.outcome for each in found.worse] == ["worse"] and found.check() is found
    with pytest.raises(GateFailed, match=r"worse: now loses to before on exact by -0\.50"):
        found.check(worse=True)
    with pytest.raises(UnknownName, match="no grid called 'nigt'"):
        lab.evaluation(third, "nigt")


def test_what_cannot_be_compared_is_said():
    before = grid("{{ a }}", rows(20, 0))
    found = lab.evaluation(grid("{{ a }}", rows(20, 0, first=100)), before)
    assert found.verdicts == [] and len(found.notes) == 1 and found.notes[0].startswith("exact: no verdict. ")
    found = lab.evaluation(grid({"prompt": "{{ a }}", "more": "{{ b }}"}, rows(20, 0), scorers=["exact", "length"]), before)
    assert found.notes == ["more with echo was not asked before: no comparison."]
    assert [(each.a, each.b) for each in found.verdicts] == [("prompt", "more"), ("before", "now")]
    found = lab.evaluation(grid("{{ a }}", rows(20, 0), scorers=["contains"]), before)
    assert found.notes == ["contains did not score the earlier run: no comparison."]


def test_cells_without_an_answer_or_a_score_are_named_and_fail_it():
    table = [{"id": "<b>r1</b>", "answer": "yes", "a": "yes"}, {"id": "r|2", "answer": "no", "a": "`x`"}]
    held = grid("{{ a }}", table, models=["echo", SERVER], retries=0)
    found = lab.evaluation(held)
    failures = found.failures
    assert sorted(zip(failures["row_id"], failures["model"], failures["what"], strict=True)) == [
        ("<b>r1</b>", SERVER, "failed"),
        ("r|2", SERVER, "failed"),
    ]
    with pytest.raises(LabError, match="the grid is done; 2 of 4 cells have no answer"):
        found.check()
    result = found.result
    assert json.loads(json.dumps(result, allow_nan=False)) == result and (result["cells"], result["failed"]) == (4, 2)
    assert "<b>" not in found._repr_html_() and "&lt;b&gt;r1" in found._repr_html_()
    told = [line for line in found.markdown().splitlines() if "r\\|2" in line]
    assert len(told) == 1 and told[0].count(" | ") == 4 and "`<b>r1</b>`" in found.markdown()


def test_a_report_goes_to_the_grids_run_and_one_without_a_run_says_so(home):
    import mlflow

    held = grid("{{ a }}", rows(3, 0), track=True)
    found = lab.evaluation(held).keep()
    assert (found.notes, found.result["report"]) == ([], [])  # outside a job there is no folder of one
    mlflow.set_tracking_uri(f"sqlite:///{home}/home/mlflow.db")
    names = {each.path for each in mlflow.MlflowClient().list_artifacts(held.run_id, "report")}
    assert names == {"report/report.md", "report/report.html"}
    assert lab.evaluation(grid("{{ a }}", rows(3, 0))).keep().notes == ["The report is not in MLflow. MLflow has no run of this grid yet."]


def test_a_run_that_another_machine_logged_is_compared_with(home, monkeypatch):
    first = grid("{{ a }}", rows(20, 20), track=True)
    (home / "shared.db").symlink_to(home / "home" / "mlflow.db")  # this process takes the other name for one that it chose itself
    monkeypatch.setenv("LLMOPS_LAB_TRACKING_URI", f"sqlite:///{home}/shared.db")
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(home / "elsewhere"))
    found = lab.evaluation(grid("{{ b }}", rows(20, 20)), first.run_id)
    assert [each.outcome for each in found.verdicts] == ["worse"]
    assert found.result["against"] == {"grid": first.run_id, "run_id": first.run_id}
