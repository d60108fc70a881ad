"""What moves a judge that should not: judges with one known fault each, over real HTTP."""

import json
import re

import pytest

import llmops_lab as lab
from llmops_lab import settings
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.flows.forget import forget_row
from llmops_lab.grids.rows import read_rows
from tests.servers import ModelServer

ROWS = [{"id": str(number), "question": f"q{number}", "reply": f"The answer is {number}. It is short."} for number in range(40)]

pytestmark = pytest.mark.usefixtures("home")


def part(name, asked):
    return re.search(rf"<<<{name} (\w+)\n(.*)\n{name} \1>>>", asked, re.DOTALL)[2]


def says(verdict):
    return json.dumps({"reason": "because", "verdict": verdict})


def rubric(server, **options):
    return lab.judge("rubric", model=f"openai:m@{server.url}", criteria="The reply is right.", show=["question"], **options)


def pairwise(server):
    return lab.judge("pairwise", model=f"openai:m@{server.url}", criteria="The right one.", show=["question"])


def by_number(asked):
    """A fair judge: right is what names an even number, however it is said."""
    return says("yes" if int(re.search(r"\d+", part("REPLY", asked))[0]) % 2 == 0 else "no")


class TestASingleReply:
    def test_a_fair_judge_holds_and_the_report_says_on_how_many_rows(self):
        with ModelServer(answer=by_number) as server:
            report = lab.judge_bias(rubric(server), ROWS)
            assert report.biased == [] and report.held == ["length", "format"]
            injection = report["injection"]
            assert injection.verdict.n_pairs == 20 and injection.biased is None  # only the wrong ones can gain; 20 rows show too little
            assert injection.verdict.needed_rows and injection.largest is None
            assert "not tested: this judge sees one reply" in repr(report) and "not tested: no row has replies" in repr(report)
            assert "held: padding to twice the length moves the score by less than 0.1" in repr(report)
            assert [(each.name, each.problem) for each in report if each.unscored] == []
            assert len(server.requests) == 40 * 3 + 20 * 5
            lab.judge_bias(rubric(server), ROWS)
            assert len(server.requests) == 40 * 3 + 20 * 5  # bought once

    @pytest.mark.parametrize(
        ("check", "fault"),
        [
            ("length", lambda text: len(text) > 60 and "**" not in text and "verdict" not in text),
            ("format", lambda text: "**" in text),
            ("injection", lambda text: "evaluator" in text),
        ],
    )
    def test_a_judge_with_a_fault_fails_that_check_and_no_other(self, check, fault):
        with ModelServer(answer=lambda asked: says("yes") if fault(part("REPLY", asked)) else by_number(asked)) as server:
            report = lab.judge_bias(rubric(server), ROWS, checks=["length", "format", "injection"], limit=None)
        assert report.biased == [check]
        found = report[check]
        assert found.verdict.ci_low > 0 and found.largest.size == 1.0 and int(found.largest.row_id) % 2 == 1
        if check == "injection":
            assert found.largest.how == "plea" and found.verdict.delta == pytest.approx(0.2) and found.verdict.n_pairs == 20
        line = report.frame().set_index("check").loc[check]
        assert line["low"] == found.verdict.ci_low and line["biased"] and "moves the score by +" in line["line"]
        shifts = report.shifts()
        assert set(shifts[shifts["shift"] > 0]["check"]) == {check}

    def test_a_judge_on_a_scale_and_one_for_which_less_is_better(self):
        def lenient(asked):
            return says(5 if "best verdict" in part("REPLY", asked) else 2)

        with ModelServer(answer=lenient) as server:
            levels = dict.fromkeys(range(1, 6), "x")
            report = lab.judge_bias(rubric(server, levels=levels), ROWS, checks="injection")
            assert report.biased == ["injection"] and report["injection"].largest.size == 3.0
        with ModelServer(answer=lambda asked: says(1 if "best verdict" in part("REPLY", asked) else 4)) as server:
            report = lab.judge_bias(rubric(server, levels=levels, higher_is_better=False), ROWS, checks="injection")
            assert report.biased == ["injection"] and report["injection"].largest.size == -3.0

    def test_replies_that_have_the_best_verdict_already_show_nothing_and_it_says_so(self):
        with ModelServer(answer=lambda asked: says("yes")) as server:
            report = lab.judge_bias(rubric(server), ROWS, checks=["injection"])
        assert report["injection"].verdict is None and "all 40 replies have the best verdict already" in repr(report)

    def test_a_judge_that_an_injection_silences_is_counted(self):
        with ModelServer(answer=lambda asked: "?" if "SYSTEM" in part("REPLY", asked) else by_number(asked)) as server:
            report = lab.judge_bias(rubric(server), ROWS, checks=["injection"])
        assert report["injection"].unscored == 20 and "20 without a score (the judge's reply holds no verdict" in repr(report)

    def test_few_rows_prove_nothing(self):
        with ModelServer(answer=lambda asked: says("yes") if len(part("REPLY", asked)) > 60 else says("no")) as server:
            report = lab.judge_bias(rubric(server), ROWS[:4], checks=["length"])
        assert report.biased == [] and report["length"].biased is None and "not known: with 4 rows" in repr(report)

    def test_a_sample_is_drawn_by_its_seed(self):
        with ModelServer(answer=by_number) as server:
            first, again, other = (lab.judge_bias(rubric(server), ROWS, checks="length", limit=5, seed=seed) for seed in (1, 1, 2))
        rows = [[shift.row_id for shift in each["length"].shifts] for each in (first, again, other)]
        assert rows[0] == rows[1] != rows[2] and len(rows[0]) == 5


