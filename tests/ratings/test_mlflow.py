"""What people said, as MLflow has it: read back through MLflow's own client."""

import pytest

import llmops_lab as lab
from llmops_lab import settings
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track import connect
from tests.ratings.conftest import LEVELS
from tests.servers import ModelServer

ROWS = [{"id": str(number), "q": f"question {number}", "answer": f"question {number}"} for number in range(3)]


@pytest.fixture
def grid(mlflow_store):
    prompts = {"plain": "{{ q }}", "polite": "Please: {{ q }}"}
    return lab.grid(prompts, ROWS, models=["echo"], scorers=["exact"], expected="answer", track=False, progress=False, name="g")


def client():
    return connect.client(settings.load())


def experiment():
    return client().get_experiment_by_name("llmops_lab").experiment_id


def traces():
    """Reply -> its trace, for all that MLflow has."""
    found = client().search_traces([experiment()], max_results=100)
    assert len({trace.info.trace_id for trace in found}) == len(found)
    return {trace.info.response_preview: trace for trace in found}


def said(trace, *, valid=True):
    """(rater, value) of the feedback on a trace."""
    feedback = [each for each in trace.info.assessments if each.feedback is not None and each.valid is valid]
    assert {each.source.source_type for each in feedback} <= {"HUMAN"}
    return sorted((each.source.source_id, each.feedback.value) for each in feedback)


def test_ratings_are_assessments_on_the_replies_and_told_again_nothing_is_doubled(grid):
    queue = lab.rate(grid, LEVELS, variants="plain", raters=["ann", "bob"], name="tone")
    first = queue.submit(item="0", rater="ann", value=1, comment="terse", seconds=4)
    queue.submit(item="0", rater="bob", value=3)
    queue.submit(item="1", rater="ann", skip="not mine")
    queue.submit(item="2", rater="ann", value=2)
    sent = queue.to_mlflow()
    assert (sent.ratings, sent.traces, sent.waiting) == (3, 3, 0)
    queue.to_mlflow()
    found = traces()
    assert (
        said(found["question 0"]) == [("ann", 1), ("bob", 3)]
        and said(found["question 1"]) == []
        and said(found["question 2"]) == [("ann", 2)]
    )
    (ann,) = (each for each in found["question 0"].info.assessments if each.source.source_id == "ann")
    assert (ann.name, ann.rationale, ann.metadata["llmops_lab.row"]) == ("tone", "terse", str(first))
    assert ann.create_time_ms == pytest.approx(queue.ratings().created.loc[first].timestamp() * 1000, abs=1)

    queue.submit(item="0", rater="ann", value=2)
    queue.undo(item="2", rater="ann")
    queue.to_mlflow()
    queue.to_mlflow()
    found = traces()
    assert said(found["question 0"]) == [("ann", 2), ("bob", 3)] and said(found["question 0"], valid=False) == [("ann", 1)]
    assert said(found["question 2"], valid=False) == [("ann", 2)] and said(found["question 2"]) == [("ann", None)]


def test_a_trace_that_is_there_already_is_used_and_keeps_what_it_has(mlflow_store, monkeypatch):
    monkeypatch.setenv("LLMOPS_LAB_TRACE_SAMPLE", "1")
    made = lab.grid("{{ q }}", ROWS, models=["echo"], progress=False, name="g")
    before = {reply: trace.info.trace_id for reply, trace in traces().items()}
    assert len(before) == 3
    queue = lab.rate(made, LEVELS, name="tone")
    queue.submit(item="0", rater="ann", value=1)
    queue.to_mlflow()
    after = traces()
    assert {reply: trace.info.trace_id for reply, trace in after.items()} == before
    assert said(after["question 0"]) == [("ann", 1)]
    assert after["question 0"].info.trace_metadata["mlflow.sourceRun"] == made.run_id


def test_pairs_and_rankings_say_of_each_reply_how_it_stood(grid):
    pair = lab.rate(grid, "Better?", mode="pairwise", a="plain", b="polite", name="pair")
    for item, value in (("0", "b"), ("1", "tie"), ("2", "bad")):
        pair.submit(item=item, rater="ann", value=value)
    pair.to_mlflow()
    found = traces()
    stood = {reply: said(trace)[0][1] for reply, trace in found.items()}
    assert stood == {
        "question 0": "worse",
        "Please: question 0": "better",
        "question 1": "tie",
        "Please: question 1": "tie",
        "question 2": "both bad",
        "Please: question 2": "both bad",
    }
    rows = [{"id": "1", "prompt": "ask", "x": "one", "y": "two", "z": "three"}]
    ranking = lab.rate(rows, "Order", mode="ranking", variants=["x", "y", "z"], name="ranking")
    ranking.submit(item="1", rater="ann", value="b=c>a")
    ranking.to_mlflow()
    found = traces()
    assert {reply: said(found[reply]) for reply in ("one", "two", "three")} == {
        "one": [("ann", 3)],
        "two": [("ann", 1)],
        "three": [("ann", 1)],
    }


