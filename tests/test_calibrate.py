"""Judges held against people: labels out of tables and rating queues, cards that are kept, and cards that go stale."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput, UnknownName
from tests.servers import ModelServer

NO, YES = "I'm sorry, but I can't help with that.", "Here is how you do it: begin with the first step."
HIDDEN = "Ask somebody else."  # a refusal that the phrases of the scorer miss

pytestmark = pytest.mark.usefixtures("home")


def rows(count, seed=0):
    """Replies of which about half refuse, a third of these in words that the scorer misses; ``truth`` is what people see."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice([YES, NO, HIDDEN], count, p=[0.5, 0.33, 0.17])
    return [{"id": str(number), "text": text, "truth": text != YES} for number, text in enumerate(kinds)]


def labelled(count=60, of=200):
    table = pd.DataFrame(rows(of))
    table["label"] = table["truth"].astype(object).where(table.index < count, None)
    return table.drop(columns="truth")


class TestTables:
    def test_a_scorer_without_a_model_is_a_judge_too(self):
        table = labelled()
        card = lab.calibrate("refusal", table)
        told = table[table.label.notna()]
        missed, seen = (told.text == HIDDEN).sum(), (told.text == NO).sum()
        assert card.n == 60 and card.sensitivity.value == pytest.approx(seen / (seen + missed)) and card.specificity.value == 1
        assert card.low < card.kappa < card.high < 1
        assert card.raw_mean == pytest.approx((table.text == NO).mean())
        truth = (table.text != YES).mean()
        assert abs(card.corrected_mean - truth) < abs(card.raw_mean - truth) / 2
        assert card.corrected.low < truth < card.corrected.high
        assert card.needed_labels > 0 and not card.stale and card.people is None
        assert card.judge == "refusal" and "label about" in repr(card) and "0.05" in repr(card)

    def test_scores_on_record_are_taken_and_the_judge_is_not_asked(self):
        def never(reply, row):
            raise AssertionError("asked")

        table = pd.DataFrame({"label": [1, 2, 3, 4, 5, None], "mark": [1.5, 2.5, 3, 4.5, None, 6]})
        card = lab.calibrate(never, table, score="mark")
        assert card.n == 4 and card.error.value == pytest.approx(0.375) and card.sensitivity is None
        assert "1 labelled items without a score" in repr(card)

    def test_lines_of_one_item_are_its_raters(self):
        table = pd.DataFrame(
            [
                (item, rater, item % 2 if rater == "ann" or item > 3 else 1 - item % 2)
                for item in range(12)
                for rater in ("ann", "bob", "cyd")
            ],
            columns=["item", "rater", "label"],
        )
        table["mark"] = table["item"] % 2
        card = lab.calibrate("refusal", table, score="mark")
        assert card.n == 12 and card.people.raters == 3 and 0 < card.people.value < 1
        assert card.kappa == pytest.approx(lab.agreement(pd.DataFrame({"a": [1, 0, 1, 0] + [0, 1] * 4, "b": [0, 1] * 6}), "cohen").value)
        split = lab.calibrate("refusal", table[table.rater != "cyd"], score="mark")
        assert split.n == 8 and "4 items on which raters are split" in repr(split)

    def test_words_have_an_order_and_numbers_a_threshold(self):
        table = pd.DataFrame({"label": ["fine", "refused", "refused", "fine"], "mark": [0.1, 0.9, 0.8, 0.3]})
        with pytest.raises(BadInput, match="order="):
            lab.calibrate("refusal", table, score="mark")
        with pytest.raises(BadInput, match="threshold="):
            lab.calibrate("refusal", table, score="mark", order=["fine", "refused"])
        assert lab.calibrate("refusal", table, score="mark", order=["fine", "refused"], threshold=0.5).kappa == 1
        with pytest.raises(BadInput, match="'fine'"):
            lab.calibrate("refusal", table, score="mark", order=["good", "refused"])

    def test_files_and_texts_that_mean_numbers(self, tmp_path):
        path = tmp_path / "labels.csv"
        path.write_text(f'text,label\n"{NO}",yes\n"{YES}",no\n{HIDDEN},yes\n"{YES}",\n', "utf-8")
        card = lab.calibrate("refusal", path)
        assert card.n == 3 and card.corrected.scored == 4 and str(path) in repr(card)

    def test_scores_in_a_file_are_words_or_numbers_and_another_word_is_named(self, tmp_path):
        path = tmp_path / "scored.csv"
        path.write_text("id,label,score\n1,yes,true\n2,no,False\n3,no,1\n4,yes,\n", "utf-8")
        card = lab.calibrate("refusal", path, score="score")
        assert card.n == 3 and card.raw_mean == pytest.approx(2 / 3)
        with pytest.raises(BadInput, match="the score 'perhaps' is no number"):
            lab.calibrate("refusal", [{"label": 1, "score": "perhaps"}], score="score")

    def test_an_interrupt_sends_nothing_more(self):
        code = (
            "import sys, llmops_lab as lab\n"
            "judge = lab.judge('rubric', model=sys.argv[1], criteria='x', show=[])\n"
            "rows = [{'id': str(n), 'text': f't{n}', 'label': n % 2} for n in range(60)]\n"
            "try:\n    lab.calibrate(judge, rows)\nexcept KeyboardInterrupt:\n    print('stopped')\n"
        )
        with ModelServer(answer=lambda asked: json.dumps({"reason": "", "verdict": "yes"}), latency_ms=200) as server:
            command = [sys.executable, "-c", code, f"openai:m@{server.url}"]
            environment = {**os.environ, "LLMOPS_LAB_CONCURRENCY": "4"}
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            while len(server.requests) < 8:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
            assert out.strip() == "stopped" and len(server.requests) < 40

    def test_a_judge_that_breaks_leaves_items_out_and_says_so(self):
        def breaks(reply, row):
            return {"a": True, "b": False}[reply.text]

        card = lab.calibrate(breaks, [{"text": "a", "label": 1}, {"text": "b", "label": 0}, {"text": "c", "label": 1}])
        assert card.n == 2 and "1 labelled items without a score" in repr(card)

    @pytest.mark.parametrize(
        ("table", "options", "said"),
        [
            ([{"text": NO}], {}, "label"),
            ([{"label": 1}], {}, "text"),
            ([{"text": NO, "label": None}], {}, "nobody has labelled"),
            ([{"text": NO, "label": 1}], {"score": "marks"}, "marks"),
        ],
    )
    def test_what_cannot_be_held_against_anything(self, table, options, said):
        with pytest.raises(BadInput, match=said):
            lab.calibrate("refusal", table, **options)

    def test_a_judge_that_scores_nothing_says_what_broke(self):
        def broken(reply, row):
            raise OSError("no such tool")

        with pytest.raises(BadInput, match="scored none of 200 items: OSError: no such tool"):
            lab.calibrate(broken, labelled())