class TestPairs:
    def test_a_judge_that_takes_what_stands_first(self):
        with ModelServer(answer=lambda asked: says("1")) as server:
            report = lab.judge_bias(pairwise(server), ROWS[:12])
        assert report.biased == ["position"] and report["position"].verdict.delta == 1.0
        assert report["length"].verdict.delta == 0.0

    def test_a_judge_that_takes_what_is_longer(self):
        def longer(asked):
            return says("1" if len(part("ANSWER 1", asked)) > len(part("ANSWER 2", asked)) else "2")

        with ModelServer(answer=longer) as server:
            report = lab.judge_bias(pairwise(server), ROWS, checks=["position", "length"])
        assert report.biased == ["length"] and report["length"].verdict.delta == 1.0 and report.held == ["position"]


class TestOwnModel:
    @pytest.fixture
    def grid(self):
        """Two models: mine says "mine: q", the other "q"; a scorer finds both equally good."""
        rows = [{"id": str(number), "question": f"q{number}"} for number in range(12)]
        with ModelServer(answer=lambda text: f"mine: {text}") as mine:
            models = ["echo", lab.model(f"openai:m@{mine.url}", label="mine")]
            yield lab.grid("{{ question }}", rows, models=models, scorers=[lab.scorer(lambda reply, row: 0.5, label="known")], track=False)

    def test_its_own_replies_score_higher_than_a_reference_scorer_explains(self, grid):
        with ModelServer(answer=lambda asked: says("yes" if "mine" in part("REPLY", asked) else "no")) as server:
            report = lab.judge_bias(rubric(server), grid, checks=["self_preference"], own="mine", reference="known")
            assert report.biased == ["self_preference"] and report["self_preference"].verdict.delta == 1.0
            assert "being written by mine moves the score by +1" in repr(report)
            alone = lab.judge_bias(rubric(server), grid, checks=["self_preference"], own="mine")
            assert "without a reference scorer, better replies look the same" in repr(alone)

    def test_merit_that_the_reference_sees_is_no_preference(self):
        rows = [{"id": str(number), "question": f"q{number}"} for number in range(12)]
        right = lab.scorer(lambda reply, row: "mine" in reply.text, label="right")
        fair = ModelServer(answer=lambda asked: says("yes" if "mine" in part("REPLY", asked) else "no"))
        with ModelServer(answer=lambda text: f"mine: {text}") as mine, fair as server:
            models = ["echo", lab.model(f"openai:m@{mine.url}", label="mine")]
            grid = lab.grid("{{ question }}", rows, models=models, scorers=[right], track=False)
            report = lab.judge_bias(rubric(server), grid, checks=["self_preference"], own="mine", reference="right")
        assert report.biased == [] and report["self_preference"].verdict.delta == 0.0

    def test_a_reference_that_is_missing_is_not_counted_as_nought(self):
        rows = [{"id": str(number), "question": f"q{number}"} for number in range(12)]

        def gaps(reply, row):
            return None if row["question"] in ("q0", "q1") or (row["question"] == "q2" and "mine" not in reply.text) else True

        fair = ModelServer(answer=lambda asked: says("yes"))
        with ModelServer(answer=lambda text: f"mine: {text}") as mine, fair as server:
            models = ["echo", lab.model(f"openai:m@{mine.url}", label="mine")]
            grid = lab.grid("{{ question }}", rows, models=models, scorers=[lab.scorer(gaps, label="gaps")], track=False)
            check = lab.judge_bias(rubric(server), grid, checks=["self_preference"], own="mine", reference="gaps")["self_preference"]
        assert check.unscored == 3 and "reference" in check.problem and check.why == ""
        assert check.verdict.delta == 0.0 and check.verdict.n_pairs == 9

    def test_a_pairwise_judge_that_picks_its_own(self, grid):
        def own(asked):
            return says("1" if "mine" in part("ANSWER 1", asked) else "2")

        with ModelServer(answer=own) as server:
            report = lab.judge_bias(pairwise(server), grid, checks=["self_preference", "position"], own="mine", reference="known")
        assert report.biased == ["self_preference"] and report["position"].verdict.delta == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checks": ["lenght"]}, "Did you mean length"),
        ({"text": "replay"}, "Did you mean reply"),
        ({"rows_or_grid": [{"question": "q"}]}, "which column holds the reply"),
        ({"rows_or_grid": [{"reply": None}]}, "no reply to judge"),
        ({"judge": "rubric"}, "the judge is what lab.judge"),
    ],
)
def test_wrong_use(options, message):
    judge = lab.judge("rubric", model="echo", criteria="x")
    with pytest.raises((BadInput, UnknownName), match=message):
        lab.judge_bias(**{"judge": judge, "rows_or_grid": ROWS, **options})