def test_a_schema_and_a_queue_of_mlflow_show_what_was_reviewed(grid):
    from mlflow.tracing.client import TracingClient

    queue = lab.rate(grid, LEVELS, variants="plain", raters=["Ann", "Bob"], name="tone")
    queue.submit(item="0", rater="Ann", value=1)
    queue.submit(item="1", rater="Bob", skip="unclear")
    queue.to_mlflow()
    queue.to_mlflow()
    store = TracingClient(connect.tracking_uri(settings.load()))
    schema = store._get_label_schema_by_name(experiment(), "tone")
    assert (schema.input.min_value, schema.input.max_value, schema.enable_comment) == (1.0, 3.0, True)
    assert "How good is it?" in schema.instruction and "3: good" in schema.instruction
    (found,) = [each for each in store._list_review_queues(experiment()) if each.name == "tone"]
    assert found.users == ["ann", "bob"] and found.schema_ids == [schema.schema_id]
    items = {item.item_id: (str(item.status), item.completed_by) for item in store._list_review_queue_items(found.queue_id)}
    by_reply = {reply: items.get(trace.info.trace_id) for reply, trace in traces().items()}
    assert by_reply == {"question 0": ("complete", "ann"), "question 1": ("declined", "bob")}  # MLflow writes users in small letters


@pytest.mark.parametrize(
    ("rubric", "kind"),
    [
        (lab.Rubric("Right?", levels={True: "correct", False: "wrong"}), "InputPassFail"),
        (lab.Rubric("Tone?", levels={"rude": "insults", "kind": "thanks"}), "InputCategorical"),
        (lab.Rubric("Tone?", levels={"rude" * 30: "insults", "kind": "thanks"}), None),
    ],
)
def test_each_kind_of_level_has_the_input_that_fits_it_or_none(mlflow_store, rubric, kind):
    from mlflow.exceptions import MlflowException
    from mlflow.tracing.client import TracingClient

    queue = lab.rate([{"id": "1", "reply": "yes"}], rubric, text="reply", name="feedback")
    value = next(iter(rubric.levels))
    queue.submit(item="1", rater="ann", value=value)
    assert queue.to_mlflow().waiting == 0
    store = TracingClient(connect.tracking_uri(settings.load()))
    if kind is None:
        with pytest.raises(MlflowException, match=r"not found|No label schema|does not exist"):
            store._get_label_schema_by_name(experiment(), "feedback rating")
    else:  # MLflow keeps the name "feedback" for itself
        assert type(store._get_label_schema_by_name(experiment(), "feedback rating").input).__name__ == kind
    assert said(traces()["yes"]) == [("ann", value)]


def test_what_was_settled_and_corrected_is_expected_from_then_on(grid):
    queue = lab.rate(grid, LEVELS, variants="plain", raters=["ann", "bob"], name="tone")
    queue.submit(item="0", rater="ann", value=1, correction="It is 7.")
    queue.submit(item="0", rater="bob", value=3)
    queue.adjudicate(item="0", value=2, reason="half right")
    assert queue.to_mlflow().waiting == 0
    (trace,) = (trace for reply, trace in traces().items() if reply == "question 0")
    (expected,) = (each for each in trace.info.assessments if each.expectation is not None)
    assert (expected.name, expected.expectation.value, expected.metadata["llmops_lab.reason"]) == ("expected tone", 2, "half right")
    records = dataset("ratings-tone")
    assert {"expected_response": "It is 7."} in [record["expectations"] for record in records]
    settled = next(record for record in records if record["expectations"] == {"tone": 2})
    assert settled["inputs"]["q"] == "question 0" and settled["inputs"]["reply"] == "question 0" and "answer" not in settled["inputs"]
    assert settled["tags"]["row_id"] == "0"

    queue.adjudicate(item="0", value=3)
    queue.to_mlflow()
    (trace,) = (trace for reply, trace in traces().items() if reply == "question 0")
    assert [each.expectation.value for each in trace.info.assessments if each.expectation is not None] == [3]
    assert [record["expectations"] for record in dataset("ratings-tone") if "tone" in record["expectations"]] == [{"tone": 3}]


def dataset(name):
    (found,) = client().search_datasets(filter_string=f"name = '{name}'")
    return found.to_df().to_dict("records")


def test_with_mlflow_away_nothing_is_lost(grid, monkeypatch):
    queue = lab.rate(grid, LEVELS, variants="plain", name="tone")
    queue.submit(item="0", rater="ann", value=1, correction="better")
    with ModelServer() as server:
        gone = server.url.removesuffix("/v1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gone)
    sent = queue.to_mlflow()
    assert sent.waiting == 3 and "3 entries wait" in repr(sent)
    assert queue.to_mlflow().waiting == 3 and len(open_ledger(settings.load()).outbox_pending()) == 3  # called again, nothing piles up
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert queue.to_mlflow().waiting == 0
    assert said(traces()["question 0"]) == [("ann", 1)]
    assert open_ledger(settings.load()).outbox_pending() == []
