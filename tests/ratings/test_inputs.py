"""What can be put before raters, and what is refused before anything is stored."""

import base64

import numpy
import pandas
import pytest

import llmops_lab as lab
from llmops_lab import settings
from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.ratings import pictures
from llmops_lab.store import reviews
from llmops_lab.store.ledger import open_ledger
from tests.ratings.conftest import LEVELS
from tests.servers import ModelServer

ROWS = [{"id": "7", "ask": "How?", "reply": "So.", "other": "Thus.", "source": "The handbook says: so."}]
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 20
URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


@pytest.fixture(autouse=True)
def project(home):
    return home


def rate(rows=None, **changes):
    return lab.rate(ROWS if rows is None else rows, **{"rubric": LEVELS, "text": "reply", **changes})


class TestRows:
    @pytest.mark.parametrize("kind", ["list", "frame", "csv", "jsonl", "parquet"])
    def test_a_list_a_frame_and_files_are_the_same(self, kind, tmp_path):
        frame = pandas.DataFrame(ROWS)
        frame.to_csv(tmp_path / "rows.csv", index=False)
        frame.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
        frame.to_parquet(tmp_path / "rows.parquet")
        given = {"list": ROWS, "frame": frame}.get(kind, str(tmp_path / f"rows.{kind}"))
        task = rate(given, prompt="ask", source="source").task("ann", "7")
        assert task["prompt"] == "How?" and task["sources"] == [{"name": "source", "text": "The handbook says: so."}]
        assert [side["text"] for side in task["sides"]] == ["So."] and task["mine"] is None

    def test_rows_without_the_columns_that_are_needed(self):
        for changes, error in [
            ({"text": "repli"}, "Did you mean reply"),
            ({"text": None}, "text='...'"),
            ({"mode": "pairwise"}, "a='...', b='...'"),
            ({"mode": "pairwise", "a": "reply", "b": "rest"}, "column called 'rest'"),
            ({"mode": "pairwise", "a": "reply", "b": "reply"}, "differ"),
            ({"mode": "ranking", "variants": ["reply"]}, "two replies or more"),
            ({"prompt": "question"}, "column called 'question'"),
            ({"source": ["source", "handbook"]}, "column called 'handbook'"),
            ({"gold": "known"}, "column called 'known'"),
            ({"gold": {"9": 1}}, "row in gold called '9'"),
            ({"gold": {"7": 9}}, "known value of row 7 does not fit"),
            ({"suggestions": {"7": "x"}}, "suggested value of row 7 does not fit"),
            ({"gold": 3}, "values by row id"),
        ]:
            with pytest.raises(BadInput, match=error):
                rate(**changes)
        assert reviews.names(open_ledger(settings.load())) == []

    def test_rows_whose_reply_is_missing_are_left_out_and_counted(self):
        rows = [*ROWS, {"id": "8", "reply": None}, {"id": "9", "reply": ""}]
        assert "2 rows were left out" in str(rate(rows))
        with pytest.raises(BadInput, match="nothing to rate"):
            rate(rows[1:])

    def test_ids_that_would_name_two_items_alike(self):
        rows = [{"id": "7", "x": "one", "y": "two"}, {"id": "7~1", "x": "three", "y": None}]
        with pytest.raises(BadInput, match="two items would be called '7~1'"):
            lab.rate(rows, LEVELS, variants=["x", "y"])

    def test_secrets_are_masked_before_anything_is_stored(self, project, monkeypatch):
        monkeypatch.setenv("SHOP_API_KEY", "tulip-tulip-4711")
        queue = rate([{"id": "1", "reply": "the key is tulip-tulip-4711"}])
        queue.submit(item="1", rater="ann", value=1, comment="it says tulip-tulip-4711", correction="no tulip-tulip-4711")
        queue.submit(item="1", rater="ann", skip="tulip-tulip-4711")
        assert all(b"tulip-tulip" not in path.read_bytes() for path in project.rglob("*") if path.is_file())


