"""A gate decides by verdicts, says why, and leaves evidence that names what it rests on."""

import json
import shutil

import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput, GateFailed, UnknownName, Unreachable
from llmops_lab.flows.gate import required
from llmops_lab.governance.gate import counts, from_dict
from llmops_lab.settings import load
from llmops_lab.store import audit
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track import connect

OLD, NEW = "{{ old }}", "{{ new }}"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, empty_mlflow):
    """An empty project with a settings file."""
    shutil.copytree(empty_mlflow, tmp_path / "home", dirs_exist_ok=True)
    (tmp_path / "pyproject.toml").write_text('[tool.llmops_lab.gates]\nproduction = ["support", "safety"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def rows(*groups):
    """Rows on which the old and the new prompt are right or wrong: (how many, old is right, new is right)."""
    pairs = [(old, new) for count, old, new in groups for _ in range(count)]
    texts = {True: "yes", False: "no"}
    return [{"id": f"r{number}", "answer": "yes", "old": texts[old], "new": texts[new]} for number, (old, new) in enumerate(pairs)]


def gate(table, **options):
    """The new prompt against the old one; ``echo`` gives back what they say."""
    how = {"champion": OLD, "model": "echo", "expected": "answer", "progress": False, **options}
    return lab.gate(NEW, how.pop("champion"), table, **how)


def only(found):
    """The one suite of a gate."""
    (suite,) = found.result.suites
    return suite


def entries():
    """The gates in the audit log."""
    return audit.entries(open_ledger(load()), kind="gate")


@pytest.mark.parametrize(
    ("groups", "options", "outcome", "passed"),
    [
        ([(20, True, True), (20, False, True)], {}, "better", True),
        ([(20, True, True), (20, True, False)], {"margin": 0.9}, "worse", False),
        ([(190, True, True), (5, True, False), (5, False, True)], {"margin": 0.1}, "equivalent", True),
        ([(38, True, True), (2, False, True)], {}, "inconclusive", False),  # the mean is higher, and that is not enough
        ([(30, True, True), (6, False, True), (4, True, False)], {"margin": 0.05}, "inconclusive", False),
    ],
)
def test_a_suite_passes_on_its_verdict_and_not_on_the_mean(groups, options, outcome, passed):
    found = gate(rows(*groups), **options)
    assert (only(found).outcome, found.passed) == (outcome, passed)
    assert outcome in only(found).reason


def test_what_is_open_says_how_many_rows_would_settle_it_and_what_a_margin_is_for():
    found = gate(rows((38, True, True), (2, False, True)))
    with pytest.raises(GateFailed, match=r"main: inconclusive: .* about \d+ rows would settle it .* Without a margin only better passes"):
        found.check()


def test_a_candidate_whose_whole_interval_is_on_the_good_side_of_the_margin_passes_though_nobody_knows_whether_it_is_better():
    found = gate(rows((93, True, True), (5, False, True), (2, True, False)), margin=0.05)
    verdict = only(found).measured.verdict
    assert verdict.outcome == "inconclusive" and verdict.ci_low > -0.05 and verdict.ci_high > 0.05
    assert found.passed and "not worse by more than the margin of 0.05" in only(found).reason


def test_where_less_is_better_the_margin_lies_on_the_other_side():
    table = [{"id": str(number), "old": "a " * 20, "new": "a " * (21 + number % 2)} for number in range(40)]
    fewer = lab.scorer("length", higher_is_better=False)
    assert not gate(table, scorer=fewer, expected=None, margin=0.5).passed
    shorter = [{**row, "new": "a " * (18 + number % 2)} for number, row in enumerate(table)]
    assert only(gate(shorter, scorer=fewer, expected=None)).outcome == "better"


def test_without_a_champion_a_floor_must_be_cleared_by_the_interval_and_not_by_the_mean():
    table = rows((46, False, True), (4, False, False))  # 0.92, from 0.81 on
    assert gate(table, champion=None, floor=0.8).passed
    failed = gate(table, champion=None, floor=0.9)
    assert only(failed).measured.mean > 0.9 and not failed.passed
    assert "does not clear the floor of 0.9" in only(failed).reason


def test_a_floor_holds_beside_a_champion_too():
    found = gate(rows((20, False, True), (20, False, False)), floor=0.9)
    assert only(found).outcome == "better" and not found.passed


def test_without_champion_and_floor_only_a_first_release_passes():
    table = rows((30, False, True))
    nothing = gate(table, champion=None)
    assert not nothing.passed and "nothing to compare with" in only(nothing).reason
    first = gate(table, champion=None, first_release=True)
    assert first.passed and "first release" in only(first).reason


def test_rows_without_a_score_are_named_and_too_many_fail_a_gate_that_would_have_passed():
    def strict(reply, row):
        return None if row["id"] in ("r3", "r7", "r9") and reply.text == "yes" else reply.text == row["answer"]

    found = gate(rows((40, False, True)), scorer=strict)
    assert only(found).outcome == "better" and not found.passed
    assert (
        "3 of 40 rows could not be scored on both sides, more than the 5% that is borne; without a score: r3, r7, r9" in only(found).reason
    )
    assert [line["row_id"] for line in found.rows()] == ["r3", "r7", "r9"]
    assert all(line["why"].startswith("candidate has no score") for line in found.rows())
    assert gate(rows((40, False, True)), scorer=strict, max_missing=0.1).passed


@pytest.mark.parametrize("both", [True, False])
def test_where_no_row_has_two_scores_the_gate_fails_and_keeps_that(both):
    def odd(reply, row):
        return float("nan") if both or reply.text == "no" else 1.0

    found = gate(rows((30, True, False)), scorer=odd)
    with pytest.raises(
        GateFailed, match=r"main: 0 rows have a score and 20 are asked for \(min_rows\); without a score: r0, r1, .* 20 more"
    ):
        found.check()
    (entry,) = entries()
    assert entry.body["passed"] is False and from_dict(entry.body["result"]) == found.result and only(found).outcome == "unscored"
    assert "unscored" in repr(found) and len(found.rows()) == 30 and not found.compared


def test_a_row_without_an_id_is_called_by_its_place():
    def strict(reply, row):
        return None if row["n"] == 2 else reply.text == row["answer"]

    table = [{**row, "n": number} for number, row in enumerate(rows((30, False, True)))]
    for row in table:
        del row["id"]
    assert "without a score: row 3" in only(gate(table, scorer=strict, max_missing=0)).reason


def test_too_few_rows_fail():
    found = gate(rows((19, False, True)))
    assert only(found).outcome == "better" and not found.passed
    assert "19 rows have a score and 20 are asked for" in only(found).reason


def test_one_suite_that_fails_fails_the_gate_and_the_rows_that_got_worse_are_shown():
    forgot = rows((20, True, True), (20, True, False))
    found = gate(rows((40, False, True)), name="task", suites=[{"name": "general", "data": forgot, "margin": 0.1}])
    assert [each.passed for each in found.result.suites] == [True, False] and not found.passed
    assert [reason.split(":")[0] for reason in found.reasons] == ["general"]
    assert found.rows("task") == []
    worse = found.rows("general")
    assert len(worse) == 20 and worse[0]["champion_text"] == "yes" and worse[0]["candidate_text"] == "no"
    assert len(found.diff("general").frame()) == 40
    assert found.compared and "general" in str(found.figure().to_dict())


def test_a_required_suite_that_was_not_run_fails_the_gate():
    table = rows((40, False, True))
    found = gate(table, name="support", alias="production")
    assert not found.passed and found.result.missing == ("safety",)
    with pytest.raises(GateFailed, match="safety: this suite is required for production and was not run"):
        found.check()
    assert gate(table, name="support", suites=[{"name": "safety", "data": table}], alias="production").check().passed
    assert gate(table, name="support", alias="staging").passed  # which requires none


def test_requirements_that_are_no_list_are_refused():
    lab.configure(gates={"production": "safety"})
    with pytest.raises(BadInput, match="a list of suites' names"):
        gate(rows((40, False, True)), alias="production")
    lab.configure(gates=None)
    assert required(load(), "production") == ["support", "safety"]


def test_the_evidence_is_kept_and_names_what_it_rests_on(home):
    found = gate(rows((40, False, True)))
    (entry,) = entries()
    kept = from_dict(entry.body["result"])
    assert kept == found.result and entry.body["passed"] is True and entry.body["digest"] == lab.Prompt(NEW).sha256
    measured = only(found).measured
    assert measured.prompts == {"candidate": lab.Prompt(NEW).sha256, "champion": lab.Prompt(OLD).sha256}
    assert measured.data == lab.load(measured.grids["candidate"]).dataset["digest"]
    assert counts(kept, digest=lab.Prompt(NEW).sha256) == ""
    assert "other content" in counts(kept, digest=lab.Prompt(OLD).sha256)
    assert "lacks suites that settings require: safety" in counts(kept, digest=found.digest, required=["main", "safety"])
    client = connect.client(load())
    for run_id in measured.runs.values():
        assert client.get_run(run_id).data.tags["llmops_lab.gate"] == "passed"
        folder = client.download_artifacts(run_id, "gate.json", str(home))
        assert json.loads(open(folder, encoding="utf-8").read())["sha256"] == found.result.sha256


def test_an_interval_without_an_end_is_kept_as_json():
    table = [{"id": str(number), "old": "ab", "new": "ab " * (number + 2)} for number in range(4)]
    found = gate(table, scorer=lab.scorer("length", higher_is_better=True), expected=None)
    kept = json.loads(json.dumps(found.evidence, allow_nan=False))
    assert from_dict(kept) == found.result and only(found).measured.verdict.ci_low == float("-inf")
    assert "inf" not in str(found.figure().to_dict()).lower()


def test_a_candidate_that_is_its_own_champion_is_said_to_be(home):
    table = rows((40, True, True))
    twin = "candidate and champion are the same prompt, model and parameters, so there is nothing to find: "
    assert only(gate(table, champion=NEW, margin=0.1)).reason.startswith(f"{twin}equivalent")  # which no promotion rests on
    assert only(gate(table, champion=NEW)).reason.startswith(f"{twin}inconclusive")
    assert not only(gate(table, margin=0.1)).reason.startswith(twin)  # the same replies of another prompt


def test_models_stand_at_the_gate_by_what_they_are():
    table = [{"id": str(number), "text": f"word {number}"} for number in range(30)]
    found = lab.gate("echo", "tiny", table, prompt="{{ text }}", expected="text", params={"max_tokens": 4}, progress=False)
    assert found.passed and found.result.candidate.digest == "echo" and found.result.champion.digest.startswith("tiny:")


def test_registered_prompts_stand_under_their_name_and_another_version_is_other_content():
    for text in (OLD, NEW):
        lab.prompts.save(text, "support")
    found = lab.gate("support/2", "prompts:/support/1", rows((40, False, True)), model="echo", expected="answer", progress=False)
    assert (found.result.candidate.name, found.result.candidate.registered, found.result.candidate.version) == ("support/2", "support", "2")
    (entry,) = entries()
    assert (entry.name, entry.body["version"], entry.body["digest"]) == ("support", 2, lab.prompts.get("support", 2).sha256)
    assert found.file("support", 2).result == found.result
    with pytest.raises(BadInput, match="support/1 is not what stood at the gate"):
        found.file("support", 1)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: gate(None), BadInput, "a gate needs rows"),
        (lambda: lab.gate("", OLD, rows((9, True, True))), BadInput, "a gate needs a candidate"),
        (lambda: gate(rows((9, True, True)), suites=[{"name": "main", "data": []}]), BadInput, "two suites are called 'main'"),
        (lambda: gate(rows((9, True, True)), suites=[{"name": "b"}]), BadInput, "has no 'data'"),
        (lambda: gate(rows((9, True, True)), suites=[{"name": "b", "date": "x"}]), UnknownName, "Did you mean data"),
        (lambda: gate(rows((9, True, True)), suites=["b"]), BadInput, "a suite is a mapping"),
        (lambda: gate(rows((9, True, True)), suites=[{"name": "b", "data": "none.csv"}]), BadInput, r"none\.csv"),
        (lambda: gate(rows((9, True, True)), margin=-1), BadInput, "margin"),
        (lambda: gate(rows((9, True, True)), max_missing=1), BadInput, "below 1"),
        (lambda: gate(rows((9, True, True)), scorer="exat"), UnknownName, "exact"),
        (lambda: gate(rows((9, True, True)), expected="anwser"), UnknownName, "answer"),
        (lambda: lab.gate("nobody/3", OLD, rows((9, True, True))), UnknownName, "nobody"),
        (lambda: gate(rows((9, True, True)), scorer=lab.scorer("length")), BadInput, "no better direction"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_call(call, error, says):
    with pytest.raises(error, match=says):
        call()
    assert open_ledger(load()).grids(5) == [] and entries() == []


def test_a_server_that_is_not_there_decides_nothing():
    table = rows((20, True, True))
    with pytest.raises(Unreachable, match=r"nothing was decided: unreachable: .* no connection to http://127.0.0.1:9/v1"):
        lab.gate("openai:m@http://127.0.0.1:9/v1", "echo", table, prompt=OLD, expected="answer", progress=False)
    assert entries() == []


def test_texts_of_rows_and_models_are_shown_as_text():
    found = gate(rows((30, False, True)), name="<img src=x onerror=alert(1)>")
    assert "<img" not in found._repr_html_() and "&lt;img" in found._repr_html_()
    assert "passed" in repr(found)