class TestCards:
    def test_a_card_is_kept_and_opened_again(self):
        made = lab.calibrate("refusal", labelled())
        again = lab.calibrate("refusal")
        assert not again.stale and repr(again) == repr(made) and again.to_dict() == made.to_dict()
        assert again.correct([True, False] * 100) == made.correct([True, False] * 100)

    def test_a_judge_without_a_card_says_which_have_one(self):
        lab.calibrate("refusal", labelled())
        with pytest.raises(UnknownName, match="refusal"):
            lab.calibrate("exact")

    def test_other_options_make_it_stale_and_the_old_ones_find_their_own_card(self):
        first = lab.scorer("contains", label="sorry")
        other = lab.scorer("contains", label="sorry", words=True)
        table = pd.DataFrame({"text": [NO, YES] * 10, "label": [1, 0] * 10, "wanted": ["sorry"] * 20})
        lab.calibrate(first, table, expected="wanted")
        stale = lab.calibrate(other)
        assert stale.stale and "STALE" in repr(stale) and "STALE" in stale._repr_html_() and "Calibrate it" in stale.stale_because
        lab.calibrate(other, table, expected="wanted")
        assert not lab.calibrate(other).stale and not lab.calibrate(first).stale

    def test_of_a_function_nobody_can_tell(self):
        def refuses(reply, row):
            return "sorry" in reply.text

        assert not lab.calibrate(refuses, labelled()).stale
        opened = lab.calibrate(refuses)
        assert opened.stale and "no version" in opened.stale_because

    def test_another_prompt_or_model_of_a_judge_makes_it_stale(self):
        def strict(asked):
            text = re.search(r"<<<REPLY (\w+)\n(.*)\nREPLY \1>>>", asked, re.DOTALL)[2]
            return json.dumps({"reason": "so", "verdict": "yes" if "sorry" in text else "no"})

        with ModelServer(answer=strict) as server:

            def judge(criteria="The reply refuses.", model="m", **more):
                return lab.judge("rubric", model=f"openai:{model}@{server.url}", criteria=criteria, label="refuses", show=[], **more)

            card = lab.calibrate(judge(), labelled(30, 40))
            assert card.sensitivity.value < 1 and not card.stale
            assert f"openai:m@{server.url}" in repr(card)
            asked = len(server.requests)
            assert not lab.calibrate(judge()).stale
            for changed in (judge("The reply says no."), judge(model="m2"), judge(guide="Be strict.")):
                assert lab.calibrate(changed).stale
            assert len(server.requests) == asked

    def test_a_page_holds_no_live_markup(self):
        card = lab.calibrate(lab.scorer("refusal", label="<script>x</script>"), labelled())
        assert "<script>" not in card._repr_html_()


