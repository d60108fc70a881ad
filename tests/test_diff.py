"""Variants side by side through the public door: what changed, whether it lasts, where it is, and what a view may ask."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

import llmops_lab as lab
from llmops_lab import settings
from llmops_lab.api.views._view import recorded_as
from llmops_lab.errors import BadInput, DoesNotPair, UnknownName
from llmops_lab.store.ledger import open_ledger

ROWS = [{"id": f"r{number:03}", "question": f"What is {number}?", "queue": "even" if number % 2 == 0 else "odd"} for number in range(60)]

pytestmark = pytest.mark.usefixtures("home")


def right(reply, row):
    return "wrong" not in reply.text


def ask(**changes):
    """``plain`` is right everywhere, ``steps`` wrong in the odd rows (``echo`` says the prompt again)."""
    prompts = {"plain": "{{ question }}", "steps": "{% if queue == 'odd' %}wrong {% endif %}{{ question }}"}
    wanted = {"prompts": prompts, "rows": ROWS, "models": ["echo"], "scorers": [right]}
    return lab.grid(**{**wanted, "track": False, **changes})


def call(held, method, **params):
    """An answer as it goes over the wire: JSON without NaN."""
    return json.loads(json.dumps(held.view().call(method, params, user="me").data, allow_nan=False))


class TestWhatChanged:
    def test_counts_agree_with_the_verdict_and_regressions_come_first(self):
        grid = ask()
        held = lab.diff(grid, a="plain", b="steps")
        assert held.verdict.outcome == "worse" and (held.verdict.wins, held.verdict.losses, held.verdict.ties) == (0, 30, 30)
        assert held.verdict == lab.compare(grid, a="plain", b="steps", scorer="right")
        frame = held.frame()
        assert list(frame["row_id"]) == [row["id"] for row in ROWS]
        assert frame["outcome"].value_counts().to_dict() == {"equal": 30, "worse": 30}
        assert frame.loc[1, ["score_plain", "score_steps", "change"]].tolist() == [1.0, 0.0, -1.0]
        assert frame.loc[1, "text_plain"] == "What is 1?" and frame.loc[1, "text_steps"] == "wrong What is 1?"
        lines = call(held, "rows", count=60)["rows"]
        assert [line["outcome"] for line in lines] == ["worse"] * 30 + ["equal"] * 30
        assert call(held, "open")["pairs"][0]["counts"]["worse"] == 30

    def test_less_is_better_turns_gains_round(self):
        grid = ask(scorers=[lab.scorer(lambda reply, row: float(len(reply.text)), label="words", higher_is_better=False)])
        held = lab.diff(grid, a="plain", b="steps")
        assert held.verdict.outcome == "worse" and set(held.frame()["outcome"]) == {"worse", "equal"}
        assert held.frame()["change"].max() > 0

    def test_several_variants_share_the_risk_and_each_is_held_against_the_first(self):
        prompts = {"plain": "{{ question }}", "wrong": "wrong {{ question }}", "same": "{{ question }}"}
        held = lab.diff(ask(prompts=prompts))
        assert held.variants == ["plain", "wrong", "same"]
        assert [each.outcome for each in held.verdicts] == ["worse", "inconclusive"] and "Holm" in held.verdicts[0].test
        with pytest.raises(BadInput, match="verdicts"):
            _ = held.verdict
        frame = held.frame()
        assert set(frame["outcome_wrong"]) == {"worse"} and set(frame["outcome_same"]) == {"equal"}
        few = lab.diff(ask(prompts=prompts), variants=["same", "wrong"])
        assert few.variants == ["same", "wrong"] and few.verdict.outcome == "worse"

    def test_two_models_and_two_grids(self):
        models = [lab.model("echo", label="one"), lab.model("echo", label="two", temperature=0.5)]
        grid = ask(models=models)
        held = lab.diff(grid, a="one", b="two", by="model")
        assert held.verdict.delta == 0 and "temperature" in held.prompts[0].text
        other = ask(prompts={"other": "wrong {{ question }}"}, name="other")
        plain = ask(prompts={"plain": "{{ question }}"}, name="plain")
        held = lab.diff(plain, other)
        assert held.variants == ["plain", "other"] and held.verdict.losses == 60
        assert lab.diff(plain, plain).variants == ["a", "b"] and lab.diff(plain, plain).verdict.delta == 0

    def test_json_is_compared_by_keys_and_values(self):
        rows = [{"id": "1"}, {"id": "2"}, {"id": "3"}]
        a = '{"a": 1, "b": [1, 2.0]}'
        b = (
            '{% if id == \'1\' %}```json\n{"b": [1, 2],\n "a": 1}\n```{% elif id == \'2\' %}{"a": true, "b": [1, 2.0]}{% else %}'
            + a
            + "{% endif %}"
        )
        held = lab.diff(ask(prompts={"a": a, "b": b}, rows=rows, scorers=None))
        assert held.compared.pairs[0].texts == ["same JSON", "different", "same"]

    def test_prompts_that_differ_in_their_parameters_alone_are_not_the_same(self):
        prompts = {
            "cold": lab.Prompt("{{ question }}", params={"temperature": 0}),
            "hot": lab.Prompt("{{ question }}", params={"temperature": 1}),
        }
        (found,) = lab.diff(ask(prompts=prompts)).prompts
        assert found.changed and "temperature" in found.text

    def test_the_prompts_are_compared_too(self):
        held = lab.diff(ask())
        assert held.prompts[0].changed and "{+" in held.prompts[0].text and "wrong" in call(held, "open")["variants"][1]["text"]


class TestFlips:
    def test_one_replicate_says_that_nobody_knows(self):
        flips = lab.diff(ask()).flips()
        assert len(flips) == 30 and set(flips["flip"]) == {"unknown: one replicate"} and set(flips["outcome"]) == {"worse"}
        assert flips.loc[0, ["a", "b"]].tolist() == ["1 of 1", "0 of 1"]

    def test_replicates_tell_change_from_noise(self):
        seen = {}

        def now_and_then(reply, row):
            # The odd rows of ``steps`` are wrong each time; its row r000 is right in one repeat of three.
            if "wrong" in reply.text:
                return False
            if row["id"] != "r000" or "steps" not in reply.text:
                return True
            seen["r000"] = seen.get("r000", 0) + 1
            return seen["r000"] == 1

        prompts = {"plain": "{{ question }}", "steps": "{% if queue == 'odd' %}wrong{% endif %} steps {{ question }}"}
        held = lab.diff(ask(prompts=prompts, repeats=3, scorers=[now_and_then]))
        flips = held.flips().set_index("row_id")["flip"]
        assert flips["r000"] == "noise" and (flips.drop("r000") == "change").all() and len(flips) == 31
        counts = call(held, "open")["pairs"][0]["counts"]
        assert (counts["flips"], counts["change"], counts["noise"], counts["unknown"]) == (31, 30, 1, 0)
        assert call(held, "rows", filter="noise")["rows"][0]["id"] == "r000"

    def test_numbers_flip_at_the_score_from_which_a_reply_passes(self):
        grid = ask(scorers=[lab.scorer(lambda reply, row: 0.2 if "wrong" in reply.text else 0.7, label="points", higher_is_better=True)])
        with pytest.raises(BadInput, match=r"passes=0\.5"):
            lab.diff(grid).flips()
        assert len(lab.diff(grid, passes=0.5).flips()) == 30 and lab.diff(grid, passes=0.1).flips().empty
        with pytest.raises(BadInput, match="passes"):
            lab.diff(grid, passes="half")


class TestSlices:
    def test_where_it_got_worse_is_found_among_the_columns(self):
        held = lab.diff(ask())
        found = held.slices()
        assert list(found.loc[found["found"] & (found["kind"] == "metadata"), "slice"]) == ["queue: odd"]
        line = found.set_index("slice").loc["queue: odd"]
        assert (line["n"], line["wins"], line["losses"], line["ties"]) == (30, 0, 30, 0) and line["high"] < 0 and line["unlike"]
        told = call(held, "slices")
        assert told["level"] == 0.1 and told["slices"][0]["found"]
        inside = call(held, "rows", slice=next(each["at"] for each in told["slices"] if each["slice"] == "queue: odd"))
        assert inside["total"] == 30

    def test_words_of_the_inputs_and_replies_are_looked_at_and_a_level_is_checked(self):
        rows = [{"id": str(n), "ticket": f"{'please refund' if n < 25 else 'deliver'} order {n}"} for n in range(60)]
        held = lab.diff(ask(rows=rows, prompts={"a": "{{ ticket }}", "b": "{% if 'refund' in ticket %}wrong{% endif %} {{ ticket }}"}))
        found = held.slices()
        names = " | ".join(found.loc[found["found"], "slice"] + " " + found.loc[found["found"], "also"])
        assert "“please” in ticket" in names and "“wrong” in the replies" in names
        with pytest.raises(BadInput, match="fdr"):
            held.slices(fdr=2)

    def test_rows_that_the_ledger_lost_are_said_to_be_lost_and_replies_still_count(self):
        grid = ask()
        ledger = open_ledger(settings.load())
        ledger.write(("DELETE FROM rows WHERE dataset = ?", [(grid.dataset["digest"],)]))
        held = lab.diff(lab.load(grid.grid_id))
        assert "not in this ledger" in call(held, "open")["values_note"]
        assert not (held.slices()["kind"] == "metadata").any() and held.slices()["found"].any()

    def test_a_grid_that_stopped_by_itself_has_a_verdict_and_no_slices(self):
        held = lab.diff(ask(stop="decided", prompts={"plain": "{{ question }}", "bad": "wrong {{ question }}"}))
        assert held.verdict.test == "anytime-valid betting"
        with pytest.raises(BadInput, match="stopped when it was decided"):
            held.slices()


class TestBadInput:
    @pytest.mark.parametrize(
        ("chosen", "error", "words"),
        [
            ({"a": "plain", "b": "stepps"}, UnknownName, "Did you mean steps"),
            ({"a": "plain"}, BadInput, r"b=.*Known: plain, steps"),
            ({"variants": ["plain", "nothing"]}, UnknownName, "Known: plain, steps"),
            ({"variants": "plain"}, BadInput, "a list"),
            ({"variants": ["plain", "plain"]}, BadInput, "with itself"),
            ({"variants": ["plain"]}, BadInput, "nothing to compare"),
            ({"variants": ["plain"], "a": "plain", "b": "steps"}, BadInput, "not both"),
            ({"by": "model"}, BadInput, "nothing to compare echo"),
            ({"by": "row"}, BadInput, "by is"),
            ({"scorer": "rihgt"}, UnknownName, "Did you mean right"),
            ({"model": "ecko"}, UnknownName, "Did you mean echo"),
            ({"alpha": 2}, BadInput, "alpha"),
        ],
    )
    def test_says_what_is_known(self, chosen, error, words):
        with pytest.raises(error, match=words):
            lab.diff(ask(), **chosen)

    def test_rows_that_do_not_pair(self):
        with pytest.raises(DoesNotPair, match="same rows"):
            lab.diff(ask(rows=ROWS[:6], name="few"), ask(rows=ROWS[6:], name="others"))
        with pytest.raises(DoesNotPair, match="same rows"):
            lab.diff(ask(rows=ROWS[:6], name="few", scorers=None), ask(rows=ROWS[6:], name="others", scorers=None))

    def test_a_grid_that_has_not_ended(self):
        grid = ask(rows=[{"question": str(n), "queue": "odd"} for n in range(3000)], wait=False)
        with pytest.raises(BadInput, match="running"):
            lab.diff(grid)
        grid.cancel()
        grid.wait()

    def test_what_is_no_grid(self):
        with pytest.raises(BadInput, match="run id"):
            lab.diff(5)

    def test_a_scorer_that_breaks_leaves_the_texts_to_be_read(self):
        def broken(reply, row):
            raise ValueError("no")

        held = lab.diff(ask(scorers=[broken]))
        assert "no verdict" in call(held, "open")["note"] and held.verdicts == []
        with pytest.raises(BadInput, match="no verdict"):
            _ = held.verdict
        assert call(held, "open")["pairs"][0]["counts"]["missing"] == 60 and set(held.frame()["outcome"]) == {"missing"}
        assert (
            "broken" in call(held, "row", row=0)["variants"][0][0]["score_note"]
            or "no" in call(held, "row", row=0)["variants"][0][0]["score_note"]
        )


class TestTheVerdictShowsItsRows:
    def test_show_prints_the_page_with_this_very_verdict(self, capsys):
        grid = ask()
        verdict = lab.compare(grid, a="plain", b="steps", scorer="right", margin=0.9)
        verdict.show()
        told = capsys.readouterr().out
        assert verdict.sentence in told and "30 worse" in told
        lab.compare_all(grid, baseline="plain", scorer="right")[0].show()
        assert "steps" in capsys.readouterr().out
        copy = pickle.loads(pickle.dumps(verdict))
        assert copy == verdict
        with pytest.raises(BadInput, match=r"lab\.diff"):
            copy.show()

    def test_two_grids_under_the_names_of_the_verdict(self, capsys):
        lab.compare(ask(name="one"), ask(name="two", reuse=False), scorer="right").show()
        assert "b against a" in capsys.readouterr().out


class TestTheView:
    def test_a_page_of_rows_is_filtered_searched_and_bounded(self):
        held = lab.diff(ask())
        page = call(held, "rows", start=5, count=3)
        assert (page["total"], page["start"], len(page["rows"])) == (60, 5, 3)
        assert call(held, "rows", search="WHAT IS 17")["total"] == 1 and call(held, "rows", search="even")["total"] == 30
        assert call(held, "rows", filter="better")["total"] == 0 and call(held, "rows", count=10**9)["total"] == 60
        assert [line["row"] for line in call(held, "rows", sort="plan", count=3)["rows"]] == [0, 1, 2]

    @pytest.mark.parametrize(
        ("method", "params"),
        [("rows", {"filter": "x"}), ("rows", {"start": "1"}), ("rows", {"pair": 7}), ("row", {"row": -1}), ("row", {}), ("nothing", {})],
    )
    def test_nonsense_is_refused(self, method, params):
        with pytest.raises(BadInput):
            lab.diff(ask(rows=ROWS[:4])).view().call(method, params, user="me")

    def test_many_at_once_get_the_same_answers(self):
        held = lab.diff(ask())
        view = held.view()
        asked = [("slices", {}), ("rows", {"search": "wrong"}), ("row", {"row": 3}), ("open", {})] * 6
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda each: view.call(*each, user="me").data, asked))
        assert all(answers[at] == answers[at % 4] for at in range(len(asked)))

    def test_a_row_carries_every_reply_and_missing_ones_are_named(self):
        held = lab.diff(ask(repeats=2))
        row = call(held, "row", row=1)
        assert [len(cells) for cells in row["variants"]] == [2, 2] and ["queue", "odd"] in row["values"]
        assert row["variants"][1][1]["text"] == "wrong What is 1?" and row["variants"][1][1]["replicate"] == 1

    def test_a_file_without_a_kernel_has_the_lists_and_their_rows(self):
        recorded = lab.diff(ask()).view().recorded()
        name = recorded_as("rows", {"pair": 0, "filter": "worse", "start": 0, "count": 200})
        assert len(recorded[name].data["rows"]) == 30 and recorded[recorded_as("row", {"row": 59})].data["id"] == "r059"
        assert recorded["open"].data["rows"] == 60 and len(recorded[recorded_as("slices", {"pair": 0})].data["slices"]) > 0
        assert "rows" in lab.diff(ask(scorers=None)).view().recorded()["open"].data  # no scorer: no slices
        with pytest.raises(BadInput, match="html"):
            lab.diff(ask()).export("rows.csv")

    def test_the_static_twin_is_short_inert_and_says_what_differs_in_words(self):
        rows = [{"id": f"<b>{n}", "question": f"\x1b[31m<script>alert({n})</script>" * 50, "queue": "odd"} for n in range(500)]
        plain, page = lab.diff(ask(rows=rows)).page()
        assert "<script" not in page and "\x1b" not in page + plain and "&lt;script&gt;" in page and "<b>1" not in page
        assert "<ins" in page and "only in the second" in page and "verdict: worse" in page
        assert len(page) < 40_000 and len(plain) < 5_000 and "480 more" in page

    def test_secrets_of_the_rows_are_masked(self, monkeypatch):
        monkeypatch.setenv("SOME_API_KEY", "sk-verysecretindeed123456")
        held = lab.diff(ask(rows=[{"question": "say sk-verysecretindeed123456", "queue": "odd"}]))
        assert "verysecret" not in json.dumps([call(held, "row", row=0), call(held, "rows")]) + str(held)