class TestAsked:
    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"mode": "stars"}, "mode is 'single', 'pairwise' or 'ranking'"),
            ({"rubric": 3}, "lab.Rubric"),
            ({"rubric": "How good?"}, "need levels"),
            ({"raters": 0}, "raters must be"),
            ({"raters": "ann"}, "list of names"),
            ({"raters": ["ann", "ann"]}, "differ"),
            ({"raters": []}, "list of names"),
            ({"raters": ["ann", "b\nob"]}, "200 characters"),
            ({"seed": 1.5}, "seed must be"),
            ({"limit": 0}, "limit must be"),
            ({"repeats": 5}, "cannot be shown twice"),
            ({"name": " "}, "queue's name"),
        ],
    )
    def test_what_makes_no_queue(self, changes, error):
        with pytest.raises(BadInput, match=error):
            rate(**changes)

    @pytest.mark.parametrize(
        ("levels", "error"),
        [
            ({1: "one"}, "from 2 to 20"),
            (["bad", "good"], "what they mean"),
            ({1: "bad", "1": "good"}, "read the same"),
            ({None: "bad", 2: "good"}, "a level is"),
            ({float("nan"): "bad", 2: "good"}, "a level is"),
            ({1: None, 2: "good"}, "says what it means"),
        ],
    )
    def test_a_rubric_whose_levels_nobody_could_use(self, levels, error):
        with pytest.raises(BadInput, match=error):
            lab.Rubric("Good?", levels)

    def test_a_rubric_has_a_question_and_examples_that_can_be_read(self):
        with pytest.raises(BadInput, match="begins with its question"):
            lab.Rubric("")
        with pytest.raises(BadInput, match="an example is"):
            lab.Rubric("Good?", examples=[3])
        held = lab.Rubric("Good?", {1: "no", 2: "yes"}, guide="Look twice.", examples=["plain text", ("So.", 2)])
        assert rate(rubric=held, name="g").rubric == held


class TestSaid:
    @pytest.mark.parametrize("value", [2, 2.0, "2", numpy.int64(2)])
    def test_a_level_may_come_from_a_file_or_a_frame(self, value):
        queue = rate()
        queue.submit(item="7", rater="ann", value=value)
        assert queue.ratings().value.tolist() == [2]

    def test_a_rating_is_a_value_or_a_skip_and_its_parts_are_what_they_should_be(self):
        queue = rate()
        for said, error in [
            ({}, "there is no value"),
            ({"value": 2, "skip": "unclear"}, "not both"),
            ({"value": 2, "seconds": -1}, "seconds are"),
            ({"value": 2, "seconds": float("inf")}, "seconds are"),
            ({"value": 2, "seconds": 86_401}, "seconds are"),
            ({"value": 2, "comment": 3}, "comment is a text"),
            ({"value": 2, "correction": ["x"]}, "correction is a text"),
            ({"value": 2, "flag": "yes"}, "flag is true or false"),
            ({"value": 2, "id": "short"}, "id of a rating"),
            ({"value": 2, "expects": "3"}, "expects is"),
            ({"value": 2, "rater": ""}, "a rater is a name"),
            ({"value": 2, "rater": "ann\n"}, "a rater is a name"),
        ]:
            with pytest.raises(BadInput, match=error):
                queue.submit(**{"item": "7", "rater": "ann", **said})
        assert queue.ratings().empty

    @pytest.mark.parametrize("value", ["a>b", "a>b>b", "a>b>d", "", "a=b=c>", 3, None])
    def test_a_ranking_names_each_side_once(self, value):
        queue = lab.rate([{"id": "1", "x": "1", "y": "2", "z": "3"}], "Order", mode="ranking", variants=["x", "y", "z"])
        with pytest.raises(BadInput, match=r"ranking|no value"):
            queue.submit(item="1", rater="ann", value=value)
        queue.submit(item="1", rater="ann", value=" c = a > b ")
        assert queue.ratings().value.tolist() == ["a=c>b"]

    def test_without_a_name_the_rater_is_the_reviewer_of_the_settings(self, monkeypatch):
        monkeypatch.setenv("LLMOPS_LAB_REVIEWER", "Dr. Ann")
        queue = rate()
        queue.submit(item=queue.next()["item"], value=2)
        assert queue.ratings().rater.tolist() == ["Dr. Ann"] and queue.progress()["done"] == 1

    def test_all_that_was_said_is_in_the_records(self):
        queue = rate()
        queue.submit(item="7", rater="ann", value=2, comment="hm", flag=True, seconds=3, correction="Better.", id="client-id-1")
        (line,) = queue.records()
        assert {name: line[name] for name in ("value", "comment", "flag", "seconds", "correction", "id", "kind", "row_id")} == {
            "value": 2,
            "comment": "hm",
            "flag": True,
            "seconds": 3.0,
            "correction": "Better.",
            "id": "client-id-1",
            "kind": "rating",
            "row_id": "7",
        }
        assert queue.progress("ann") == {
            "queue": queue.name,
            "mode": "single",
            "rater": "ann",
            "total": 1,
            "done": 1,
            "skipped": 0,
            "left": 0,
            "flagged": 1,
            "seconds": 3.0,
            "closed": False,
        }