def scored_grid(count=120, seed=1, scorers=("refusal",), name="asked", repeats=1):
    """Two prompts: ``bare`` repeats a reply, ``soft`` has every second refusal answered."""
    table = rows(count, seed)
    rng = np.random.default_rng(seed + 1)
    for row in table:
        row["softer"] = YES if row["truth"] and rng.random() < 0.5 else row["text"]
    prompts = {"bare": "{{ text }}", "soft": "{{ softer }}"}
    return lab.grid(prompts, table, models=["echo"], scorers=list(scorers), name=name, repeats=repeats, track=False), table


REFUSES = lab.Rubric("Does the reply refuse?", levels={False: "it answers", True: "it declines"})


def people_say(queue, raters=("ann",), wrong=None):
    for number, (item, _) in enumerate(queue.items(raters[0])):
        for rater in raters:
            text = queue.task(rater, item)["sides"][0]["text"]
            value = text != YES
            queue.submit(item=item, rater=rater, value=value if wrong != (number, rater) else not value)


class TestQueues:
    def test_a_sample_that_people_rated_corrects_the_whole_grid(self):
        grid, table = scored_grid()
        queue = lab.rate(grid, REFUSES, variants=["bare"], limit=50, name="refusals")
        people_say(queue, ("ann", "bob"), wrong=(0, "bob"))
        card = lab.calibrate(lab.scorer("refusal"), queue)
        assert card.n == 49 and card.corrected.scored == 120 and card.people.raters == 2
        assert "1 items on which raters are split" in repr(card) and "queue refusals" in repr(card)
        truth = np.mean([row["truth"] for row in table])
        assert card.corrected.low < truth < card.corrected.high and card.raw_mean < truth
        queue.adjudicate(item=queue.adjudicate().item.iloc[0], value=queue.adjudicate().sides.iloc[0]["a"] != YES, reason="read again")
        assert lab.calibrate(lab.scorer("refusal"), queue).n == 50

    def test_a_difference_of_two_prompts_is_corrected_by_labels_of_both(self):
        grid, table = scored_grid(200)
        queue = lab.rate(grid, REFUSES, limit=200, name="both")
        people_say(queue)
        card = lab.calibrate("refusal", queue)
        found = card.difference("bare", "soft")
        truth = np.mean([(row["softer"] != YES) - row["truth"] for row in table])
        assert found.method == "prediction-powered" and found.low < truth < found.high < 0
        assert abs(found.value - truth) < abs(found.raw - truth)
        with pytest.raises(UnknownName, match="soft"):
            card.difference("bare", "sfot")

    def test_a_card_corrects_grids_that_came_later(self):
        grid, table = scored_grid(300)
        card = lab.calibrate("refusal", labelled(200, 200))
        mean, difference = card.correct(grid, "bare"), card.difference("bare", "soft", grid=grid)
        truth = np.mean([row["truth"] for row in table])
        assert mean.method == difference.method == "Rogan-Gladen"
        assert mean.low < truth < mean.high and abs(mean.value - truth) < abs(mean.raw - truth)
        assert difference.low < np.mean([(row["softer"] != YES) - row["truth"] for row in table]) < difference.high
        assert lab.calibrate("refusal").correct(grid, "bare") == mean
        with pytest.raises(BadInput, match="grid="):
            lab.calibrate("refusal").difference("bare", "soft")

    def test_a_grid_that_another_version_scored_is_not_corrected(self):
        grid, _ = scored_grid(20, scorers=[lambda_scorer])
        card = lab.calibrate(lab.scorer("refusal", label="lambda_scorer"), labelled())
        with pytest.raises(BadInput, match="another version"):
            card.correct(grid)
        with pytest.raises(BadInput, match="scored nothing"):
            lab.calibrate("refusal", labelled()).correct(grid)

    def test_where_the_grid_has_no_scores_of_this_judge_it_is_asked_about_the_queue(self):
        grid, _ = scored_grid(30, scorers=())
        queue = lab.rate(grid, REFUSES, variants=["bare"], name="unscored")
        people_say(queue)
        assert lab.calibrate("refusal", queue).n == 30

    def test_levels_that_are_words_count_by_their_place(self):
        queue = lab.rate(
            rows(20), lab.Rubric("Does it refuse?", levels={"answers": "it helps", "refuses": "it declines"}), name="words", text="text"
        )
        for item, _ in queue.items("ann"):
            said = "refuses" if queue.task("ann", item)["sides"][0]["text"] != YES else "answers"
            queue.submit(item=item, rater="ann", value=said)
        card = lab.calibrate("refusal", queue)
        assert card.n == 20 and card.specificity.value == 1 and card.sensitivity.value < 1

    def test_two_levels_that_are_numbers_stand_for_false_and_true(self):
        queue = lab.rate(rows(20), lab.Rubric("Does it refuse?", levels={2: "it declines", 1: "it helps"}), name="numbers", text="text")
        for item, _ in queue.items("ann"):
            queue.submit(item=item, rater="ann", value=1 + (queue.task("ann", item)["sides"][0]["text"] != YES))
        assert lab.calibrate("refusal", queue).specificity.value == 1

    def test_repeats_of_a_row_are_not_taken_for_more_rows(self):
        card = lab.calibrate("refusal", labelled(200, 200))
        once, thrice = (scored_grid(60, name=name, repeats=repeats)[0] for name, repeats in (("once", 1), ("thrice", 3)))
        for get in (lambda grid: card.correct(grid, "bare"), lambda grid: card.difference("bare", "soft", grid=grid)):
            one, three = get(once), get(thrice)
            assert three.value == pytest.approx(one.value) and three.scored == 3 * one.scored
            assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.05)

    def test_rankings_and_pairs_are_no_labels_of_single_replies(self):
        table = [{"id": str(number), "x": f"x{number}", "y": f"y{number}"} for number in range(3)]
        ranking = lab.rate(table, "Which?", mode="ranking", variants=["x", "y"], name="ranked")
        pairs = lab.rate(table, "Which?", mode="pairwise", a="x", b="y", name="pairs")
        with pytest.raises(BadInput, match="ranking"):
            lab.calibrate("refusal", ranking)
        with pytest.raises(BadInput, match="pairwise"):
            lab.calibrate("refusal", pairs)

    def test_a_pairwise_judge_is_held_against_pairwise_ratings(self):
        def longer(asked):
            first, second = (re.search(rf"<<<ANSWER {side} (\w+)\n(.*)\nANSWER {side} \1>>>", asked, re.DOTALL)[2] for side in (1, 2))
            return json.dumps({"reason": "length", "verdict": "1" if len(first) > len(second) else "2"})

        table = [{"id": str(n), "x": "word " * (n % 3 + 1), "y": "word " * (n % 5 + 1) + "."} for n in range(30)]
        queue = lab.rate(table, "Which is longer?", mode="pairwise", a="x", b="y", name="pairs")
        for item, _ in queue.items("ann"):
            row = table[int(item)] if item.isdigit() else None
            queue.submit(item=item, rater="ann", value="a" if len(row["x"]) > len(row["y"]) else "b")
        with ModelServer(answer=longer) as server:
            card = lab.calibrate(lab.judge("pairwise", model=f"openai:m@{server.url}", criteria="Longer is better."), queue)
        calls = lab.load("judgements").records()
        assert calls and {call["row_id"] for call in calls} <= {row["id"] for row in table}, "they go with the row"
        assert card.n == 30 and card.kappa == 1
        assert card.corrected_mean == pytest.approx(np.mean([len(row["x"]) <= len(row["y"]) for row in table]))


def lambda_scorer(reply, row):
    return "sorry" in reply.text


def test_the_mean_of_a_useless_judge_is_not_known():
    table = pd.DataFrame({"label": [1, 0] * 20, "mark": [1, 1, 0, 0] * 10})
    found = lab.calibrate("refusal", table, score="mark").correct([1, 0, 1])
    assert math.isnan(found.value) and "no better than a guess" in repr(found)
