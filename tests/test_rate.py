"""Rating as its owner and its raters do it, through ``lab.rate`` and the queue that it returns."""

import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput, Conflict, UnknownName

TONE = lab.Rubric("How polite is the reply?", levels={1: "rude: insults", 2: "plain: no word too many", 3: "warm: thanks, offers help"})
ROWS = [{"id": str(number), "reply": f"reply {number}", "other": f"other {number}", "ask": f"question {number}"} for number in range(6)]

pytestmark = pytest.mark.usefixtures("home")


def single(**changes):
    return lab.rate(ROWS, **{"rubric": TONE, "text": "reply", "prompt": "ask", "name": "tone", **changes})


class TestOneRater:
    def test_what_is_saved_is_there_for_whoever_opens_the_queue_again(self):
        task = single().next("ann")
        row = lab.queue("tone").submit(item=task["item"], rater="ann", value=3, comment="kind", seconds=2.5, expects=0)
        table = lab.queue("tone").ratings()
        assert list(table.columns) == ["item", "rater", "value", "comment", "seconds", "side_order", "created", "superseded_by"]
        assert table.loc[row, ["item", "rater", "value", "comment", "seconds"]].tolist() == [task["item"], "ann", 3, "kind", 2.5]
        assert table.superseded_by.isna().all()

    def test_the_same_id_twice_is_one_rating(self):
        queue = single()
        first = queue.submit(item="1", rater="ann", value=1, id="3f0c2b9e-one")
        assert queue.submit(item="1", rater="ann", value=1, id="3f0c2b9e-one", expects=0) == first
        assert len(queue.ratings()) == 1

    def test_a_rating_made_elsewhere_in_between_is_not_overwritten(self):
        queue = single()
        row = queue.submit(item="1", rater="ann", value=1)
        with pytest.raises(Conflict, match=f"row {row} holds") as met:
            queue.submit(item="1", rater="ann", value=3, expects=0)
        assert met.value.current["value"] == 1 and met.value.current["row"] == row
        assert queue.ratings().value.tolist() == [1]

    def test_taking_back_deletes_nothing(self):
        queue = single()
        first = queue.submit(item="1", rater="ann", value=1)
        back = queue.undo(item="1", rater="ann", expects=first)
        again = queue.submit(item="1", rater="ann", value=2, expects=0)
        table = queue.ratings()
        assert table.value.tolist() == [1, None, 2]
        assert table.superseded_by.tolist()[:2] == [back, again]
        assert queue.task("ann", "1")["mine"]["value"] == 2


class TestRefused:
    @pytest.mark.parametrize("value", [0, 4, "warm", True, None, "a"])
    def test_a_value_that_the_rubric_does_not_have(self, value):
        queue = single()
        with pytest.raises(BadInput, match=r"level|value"):
            queue.submit(item="1", rater="ann", value=value)
        assert queue.ratings().empty

    def test_an_item_or_a_queue_that_is_not_there(self):
        queue = single()
        with pytest.raises(UnknownName, match="item called '99'"):
            queue.submit(item="99", rater="ann", value=1)
        with pytest.raises(UnknownName, match="Did you mean tone"):
            lab.queue("tons")

    def test_a_rater_who_was_not_asked(self):
        queue = single(raters=["ann", "bob"])
        with pytest.raises(UnknownName, match=r"rater of this queue called 'eve'.*ann, bob"):
            queue.next("eve")

    def test_a_closed_queue(self):
        queue = single()
        row = queue.submit(item="1", rater="ann", value=1, id="3f0c2b9e-one")
        queue.close()
        with pytest.raises(BadInput, match="closed"):
            queue.submit(item="2", rater="ann", value=1)
        assert queue.next("ann") is None
        assert queue.submit(item="1", rater="ann", value=1, id="3f0c2b9e-one") == row  # it was saved, and the sender did not hear of it

    def test_another_queue_of_the_same_name(self):
        single().submit(item="1", rater="ann", value=1)
        with pytest.raises(BadInput, match="there already, with another rubric"):
            single(rubric=lab.Rubric("How rude is it?", levels={1: "a", 2: "b"}))
        with pytest.raises(BadInput, match="with other items"):
            single(text="other")
        assert len(single().ratings()) == 1


class TestTheSameNotebookAgain:
    PROMPTS = {"plain": "{{ ask }}", "warm": "Dear friend, {{ ask }}"}  # noqa: RUF012

    def queue(self, **changes):
        grid = lab.grid(self.PROMPTS, ROWS, models=["echo"], track=False, **changes)
        return lab.rate(grid, lab.Rubric("Which is kinder?"), mode="pairwise", name="kinder")

    def test_replies_from_the_ledger_are_the_same_queue(self):
        first = self.queue()
        row = first.submit(item="1", rater="ann", value="b")
        again = self.queue()
        assert again.ratings().index.tolist() == [row]
        assert again.add(lab.grid(self.PROMPTS, ROWS, models=["echo"], track=False), range(12)) == 0

    def test_other_replies_are_another_queue(self):
        self.queue()
        with pytest.raises(BadInput, match="with other items"):
            self.queue(params={"max_tokens": 7})
