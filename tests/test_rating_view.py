"""What a rater's panel may ask: it sees no names, says nothing for others, and what it was answered with a row is on disk."""

import json
import threading
import uuid

import pytest

import llmops_lab as lab
from llmops_lab.api.views.rating import Rating
from llmops_lab.errors import BadInput, Conflict, UnknownName

PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ROWS = [
    {"id": f"r{number}", "prompt": f"question {number}", "plain-v7": f"short {number}", "steps-v9": f"long {number}", "page": "a source"}
    for number in range(6)
]
LEVELS = {1: "rude", 2: "plain", 3: "kind"}

pytestmark = pytest.mark.usefixtures("home")


def pairs(**given):
    return lab.rate(ROWS, "Which is kinder?", mode="pairwise", a="plain-v7", b="steps-v9", source="page", name="tone", raters=2, **given)


def call(view, method, user="ann", **params):
    return view.call(method, params, user=user).data


def test_opening_gives_all_that_the_panel_shows():
    guide = lab.Rubric("How kind?", levels=LEVELS, guide="Judge *tone*.", examples=["neutral", ("Dear you", 3)])
    view = Rating(lab.rate([{"id": "one", "text": "hello"}, {"id": "two", "text": PICTURE}], guide, text="text", name="q"))
    opened = call(view, "open")
    assert opened["levels"] == [{"value": level, "text": text} for level, text in LEVELS.items()]
    assert opened["examples"] == [{"text": "neutral", "value": None}, {"text": "Dear you", "value": 3}]
    assert (opened["mode"], opened["rater"], opened["question"], opened["guide"]) == ("single", "ann", "How kind?", "Judge *tone*.")
    assert opened["again"] == "lab.queue('q').show()" and opened["owner"] is False
    assert dict(opened["items"]) == {"one": "open", "two": "open"} and opened["progress"]["total"] == 2
    assert call(view, "task", item="two")["task"]["sides"] == [{"side": "A", "text": "", "images": [PICTURE]}]
    json.dumps(opened)


def test_a_task_never_says_who_made_a_side():
    view = Rating(pairs())
    told = [call(view, "open", user) for user in ("ann", "bob")] + [call(view, "task", item=row["id"]) for row in ROWS]
    assert not any(name in json.dumps(told) for name in ("plain-v7", "steps-v9"))
    orders = {each["task"]["side_order"] for each in told}
    assert orders == {"ab", "ba"}, "the sides stand now one way, now the other"
    task = told[0]["task"]
    shown = {"a": "short", "b": "long"}
    assert [side["text"].split()[0] for side in task["sides"]] == [shown[letter] for letter in task["side_order"]]
    assert task["sources"] == [{"name": "page", "text": "a source"}]


def test_an_answer_names_a_row_that_is_in_the_ledger():
    queue = pairs()
    view, ident = Rating(queue), uuid.uuid4().hex
    item = call(view, "open")["task"]["item"]
    given = {"item": item, "id": ident, "expects": 0, "value": "a", "comment": "warm", "seconds": 2.5, "flag": True, "correction": "Hello!"}
    saved = call(view, "submit", **given)
    (record,) = queue.records()
    assert {name: record[name] for name in ("row", "value", "comment", "seconds", "flag", "correction")} == {
        "row": saved["row"], "value": "a", "comment": "warm", "seconds": 2.5, "flag": True, "correction": "Hello!",
    }  # fmt: skip
    assert record["created"] == saved["saved_at"]
    assert call(view, "submit", **given) == saved and len(queue.records()) == 1, "the same id is the same rating, and the same time"
    mine = call(view, "task", item=item)["task"]["mine"]
    assert (mine["row"], mine["value"], mine["saved_at"]) == (saved["row"], "a", saved["saved_at"])
    assert call(view, "next", after=item)["progress"]["done"] == 1


def test_another_window_is_not_overwritten():
    queue = pairs()
    view = Rating(queue)
    first = call(view, "submit", item="r1", id=uuid.uuid4().hex, expects=0, value="a")
    with pytest.raises(Conflict):
        call(view, "submit", item="r1", id=uuid.uuid4().hex, expects=0, value="b")
    with pytest.raises(Conflict):
        call(view, "undo", item="r1", id=uuid.uuid4().hex, expects=99)
    assert call(view, "task", item="r1")["task"]["mine"]["value"] == "a"
    second = call(view, "submit", item="r1", id=uuid.uuid4().hex, expects=first["row"], value="b")
    call(view, "undo", item="r1", id=uuid.uuid4().hex, expects=second["row"])
    assert call(view, "task", item="r1")["task"]["mine"] is None
    assert [(record["kind"], record["value"]) for record in queue.records()] == [("rating", "a"), ("rating", "b"), ("undo", None)]
    call(view, "submit", item="r1", id=uuid.uuid4().hex, expects=0, value="tie")