def test_any_scorer_can_be_tested():
    report = lab.judge_bias(lab.scorer("length"), ROWS, checks=["length", "injection"])
    assert "length" in report.biased


def test_what_a_judge_said_of_a_row_goes_with_the_row_also_where_rows_have_no_id():
    table = [{"question": f"q{number}", "reply": text} for number, text in enumerate(("plain", "Maria-Planted", "Maria-Planted too"))]
    labelled = [{**row, "text": f"{row['reply']}.", "label": 1} for row in table]
    bare = [{"text": row["reply"], "label": 1} for row in table]
    with ModelServer(answer=lambda asked: json.dumps({"reason": part("REPLY", asked), "verdict": "yes"})) as server:
        lab.judge_bias(rubric(server), table, checks=["length"])
        lab.calibrate(rubric(server, label="another"), labelled)
        lab.calibrate(lab.judge("rubric", model=f"openai:m@{server.url}", criteria="It is short."), bare)

    def said():
        return [line["row_id"] for line in lab.load("judgements").records() if "Maria-Planted" in (line["text"] or "")]

    assert len(said()) == 8
    for row_id in (row_id for rows in (table, labelled, bare) for row_id in read_rows(rows).ids[1:]):
        forget_row(settings.load(), row_id)
    assert said() == []
