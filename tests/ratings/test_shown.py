"""What a rater sees, and in which order: drawn from the seed, the same for ever, and telling nothing of who wrote what."""

import json
import os
import subprocess
import sys

import llmops_lab as lab
from llmops_lab.ratings.order import item_order, side_order
from tests.ratings.conftest import LEVELS

ITEMS = [f"i{number}" for number in range(6)]
REPEATS = {"i1#2": "i1", "i4#2": "i4"}


class TestDrawn:
    def test_orders_are_these_in_every_process_and_every_python(self):
        code = (
            f"from llmops_lab.ratings.order import *; items, repeats = {[*ITEMS, *REPEATS]!r}, {REPEATS!r}\n"
            "print(item_order(7, 'ann', items, repeats), side_order(7, 'ann', 'i1', 'abc'), sample(7, items, 3, 'limit'), draw('x', 1))"
        )
        environment = {**os.environ, "PYTHONHASHSEED": "4711"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, timeout=60)
        drawn = "['i2', 'i1', 'i0', 'i4', 'i5', 'i4#2', 'i1#2', 'i3'] abc ['i1', 'i3', 'i4#2'] 0.3486353765344623"
        assert done.stdout.strip() == drawn

    def test_each_rater_has_an_order_of_their_own(self):
        items = [f"i{number}" for number in range(40)]
        orders = {tuple(item_order(seed, rater, items, {})) for seed in (0, 1) for rater in ("ann", "bob")}
        assert len(orders) == 4 and all(sorted(order) == sorted(items) for order in orders)

    def test_sides_are_on_each_place_equally_often(self):
        first = sum(side_order(3, "ann", f"i{number}", "ab") == "ab" for number in range(2000))
        assert 900 < first < 1100  # 4.5 standard deviations
        counts = [sum(side_order(3, "ann", f"i{number}", "abc")[place] == "a" for number in range(3000)) for place in range(3)]
        assert all(880 < count < 1120 for count in counts)

    def test_what_is_shown_again_comes_a_good_while_later(self):
        items = [f"i{number}" for number in range(50)]
        repeats = {f"{item}#2": item for item in items[:10]}
        gaps = []
        for rater in ("ann", "bob", "cy"):
            order = item_order(0, rater, [*items, *repeats], repeats)
            gaps += [order.index(name) - order.index(item) for name, item in repeats.items()]
        assert min(gaps) > 0 and sum(gap > 5 for gap in gaps) >= 0.8 * len(gaps)


class TestHidden:
    def test_no_word_of_prompts_models_gold_or_repeats_reaches_a_rater_before_the_end(self, home):
        rows = [{"id": str(number), "q": f"question {number}", "answer": f"SECRET-ANSWER-{number}"} for number in range(4)]
        prompts = {"PROMPT-ONE": "{{ q }}", "PROMPT-TWO": lab.Prompt("{{ q }}", system="TELLTALE")}
        models = [lab.model("echo", label="MODEL-X"), lab.model("echo", label="MODEL-Y", temperature=1)]
        grid = lab.grid(prompts, rows, models=models, scorers=["exact"], expected="answer", track=False, progress=False)
        queue = lab.rate(grid, LEVELS, repeats=2, gold={("1", "PROMPT-ONE/MODEL-X"): 3}, name="q")
        pair = lab.rate(grid, "Better?", mode="pairwise", a="PROMPT-ONE/MODEL-X", b="PROMPT-TWO/MODEL-Y", name="p")
        seen = []
        for each in (queue, pair):
            seen += [each.items("ann"), each.progress("ann"), str(each)]
            while (task := each.next("ann")) is not None:
                seen.append(task)
                each.submit(item=task["item"], rater="ann", value=3 if each is queue else "tie")
            seen += [each.records(), each.ratings().to_csv(), each.items("ann")]
        words = ("PROMPT", "MODEL", "TELLTALE", "SECRET-ANSWER", "gold")
        text = json.dumps(seen, default=str)
        assert [word for word in words if word in text] == []
        assert "question 1" in text
        assert queue.consistency()[["gold_n", "gold", "same_n", "same"]].to_numpy().tolist() == [[1, 1.0, 2, 1.0]]
        queue.close()
        assert {line["sides"]["a"] for line in queue.records()} == {f"{p}/{m}" for p in prompts for m in ("MODEL-X", "MODEL-Y")}

    def test_what_is_shown_twice_comes_only_after_the_first_time(self, make):
        queue = make(5, repeats=2)
        names = []
        while (task := queue.next("ann")) is not None:
            assert task["total"] in (5, 6, 7)
            names.append(task["item"])
            queue.submit(item=task["item"], rater="ann", value=2)
        again = [name for name in names if name.endswith("#2")]
        assert len(names) == 7 and len(again) == 2
        assert all(names.index(name) > names.index(name.removesuffix("#2")) for name in again)
        assert queue.next("bob") is None  # one rater an item was wanted, and what is shown twice is for the one who had it first

    def test_a_pair_is_told_in_terms_of_its_own_sides_wherever_they_stood(self, make):
        queue = make(12, mode="pairwise", sides=("plain", "steps"))
        orders = set()
        while (task := queue.next("ann")) is not None:
            orders.add(task["side_order"])
            texts = [side["text"] for side in task["sides"]]
            assert [side["side"] for side in task["sides"]] == ["A", "B"]
            place = next(number for number, text in enumerate(texts) if text.endswith("steps"))
            queue.submit(item=task["item"], rater="ann", value=task["side_order"][place])
        assert orders == {"ab", "ba"} and set(queue.ratings().value) == {"b"}

    def test_gold_is_for_everybody_and_everything_else_for_as_many_as_were_wanted(self, home):
        rows = [{"id": str(number), "reply": f"reply {number}", "known": 3 if number == 1 else None} for number in range(3)]
        queue = lab.rate(rows, LEVELS, text="reply", gold="known", name="q")
        for item, _ in queue.items("ann"):
            queue.submit(item=item, rater="ann", value=2)
        assert {item for item, state in queue.items("bob") if state == "open"} == {"1"}
        queue.submit(item="1", rater="bob", value=3)
        assert queue.consistency().set_index("rater")[["gold_n", "gold"]].to_dict("index") == {
            "ann": {"gold_n": 1, "gold": 0.0},
            "bob": {"gold_n": 1, "gold": 1.0},
        }

    def test_suggestions_are_shown_only_where_they_were_asked_for(self, home):
        rows = [{"id": "1", "reply": "one", "judge": 2}]
        assert lab.rate(rows, LEVELS, text="reply", name="without").task("ann", "1")["suggestion"] is None
        assert lab.rate(rows, LEVELS, text="reply", suggestions="judge", name="with").task("ann", "1")["suggestion"] == 2