class TestPictures:
    def test_a_picture_comes_from_a_data_uri_a_file_or_a_part_of_a_message(self, tmp_path):
        (tmp_path / "chart.png").write_bytes(PNG)
        parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": URI}}]
        for value, text in [(URI, ""), ("chart.png", ""), (parts, "see")]:
            (side,) = rate([{"id": "1", "reply": value}]).task("ann", "1")["sides"]
            assert (side["text"], side["images"]) == (text, [URI])

    def test_what_only_reads_like_a_picture_is_text(self):
        for value in ("missing.png", "see chart.png for more"):
            (side,) = rate([{"id": "1", "reply": value}]).task("ann", "1")["sides"]
            assert (side["text"], side["images"]) == (value, [])

    def test_a_picture_that_is_elsewhere_is_not_fetched(self):
        part = [{"type": "image_url", "image_url": {"url": "https://example.invalid/x.png"}}]
        (side,) = rate([{"id": "1", "reply": part}]).task("ann", "1")["sides"]
        assert side["images"] == [] and "https://example.invalid/x.png" in side["text"]

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            ("data:image/svg+xml;base64,PHN2Zz4=", "png, jpeg, gif or webp"),
            ("data:image/png,raw", "png, jpeg, gif or webp"),
            ("data:image/png;base64,????", "cannot be read"),
            ("data:image/png;base64,PHNjcmlwdD4=", "no png picture"),
        ],
    )
    def test_a_picture_that_is_none_is_refused_with_its_row(self, value, error):
        with pytest.raises(BadInput, match=rf"row 1, column 'reply'.*{error}"):
            rate([{"id": "1", "reply": value}])

    def test_a_picture_has_a_largest_size(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pictures, "MOST_BYTES", 40)
        large = PNG + b"\x00" * 60
        (tmp_path / "large.png").write_bytes(large)
        for value in ("large.png", f"data:image/png;base64,{base64.b64encode(large).decode()}"):
            with pytest.raises(BadInput, match=r"row 1.*Make it smaller"):
                rate([{"id": "1", "reply": value}])


class TestGrids:
    def grid(self, **more):
        rows = [{"id": str(number), "q": f"question {number}", "topic": "x"} for number in range(3)]
        return lab.grid({"one": "{{ q }}", "two": "Please: {{ q }}"}, rows, models=["echo"], track=False, progress=False, name="g", **more)

    def test_a_grid_is_named_held_or_read_back_and_shows_the_same(self):
        grid = self.grid()
        shown = [lab.rate(each, LEVELS, source="topic", name="same").task("ann", "1~1") for each in (grid, "g", lab.load("g"))]
        assert shown[0] == shown[1] == shown[2] and shown[0]["sources"] == [{"name": "topic", "text": "x"}]

    def test_a_pair_needs_two_names_that_are_there(self):
        grid = self.grid()
        assert {len(lab.rate(grid, "Better?", mode="pairwise").task("ann", str(row))["sides"]) for row in range(3)} == {2}
        for changes, error in [({"a": "one"}, "two sides"), ({"a": "one", "b": "too"}, "Did you mean two"), ({"text": "q"}, "plain rows")]:
            with pytest.raises(BadInput, match=error):
                lab.rate(grid, "Better?", mode="pairwise", **changes)
        three = lab.grid({name: name + "{{ q }}" for name in "xyz"}, [{"q": "1"}], models=["echo"], track=False, progress=False)
        with pytest.raises(BadInput, match=r"say which two are compared.*x, y, z"):
            lab.rate(three, "Better?", mode="pairwise")

    def test_a_row_of_which_a_side_failed_is_left_out_of_a_pair_and_rated_alone(self):
        rows = [{"id": "1", "q": "x"}, {"id": "2", "q": "y"}]
        with ModelServer() as server:
            server.script("400", text="B y")
            grid = lab.grid({"a": "A {{ q }}", "b": "B {{ q }}"}, rows, models=[f"openai:m@{server.url}"], track=False, progress=False)
        assert [line["status"] for line in grid.records()].count("failed") == 1
        pair = lab.rate(grid, "Better?", mode="pairwise", name="pair")
        assert pair.items("ann") == [("1", "open")] and "1 row was left out" in str(pair)
        assert sorted(item for item, _ in lab.rate(grid, LEVELS, name="single").items("ann")) == ["1~1", "1~2", "2"]

    def test_cells_that_were_picked_of_a_table_are_cells_of_their_grid(self):
        grid = self.grid()
        frame = grid.frame()
        queue = lab.rate(frame[(frame["prompt"] == "one") & (frame.row_id != "2")], LEVELS, source="topic", name="picked")
        assert sorted(item for item, _ in queue.items("ann")) == ["0", "1"]
        task = queue.task("ann", "1")
        assert (task["prompt"], task["sources"]) == ("question 1", [{"name": "topic", "text": "x"}])
        elsewhere = frame.assign(key="0" * 64)  # of a grid that this ledger does not know
        queue = lab.rate(elsewhere, LEVELS, name="elsewhere")
        assert all(queue.task("ann", item)["prompt"] == "" for item, _ in queue.items("ann"))

    def test_a_value_for_a_row_with_several_replies_must_say_which(self):
        with pytest.raises(BadInput, match=r"row 1 has several replies.*\('1', 'NAME'\)"):
            lab.rate(self.grid(), LEVELS, gold={"1": 3})
        with pytest.raises(UnknownName, match="row in gold"):
            lab.rate(self.grid(), LEVELS, gold={("9", "one"): 3})