def test_nobody_writes_as_somebody_else():
    queue = pairs()
    view = Rating(queue)
    call(view, "submit", "ann", item="r1", id=uuid.uuid4().hex, expects=0, value="a", comment="ann's secret", rater="bob")
    assert [record["rater"] for record in queue.records()] == ["ann"]
    told = json.dumps([call(view, "task", "bob", item="r1"), call(view, "open", "bob"), call(view, "items", "bob")])
    assert "secret" not in told and call(view, "task", "bob", item="r1")["task"]["mine"] is None
    owner = Rating(queue, rater="carl")
    call(owner, "submit", "ann", item="r1", id=uuid.uuid4().hex, expects=0, value="b")
    assert {record["rater"] for record in queue.records()} == {"ann", "carl"}, "in a notebook it is the owner, whoever asks"


def test_a_rater_is_one_however_the_name_is_sent():
    queue = pairs()
    saved = call(Rating(queue), "submit", " ann ", item="r1", id=uuid.uuid4().hex, expects=0, value="a")
    assert call(Rating(queue), "open", "ann ")["rater"] == "ann" and [record["rater"] for record in queue.records()] == ["ann"]
    assert call(Rating(queue), "task", "ann", item="r1")["task"]["mine"]["row"] == saved["row"]
    with pytest.raises(BadInput):
        call(Rating(queue), "open", "")


def test_only_the_owner_closes_and_then_nothing_is_taken():
    queue = pairs()
    with pytest.raises(BadInput, match="only the owner"):
        call(Rating(queue), "close")
    assert not queue.closed
    assert call(Rating(queue, rater="root"), "close") == {"closed": True}
    with pytest.raises(BadInput, match="closed"):
        call(Rating(queue), "submit", item="r1", id=uuid.uuid4().hex, expects=0, value="a")
    opened = call(Rating(queue), "open")
    assert opened["task"] is None and opened["progress"]["closed"]


def test_wrong_calls_are_told():
    view = Rating(pairs())
    with pytest.raises(UnknownName, match="submit"):
        call(view, "submitt")
    for params in ({"item": "r9", "value": "a"}, {"value": "a"}, {"item": ["r1"], "value": "a"}):
        with pytest.raises(UnknownName):
            call(view, "submit", **params)
    for value in ("c", None, 1, ["a"], {"a": 1}):
        with pytest.raises(BadInput):
            call(view, "submit", item="r1", value=value)
    with pytest.raises(BadInput):
        call(view, "submit", item="r1", value="a", expects="0")
    assert call(view, "help")["keys"].startswith("A or B")


def test_calls_of_many_threads_each_get_their_row():
    queue = pairs()
    view, rows, lock = Rating(queue), [], threading.Lock()

    def rate(user):
        for row in ROWS:
            saved = call(view, "submit", user, item=row["id"], id=uuid.uuid4().hex, expects=0, value="tie")
            with lock:
                rows.append((saved["row"], user, row["id"]))

    people = [threading.Thread(target=rate, args=(f"rater-{number}",)) for number in range(8)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert sorted(rows) == sorted((record["row"], record["rater"], record["item"]) for record in queue.records())
    assert len(rows) == 8 * len(ROWS)


def test_the_page_says_how_to_get_the_panel():
    plain, page = Rating(pairs()).page()
    assert "lab.queue('tone').show()" in plain and "<code>lab.queue(&#x27;tone&#x27;).show()</code>" in page
    assert "<script" not in page and len(page) < 4000


def test_what_a_browser_could_not_save_is_taken_in_from_its_file(tmp_path):
    queue, arrived = pairs(), uuid.uuid4().hex
    row = queue.submit(item="r0", rater="ann", value="a", id=arrived, expects=0)
    line = {
        "queue": "tone",
        "rater": "ann",
        "comment": None,
        "seconds": 1.0,
        "flag": False,
        "skip": None,
        "correction": None,
        "undo": False,
    }
    lines = [
        {**line, "id": arrived, "item": "r0", "value": "a", "expects": 0},
        {**line, "id": uuid.uuid4().hex, "item": "r1", "value": "b", "expects": 0, "comment": "kept\u2028and\x85all"},
        {**line, "id": uuid.uuid4().hex, "item": "r1", "value": "tie", "expects": None},
        {**line, "id": uuid.uuid4().hex, "item": "r2", "value": None, "skip": "broken", "expects": 0},
        {**line, "id": uuid.uuid4().hex, "item": "r1", "value": None, "undo": True, "expects": None},
    ]
    path = tmp_path / "not-saved.jsonl"
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in lines), "utf-8")  # as a browser writes it
    rows = queue.import_ratings(path)
    assert rows[0] == row and len(set(rows)) == 5 and queue.import_ratings(path) == rows, "taken in twice it is there once"
    assert [record["kind"] for record in queue.records()] == ["rating", "rating", "rating", "skip", "undo"]
    path.write_text(
        "\n".join(json.dumps({**line, "id": uuid.uuid4().hex, "item": item, "value": "a", "expects": 0}) for item in ("r0", "r4"))
    )
    with pytest.raises(BadInput, match="1 of 2 ratings are saved, 1 refused: line 1: item r0 was rated"):
        queue.import_ratings(path)
    assert [record["item"] for record in queue.records()][-1] == "r4"
    for wrong in ('{"queue": "another"}', "no json", "[1]"):
        path.write_text(wrong)
        with pytest.raises(BadInput):
            queue.import_ratings(path)
