"""What a queue comes to: agreement, disagreements and what settles them, preferences, strengths, files."""

import json

import pandas
import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput, UnknownName
from tests.ratings.conftest import LEVELS

ROWS = [{"id": str(number), "ask": f"question {number}", "old": f"old {number}", "new": f"new {number}"} for number in range(6)]
SAID = {"ann": "aabbt-", "bob": "ababt-", "cy": "abbbb-"}
"""Per rater the values of rows 0 to 5: t is a tie, - is not rated."""


@pytest.fixture
def pair(mlflow_store):
    queue = lab.rate(ROWS, "Which is better?", mode="pairwise", a="old", b="new", prompt="ask", raters=list(SAID), name="pair")
    for rater, values in SAID.items():
        for item, value in enumerate(values):
            if value != "-":
                queue.submit(item=str(item), rater=rater, value={"t": "tie"}.get(value, value), comment=f"{rater} on {item}")
    return queue


def single(values, **more):
    """A queue of single ratings: rater -> values of the rows."""
    queue = lab.rate(ROWS, LEVELS, text="old", raters=list(values), name="single", **more)
    for rater, given in values.items():
        for item, value in enumerate(given):
            if value is not None:
                queue.submit(item=str(item), rater=rater, value=value)
    return queue


class TestAgreement:
    def test_it_is_that_of_the_table_of_what_holds(self, home):
        values = {"ann": [1, 2, 3, 3, 2, 1], "bob": [1, 2, 3, 2, 2, None]}
        queue = single(values)
        queue.submit(item="0", rater="ann", value=3)
        queue.submit(item="0", rater="ann", value=1)  # changed her mind twice: what holds counts
        expected = lab.agreement(pandas.DataFrame(values), level="ordinal", order=[1, 2, 3])
        found = queue.agreement()
        assert (found.metric, found.level, found.n, found.raters) == ("krippendorff", "ordinal", 5, 2)
        assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)
        assert queue.agreement("weighted", "interval").value == lab.agreement(pandas.DataFrame(values), "weighted", "interval").value
        assert queue.agreement("cohen").level == "nominal"

    def test_levels_that_are_words_have_the_order_of_the_rubric(self, home):
        words = lab.Rubric("How polite?", levels={"rude": "insults", "plain": "no frills", "warm": "thanks"})
        queue = lab.rate(ROWS, words, text="old", raters=["ann", "bob"], name="words")
        for item, (ann, bob) in enumerate([("rude", "plain"), ("plain", "plain"), ("warm", "warm"), ("rude", "rude")]):
            queue.submit(item=str(item), rater="ann", value=ann)
            queue.submit(item=str(item), rater="bob", value=bob)
        numbers = pandas.DataFrame({"ann": [0, 1, 2, 0], "bob": [1, 1, 2, 0]})
        assert queue.agreement().value == pytest.approx(lab.agreement(numbers, level="ordinal").value)

    def test_of_pairs_it_is_nominal_and_of_rankings_that_of_each_two_sides(self, pair):
        table = pandas.DataFrame({rater: [None if value == "-" else value for value in values] for rater, values in SAID.items()})
        assert pair.agreement().value == pytest.approx(lab.agreement(table).value)
        ranking = lab.rate(ROWS, "Order", mode="ranking", variants=["ask", "old", "new"], raters=["ann", "bob"], name="ranking")
        for item, bob in (("0", "a>b>c"), ("1", "c>b>a"), ("2", "b=c>a")):
            ranking.submit(item=item, rater="ann", value="a>b>c")
            ranking.submit(item=item, rater="bob", value=bob)
        found = ranking.agreement()
        assert (found.n, found.level) == (9, "ordinal")  # three items of three pairs
        assert -1 < found.value < 1

    def test_what_is_shown_twice_tells_of_the_rater_and_not_of_their_agreement(self, home):
        queue = single({"ann": [1, 2, 3, 1, 2, 3], "bob": [1, 2, 3, 1, 2, 3]}, repeats=2)
        again = [item for item, _ in queue.items("ann") if item.endswith("#2")]
        first = [queue.task("ann", item.removesuffix("#2"))["mine"]["value"] for item in again]
        queue.submit(item=again[0], rater="ann", value=first[0])
        queue.submit(item=again[1], rater="ann", value=first[1] % 3 + 1)
        assert queue.agreement().value == 1.0
        table = queue.consistency().set_index("rater")
        assert table.loc["ann", ["same_n", "same"]].tolist() == [2, 0.5] and table.loc["bob", "same_n"] == 0
        assert 0 < table.loc["ann", "same_low"] < 0.5 < table.loc["ann", "same_high"] < 1


