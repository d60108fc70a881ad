"""Rows that somebody picked go into an MLflow dataset, through the outbox: MLflow away loses none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.flows.deliver import deliver
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.store.ledger import Ledger

_LONGEST_NAME = 200


def add_to_dataset(ledger: Ledger, settings: Settings, name: str, records: Sequence[Mapping[str, Any]]) -> str | None:
    """Add records to the dataset of this name, which is made where it is missing; returns its id, or None while MLflow is away.

    A record holds ``inputs`` (names with values), ``tags`` with the ``row_id`` among them, by which it can be forgotten, and optionally
    ``expectations`` and ``source``. Inputs that the dataset has already get the new expectations and tags. Raises BadInput.
    """
    name = name.strip()
    if not name or len(name) > _LONGEST_NAME or "'" in name or not name.isprintable():
        raise BadInput(f"a dataset's name is a text of at most {_LONGEST_NAME} characters without quotes, not {name!r:.80}.")
    if not records:
        raise BadInput("there is nothing to add: no row was picked.")
    for record in records:
        if not record["inputs"]:
            raise BadInput(f"row {record['tags']['row_id']} has no inputs, so it would be an empty line of the dataset.")
    payload = {"dataset": name, "experiment": settings.experiment, "records": [dict(record) for record in records]}
    number = ledger.outbox_add("dataset", Redactor().tree(payload))
    return deliver(ledger, settings).get(number)
