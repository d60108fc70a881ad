"""What people said of replies, as MLflow keeps it: assessments (source HUMAN) on traces, a label schema and a review queue.

MLflow's review queue counts an item as done when anybody has acted on it, so overlap, blinding and agreement stay with the ledger; the
queue here shows in MLflow's own pages what was reviewed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.track import connect, legal, runs, traces

QUEUE_KEY = "llmops_lab.queue"
ITEM_KEY = "llmops_lab.item"
ROW_KEY = "llmops_lab.row"
_NAME_LIMIT, _INSTRUCTION_LIMIT, _OPTION_LIMIT, _MOST_OPTIONS, _MOST_USERS = 250, 1000, 64, 10, 10
_A_BATCH = 100
_RESERVED = {"feedback", "default"}


def log_ratings(payload: Mapping[str, Any], settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> str:
    """Write what was said of one item, on the trace of each of its sides; returns the trace ids. The same payload again changes nothing.

    ``payload``: ``queue``, ``item``, ``name``, ``experiment`` and ``sides``, each with a ``trace`` (as ``traces.log_trace`` takes it;
    written when it is missing), ``assessments`` (row, rater, at, value or None for a skip or an undo, rationale, facts) and an
    ``expectation``
    (row, by, at, value, reason) or None. A rater's newer row overrides the older one.
    """
    from mlflow.tracing.client import TracingClient

    record = Redactor().tree(dict(payload))
    connect.client(settings)
    store = TracingClient(connect.tracking_uri(settings)).store
    found = []
    for side in record["sides"]:
        ident = traces.trace_id(str(side["trace"]["id"]))
        info = _trace(store, ident)
        if info is None:
            traces.log_trace(side["trace"], settings, on_progress=on_progress)
            info = store.get_trace_info(ident)
        on_progress()
        for said in side["assessments"]:
            _put(store, ident, info.assessments, record, said)
            on_progress()
        if side["expectation"] is not None:
            _expect(store, ident, info.assessments, record, side["expectation"])
            on_progress()
        found.append(ident)
    return ",".join(found)


def _trace(store: Any, ident: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return store.get_trace_info(ident)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def assessment_name(queue: str) -> str:
    """What the assessments of a queue are called: its name, where MLflow has not reserved it."""
    name = legal.cut(queue, _NAME_LIMIT - 10)
    return f"{name} rating" if name.strip().lower() in _RESERVED else name


def _put(store: Any, ident: str, there: Sequence[Any], record: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    from mlflow.entities import AssessmentSource, Feedback
    from mlflow.entities.assessment import AssessmentError

    ours = [each for each in there if _of(each, record) and each.feedback is not None]
    mine = [each for each in ours if each.source.source_id == said["rater"]]
    if any(each.metadata.get(ROW_KEY) == str(said["row"]) for each in mine):
        return
    older = next((each.assessment_id for each in mine if each.valid is not False), None)
    if said["value"] is None and older is None:
        return  # skipped or taken back before MLflow heard of it
    back = None if said["value"] is not None else AssessmentError("TAKEN_BACK", "the rater took this rating back, or skipped the item")
    store.create_assessment(
        Feedback(
            name=assessment_name(record["name"]),
            value=said["value"],
            error=back,
            source=AssessmentSource(source_type="HUMAN", source_id=said["rater"]),
            trace_id=ident,
            metadata=_metadata(record, said["row"], said["facts"]),
            create_time_ms=round(said["at"] * 1000),
            rationale=said["rationale"],
            overrides=older,
        )
    )


def _expect(store: Any, ident: str, there: Sequence[Any], record: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    from mlflow.entities import AssessmentSource, Expectation

    mine = [each for each in there if _of(each, record) and each.expectation is not None]
    if any(each.metadata.get(ROW_KEY) == str(expected["row"]) for each in mine):
        return
    facts = {"reason": expected["reason"]} if expected["reason"] else {}
    made = Expectation(
        name=f"expected {assessment_name(record['name'])}",
        value=expected["value"],
        source=AssessmentSource(source_type="HUMAN", source_id=expected["by"]),
        trace_id=ident,
        metadata=_metadata(record, expected["row"], facts),
        create_time_ms=round(expected["at"] * 1000),
    )
    if mine:
        store.update_assessment(
            trace_id=ident, assessment_id=mine[-1].assessment_id, expectation=made.expectation, metadata=made.metadata
        )  # fmt: skip
    else:
        store.create_assessment(made)


def _of(there: Any, record: Mapping[str, Any]) -> bool:
    # One reply may stand in several items, in each against another one.
    known = there.metadata or {}
    return (known.get(QUEUE_KEY), known.get(ITEM_KEY)) == (record["queue"], record["item"])


def _metadata(record: Mapping[str, Any], row: int, facts: Mapping[str, Any]) -> dict[str, str]:
    ours = {QUEUE_KEY: record["queue"], ITEM_KEY: record["item"], ROW_KEY: str(row)}
    return ours | {f"llmops_lab.{name}": str(fact) for name, fact in facts.items()}


def log_review(payload: Mapping[str, Any], settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> str:
    """Write a label schema and a review queue with the reviewed traces, and return the queue's id; the same again changes nothing.

    ``payload``: ``name``, ``experiment``, ``mode``, ``question``, ``guide``, ``levels``, ``sides`` (how many), ``users`` and ``items``
    (trace, status, by). A rubric that no input of MLflow's can hold gets no schema.
    """
    from mlflow.tracing.client import TracingClient

    record = Redactor().tree(dict(payload))
    experiment = runs.experiment_id(connect.client(settings), record.get("experiment") or settings.experiment)
    client = TracingClient(connect.tracking_uri(settings))
    schema = _schema(client, experiment, record)
    on_progress()
    queue = _queue(client, experiment, record, schema)
    on_progress()
    held = dict(_held(client, queue, on_progress))
    new = [item["trace"] for item in record["items"] if item["trace"] not in held and _trace(client.store, item["trace"]) is not None]
    for start in range(0, len(new), _A_BATCH):
        client._add_items_to_review_queue(queue, item_ids=new[start : start + _A_BATCH])
        on_progress()
    held |= dict.fromkeys(new, ("pending", None))
    for item in record["items"]:
        by = item["by"].strip().lower() if item["status"] != "pending" else None
        if item["trace"] in held and held[item["trace"]] != (item["status"], by):
            client._set_review_queue_item_status(queue, item_id=item["trace"], status=item["status"], completed_by=by)
            on_progress()
    return queue


def _held(client: Any, queue: str, on_progress: Callable[[], object]) -> Iterator[tuple[str, tuple[str, str | None]]]:
    token = None
    while True:
        found = client._list_review_queue_items(queue, max_results=_A_BATCH, page_token=token)
        on_progress()
        yield from ((item.item_id, (str(item.status), item.completed_by)) for item in found)
        token = found.token
        if not token:
            return


def _missing(error: Exception) -> bool:
    return getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"


def _schema(client: Any, experiment: str, record: Mapping[str, Any]) -> str | None:
    from mlflow.exceptions import MlflowException

    name = assessment_name(record["name"])
    try:
        return str(client._get_label_schema_by_name(experiment, name).schema_id)
    except MlflowException as error:
        if not _missing(error):
            raise
    shown = _input(record)
    if shown is None:
        return None
    anchors = [f"{level}: {anchor}" for level, anchor in record["levels"]]
    instruction = legal.cut("\n".join([record["question"], *([record["guide"]] if record["guide"] else []), *anchors]), _INSTRUCTION_LIMIT)
    options = {"name": name, "type": "feedback", "input": shown, "instruction": instruction, "enable_comment": True}
    return str(client._create_label_schema(experiment, **options).schema_id)


def _input(record: Mapping[str, Any]) -> Any:
    from mlflow.genai.label_schemas import InputCategorical, InputNumeric, InputPassFail

    levels = [level for level, _ in record["levels"]]
    if record["mode"] == "pairwise":
        return InputCategorical(options=["better", "worse", "tie", "both bad"])
    if record["mode"] == "ranking":
        return InputNumeric(min_value=1.0, max_value=float(record["sides"]))
    if all(isinstance(level, bool) for level in levels):
        labels = {level: legal.cut(anchor, _OPTION_LIMIT) or str(level) for level, anchor in record["levels"]}
        return InputPassFail(labels[True], labels[False]) if labels[True] != labels[False] else None
    if all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels):
        return InputNumeric(min_value=float(min(levels)), max_value=float(max(levels)))
    fits = len(levels) <= _MOST_OPTIONS and all(isinstance(level, str) and len(level) <= _OPTION_LIMIT for level in levels)
    return InputCategorical(options=levels) if fits else None


def _queue(client: Any, experiment: str, record: Mapping[str, Any], schema: str | None) -> str:
    from mlflow.exceptions import MlflowException

    name = assessment_name(record["name"])
    users = list(dict.fromkeys(user.strip().lower() for user in record["users"]))[:_MOST_USERS]
    try:
        found = client._get_review_queue_by_name(experiment, name)
    except MlflowException as error:
        if not _missing(error):
            raise
        schemas = [schema] if schema else []
        return str(client._create_review_queue(experiment, name=name, queue_type="custom", users=users, schema_ids=schemas).queue_id)
    wanted = list(dict.fromkeys([*found.users, *users]))[:_MOST_USERS]
    if wanted != list(found.users):
        client._update_review_queue(found.queue_id, users=wanted)
    return str(found.queue_id)