class TestSettled:
    def test_disagreements_have_every_value_and_comment_until_they_are_settled(self, pair):
        table = pair.adjudicate().set_index("item")
        assert list(table.index) == ["1", "2", "4"]
        assert table.loc["1", "values"] == {"ann": "a", "bob": "b", "cy": "b"}
        assert table.loc["1", "comments"]["bob"] == "bob on 1"
        assert table.loc["1", "sides"] == {"a": "old 1", "b": "new 1"}
        row = pair.adjudicate(item="1", value="a", reason="b made up a fact")
        assert list(pair.adjudicate().item) == ["2", "4"]
        assert pair.settled().set_index("item").loc["1", ["value", "reason", "row"]].tolist() == ["a", "b made up a fact", row]
        pair.adjudicate(item="1", value="tie")
        assert pair.settled().value.tolist() == ["tie"]
        assert len(pair.ratings()) == 15  # what the raters said stays

    @pytest.mark.parametrize(
        ("what", "error"),
        [
            ({"item": "9", "value": "a"}, "item called '9'"),
            ({"item": "1", "value": "c"}, "'c'"),
            ({"item": "1"}, "pairwise rating is"),
            ({"item": "1", "value": "a", "reason": 3}, "reason is a text"),
        ],
    )
    def test_what_cannot_be_settled_is_refused(self, pair, what, error):
        with pytest.raises(BadInput, match=error):
            pair.adjudicate(**what)
        assert pair.settled().empty


class TestPreferences:
    def test_each_pair_goes_to_the_side_that_most_prefer(self, pair):
        found = pair.preferences()
        assert [line["prompt"] for line in found] == ["question 0", "question 1", "question 2", "question 3"]
        assert found[0] == {"prompt": "question 0", "chosen": "old 0", "rejected": "new 0"}
        assert [line["chosen"] for line in found[1:]] == ["new 1", "new 2", "new 3"]
        assert found.left_out == {"too little agreement": 1}  # row 4: a tie, a tie and b

    def test_fewer_where_more_agreement_is_asked_for(self, pair):
        assert [line["prompt"] for line in pair.preferences(min_agreement=1)] == ["question 0", "question 3"]
        assert len(pair.preferences(min_agreement=0)) == 5
        with pytest.raises(BadInput, match="from 0 to 1"):
            pair.preferences(min_agreement=80)

    def test_what_was_settled_counts_for_all(self, pair):
        pair.adjudicate(item="2", value="a")
        pair.adjudicate(item="3", value="bad")
        found = pair.preferences(min_agreement=1)
        assert [line["chosen"] for line in found] == ["old 0", "old 2"]
        assert found.left_out == {"too little agreement": 2, "no side is preferred": 1}

    def test_the_file_is_what_trl_reads(self, pair, tmp_path):
        path = pair.preferences(conversational=True).to_jsonl(tmp_path / "pairs.jsonl")
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        assert lines[0] == {
            "prompt": [{"role": "user", "content": "question 0"}],
            "chosen": [{"role": "assistant", "content": "old 0"}],
            "rejected": [{"role": "assistant", "content": "new 0"}],
        }
        from trl.data_utils import extract_prompt, is_conversational, maybe_extract_prompt

        assert is_conversational(lines[0]) and maybe_extract_prompt(lines[0]) == lines[0]
        assert callable(extract_prompt)
        with pytest.raises(BadInput, match=r"\.jsonl"):
            pair.preferences().to_jsonl(tmp_path / "pairs.csv")
        assert list(pair.preferences().frame().columns) == ["prompt", "chosen", "rejected"]

    def test_a_ranking_gives_a_pair_for_each_two_sides(self, home):
        rows = [{"id": "1", "prompt": "ask", "x": "one", "y": "two", "z": "three"}]
        queue = lab.rate(rows, "Order", mode="ranking", variants=["x", "y", "z"], name="r")
        queue.submit(item="1", rater="ann", value="b>a=c")
        assert {(line["chosen"], line["rejected"]) for line in queue.preferences()} == {("two", "one"), ("two", "three")}

    def test_levels_are_no_preferences(self, home):
        with pytest.raises(BadInput, match="mode='pairwise'"):
            single({"ann": [1] * 6}).preferences()


class TestStrengths:
    def test_they_are_told_when_the_queue_is_closed(self, pair):
        with pytest.raises(BadInput, match="Close the queue first"):
            pair.strengths()
        found = pair.close().strengths()
        (best, worst) = found.strengths
        assert (best.name, best.wins, best.losses, best.ties) == ("new", 8, 5, 2)
        assert worst.name == "old" and found.items == 5

    def test_of_many_variants_every_two_are_compared(self, home):
        rows = [{"id": str(number), "x": f"x{number}", "y": f"y{number}", "z": f"z{number}"} for number in range(8)]
        queue = lab.rate(rows, "Better?", mode="pairwise", variants=["x", "y", "z"], name="many")
        while (task := queue.next("ann")) is not None:
            shown = dict(zip(task["side_order"], (side["text"] for side in task["sides"]), strict=True))
            best = max(shown, key=lambda side: (shown[side][0], side))
            queue.submit(item=task["item"], rater="ann", value="tie" if task["item"].endswith("0~1") else best)
        assert len(queue.ratings()) == 24
        assert [each.name for each in queue.close().strengths().strengths] == ["z", "y", "x"]


class TestFurtherItems:
    def test_cells_of_a_grid_go_into_a_queue_that_is_there_once(self, home):
        rows = [{"id": str(number), "q": f"question {number}"} for number in range(4)]
        grid = lab.grid({"one": "{{ q }}", "two": "Please: {{ q }}"}, rows, models=["echo"], track=False, progress=False)
        queue = lab.rate(grid, LEVELS, limit=2, name="some")
        assert queue.add(grid, [0, 1, 2, 3]) >= 2
        before = {item for item, _ in queue.items("ann")}
        assert queue.add(lab.load(grid.grid_id), [0, 1, 2, 3]) == 0  # the same cells, read back
        assert {item for item, _ in queue.items("ann")} == before
        assert lab.rate(grid, LEVELS, limit=2, name="some").items("ann") == queue.items("ann")
        with pytest.raises(UnknownName, match="cell"):
            queue.add(grid, [99])
        with pytest.raises(BadInput, match="closed"):
            queue.close().add(grid, [7])

    def test_into_a_queue_of_pairs_go_whole_rows(self, home):
        rows = [{"id": str(number), "q": f"question {number}"} for number in range(4)]
        grid = lab.grid({"one": "{{ q }}", "two": "Please: {{ q }}"}, rows, models=["echo"], track=False, progress=False)
        queue = lab.rate(grid, "Better?", mode="pairwise", limit=1, name="pairs")
        (held,) = [item for item, _ in queue.items("ann")]
        cell = next(number for number, line in enumerate(grid.records()) if line["row_id"] != held)
        assert queue.add(grid, [cell]) == 1
        assert {len(queue.task("ann", item)["sides"]) for item, _ in queue.items("ann")} == {2}
